"""Gates as the API shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.struct_pb2 import Value
from wfe.api.v1 import workflow_pb2
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import timestamp, to_value
from wfe_store.gate_policy import Block, Decider
from wfe_store.gate_quorum import Vote, approvals, rejections, taken
from wfe_store.gates import Gate

from wfe_approvals.differences import Difference, plain


def decider_of(caller: Caller) -> Decider:
    """The caller as one who decides gates."""
    return Decider(
        principal_id=caller.principal_id,
        name=caller.principal,
        kind=caller.kind,
        roles=caller.roles,
        groups=caller.groups,
    )


def approval_of(
    gate: Gate,
    decider: Decider,
    votes: Sequence[Vote] = (),
    *,
    diff: Difference | None = None,
    nobody: bool = False,
    show_votes: bool = True,
) -> workflow_pb2.Approval:
    """A gate as that decider sees it.

    Args:
        votes: So far.
        diff: From what the gate it replaces asked for, when that was sent back.
        nobody: Nobody at all could approve it now.
    """
    refusal = gate.refusal(decider)
    policy, form = gate.policy, gate.policy.form
    message = workflow_pb2.Approval(
        id=str(gate.id),
        workflow_id=str(gate.run_id),
        step=gate.path,
        iteration=gate.iteration,
        status=gate.status,
        title=gate.title,
        body=gate.body,
        payload=_value(gate.payload),
        approvers=_approvers(Block(users=policy.users, groups=policy.groups, roles=policy.roles)),
        starter_excluded=policy.exclude_starter,
        created_at=timestamp(gate.created_at),
        expires_at=timestamp(gate.expires_at),
        on_expiry=gate.on_expiry,
        decided_at=timestamp(gate.decided_at),
        decided_by=str(gate.decided_by or ""),
        comment=gate.comment,
        replaces=str(gate.replaces or ""),
        replaced_by=str(gate.replaced_by or ""),
        can_decide=refusal is None,
        why_not="" if refusal is None else refusal.message,
        why_not_reason="" if refusal is None else refusal.reason,
        digest=gate.digest,
        quorum=_quorum(gate, votes),
        risk=gate.risk,
        version=gate.version,
        opens_at=timestamp(gate.opens_at),
        edited_payload=_value(gate.edited),
        patch=_value(gate.patch),
        form_values=_value(gate.form),
        reject_outcomes=policy.reject_outcomes,
        reject_options=policy.options,
        reason_required=policy.reason_required,
        branch=gate.branch,
        reason_code=gate.reason_code,
        decided_via=gate.decided_via,
        round=gate.round,
        max_rounds=policy.max_rounds,
        claimed_by=str(gate.claimed_by or ""),
        claimed_at=timestamp(gate.claimed_at),
        level=gate.level,
        nobody_can=nobody,
        approves=_bound_to(gate),
    )
    if form:
        message.form.CopyFrom(_form(form))
    if show_votes:
        message.votes.extend(_vote(vote, gate) for vote in votes)
    if diff is not None:
        message.diff_left_out = diff.left_out
        if not diff.left_out:
            message.diff.CopyFrom(to_value(diff.patch))
    return message


def _quorum(gate: Gate, votes: Sequence[Vote]) -> workflow_pb2.Quorum:
    blocks = gate.policy.at(gate.level)
    have = taken(blocks, approvals(votes, gate.digest))
    return workflow_pb2.Quorum(
        need=gate.policy.need,
        have=sum(have),
        reject_need=gate.policy.reject_count,
        reject_have=rejections(votes),
        blocks=[
            workflow_pb2.QuorumBlock(who=_approvers(block), need=block.count, have=count)
            for block, count in zip(blocks, have, strict=True)
        ],
    )


def _approvers(block: Block) -> workflow_pb2.Approvers:
    return workflow_pb2.Approvers(users=block.users, groups=block.groups, roles=block.roles)


def _vote(vote: Vote, gate: Gate) -> workflow_pb2.Vote:
    return workflow_pb2.Vote(
        by=str(vote.voter),
        name=vote.voter_name,
        on_behalf_of=vote.behalf_name,
        vote=vote.vote,
        comment=vote.comment,
        reason_code=vote.reason_code,
        at=timestamp(vote.at),
        via=vote.via,
        counts=vote.vote != "approve" or vote.digest == gate.digest,
        groups=sorted(vote.by.groups),
    )


def _form(form: dict[str, Any]) -> workflow_pb2.Form:
    message = workflow_pb2.Form(editable=form.get("editable") or (), limits=form.get("limits") or {})
    for name, field in (("schema", message.schema), ("payload", message.payload_schema)):
        if form.get(name) is not None:
            field.CopyFrom(to_value(form[name]))
    return message


def _bound_to(gate: Gate) -> str:
    path = json.loads(gate.bound)[0] if gate.bound else gate.path
    return "" if path == gate.path else str(path)


def _value(text: str | None) -> Value | None:
    return None if text is None else to_value(plain(text))
