"""Approve, reject or send back a gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from wfe.api.v1 import approval_service_pb2 as pb
from wfe.api.v1 import workflow_pb2
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, choice, parse_uuid, plain_text, value_to_plain
from wfe_store.gates import Ballot, Gate, Gates

from wfe_approvals.approval_mapping import decider_of
from wfe_approvals.bus import Bus
from wfe_approvals.edits import check_form, editor, parse_edits
from wfe_approvals.inputs import COMMENT_CHARACTERS, DECISIONS, NAME_CHARACTERS, WORD_CHARACTERS
from wfe_approvals.usecases.view_gate import view_decided

Contract = pb.ApproveWorkflowRequest | pb.RejectWorkflowRequest


async def decide_gate(
    gates: Gates, bus: Bus, caller: Caller, request: Contract, *, outcome: str
) -> workflow_pb2.Approval:
    """Approve or reject a gate of a run, and tell the schedulers once it is committed. Does not wait for the run.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound, PermissionDenied, StateConflict: See `Gates.decide`.
    """
    faults = Violations()
    with faults.collect():
        run_id = parse_uuid(request.id, "id")
    with faults.collect():
        gate_id = parse_uuid(request.approval_id, "approval_id")
    check_said(faults, request.comment, request.expected_digest)
    faults.raise_if_any()
    ballot = Ballot(
        vote=outcome,
        comment=request.comment,
        expected_digest=request.expected_digest,
        check=form_check(None) if outcome == "approve" else None,
    )
    return await cast(gates, bus, caller, gate_id, ballot, run_id=run_id)


async def decide_approval(
    gates: Gates, bus: Bus, caller: Caller, request: pb.DecideApprovalRequest
) -> workflow_pb2.Approval:
    """Say everything there is to say to a gate.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound, PermissionDenied, StateConflict: See `Gates.decide`.
    """
    faults = Violations()
    edits: list[dict[str, Any]] = []
    form: Any = None
    with faults.collect():
        gate_id = parse_uuid(request.approval_id, "approval_id")
    with faults.collect():
        choice(request.decision, "decision", DECISIONS)
    check_said(faults, request.comment, request.expected_digest)
    for field in ("outcome", "reason_code"):
        with faults.collect():
            plain_text(getattr(request, field), field, longest=WORD_CHARACTERS)
    with faults.collect():
        plain_text(request.on_behalf_of, "on_behalf_of", longest=NAME_CHARACTERS)
    with faults.collect():
        form = value_to_plain(request.form, "form") if request.HasField("form") else None
    with faults.collect():
        edits = parse_edits(request.edits)
    if request.decision in ("reject", "revise"):
        for field, given in (("form", form is not None), ("edits", bool(edits))):
            if given:
                faults.add(field, "belongs to an approval")
    faults.raise_if_any()
    ballot = Ballot(
        vote=request.decision,
        outcome=request.outcome,
        comment=request.comment,
        reason_code=request.reason_code,
        expected_digest=request.expected_digest,
        form=None if form is None else msgspec.json.encode(form).decode(),
        check=form_check(form) if request.decision == "approve" else None,
        edit=editor(edits) if request.decision == "approve" else None,
        behalf_of=request.on_behalf_of,
    )
    return await cast(gates, bus, caller, gate_id, ballot)


async def bypass_gate(
    gates: Gates, bus: Bus, caller: Caller, request: pb.BypassApprovalRequest
) -> workflow_pb2.Approval:
    """Approve a gate alone, whatever its policy asks for.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound, PermissionDenied, StateConflict: See `Gates.decide`.
    """
    faults = Violations()
    with faults.collect():
        gate_id = parse_uuid(request.approval_id, "approval_id")
    with faults.collect():
        plain_text(request.reason, "reason", longest=COMMENT_CHARACTERS, shortest=1, line_breaks=True)
    with faults.collect():
        plain_text(request.expected_digest, "expected_digest", longest=128)
    faults.raise_if_any()
    ballot = Ballot(
        vote="approve", comment=request.reason, expected_digest=request.expected_digest, via="bypass"
    )  # fmt: skip
    return await cast(gates, bus, caller, gate_id, ballot)


def check_said(faults: Violations, comment: str, digest: str) -> None:
    """Check what every decision may carry."""
    with faults.collect():
        plain_text(comment, "comment", longest=COMMENT_CHARACTERS, line_breaks=True)
    with faults.collect():
        plain_text(digest, "expected_digest", longest=128)


def form_check(values: Any) -> Callable[[Gate], None]:
    """What checks the form of an approval, once its gate is known."""
    return lambda gate: check_form(gate, values)


async def cast(
    gates: Gates, bus: Bus, caller: Caller, gate_id: UUID, ballot: Ballot, *, run_id: UUID | None = None
) -> workflow_pb2.Approval:
    """Cast a caller's vote and tell of it."""
    decider = decider_of(caller)
    decided = await gates.decide(
        caller.owner_id, run_id, gate_id, decider=decider, ballot=ballot, fresh=caller.key_id is not None
    )
    if decided.decision is not None:
        await bus.tell([decided.decision])
    return view_decided(decided, decider)
