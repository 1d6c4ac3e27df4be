"""From the store's values to the public messages."""

from __future__ import annotations

import json

from wfe.api.v1 import identity_service_pb2 as identity_pb
from wfe.api.v1 import workflow_pb2
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import timestamp, to_value
from wfe_store.gate_policy import Decider
from wfe_store.gates import Gate
from wfe_store.identity import Group, Principal
from wfe_store.keys import Key

#: Python refuses to parse integers of more digits than this (4,300 by default); such a one is shown as text.
_DIGITS = 1000


def decider_of(caller: Caller) -> Decider:
    """The caller as one who decides gates."""
    return Decider(
        principal_id=caller.principal_id,
        name=caller.principal,
        kind=caller.kind,
        roles=caller.roles,
        groups=caller.groups,
    )


def approval_of(gate: Gate, decider: Decider) -> workflow_pb2.Approval:
    """A gate as that decider sees it."""
    refusal = gate.refusal(decider)
    return workflow_pb2.Approval(
        id=str(gate.id),
        workflow_id=str(gate.run_id),
        step=gate.path,
        iteration=gate.iteration,
        status=gate.status,
        title=gate.title,
        body=gate.body,
        payload=None if gate.payload is None else to_value(json.loads(gate.payload, parse_int=_integer)),
        approvers=workflow_pb2.Approvers(users=gate.policy.users, groups=gate.policy.groups, roles=gate.policy.roles),
        starter_excluded=gate.policy.exclude_starter,
        created_at=timestamp(gate.created_at),
        expires_at=timestamp(gate.expires_at),
        on_expiry=gate.on_expiry,
        decided_at=timestamp(gate.decided_at),
        decided_by=str(gate.decided_by or ""),
        comment=gate.comment,
        replaces=str(gate.replaces or ""),
        can_decide=refusal is None,
        why_not="" if refusal is None else refusal.message,
        digest=gate.digest,
    )


def principal_of(principal: Principal) -> identity_pb.Principal:
    """A principal."""
    return identity_pb.Principal(
        id=str(principal.id),
        name=principal.name,
        kind=principal.kind,
        roles=principal.roles,
        groups=principal.groups,
        subject=principal.subject or "",
        owner=principal.owner,
        created_at=timestamp(principal.created_at),
    )


def group_of(group: Group) -> identity_pb.Group:
    """A group with its members."""
    return identity_pb.Group(
        id=str(group.id),
        name=group.name,
        members=[identity_pb.GroupMember(id=str(member.id), name=member.name) for member in group.members],
    )


def key_of(key: Key, *, secret: str = "") -> identity_pb.Key:
    """A key; with its whole text in the one answer that made it."""
    return identity_pb.Key(
        id=key.id,
        name=key.name,
        principal_id=str(key.principal_id),
        roles=key.roles or (),
        secret=secret,
        created_at=timestamp(key.created_at),
        expires_at=timestamp(key.expires_at),
        revoked_at=timestamp(key.revoked_at),
        last_used_at=timestamp(key.last_used_at),
        replaces=key.replaces or "",
    )


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _DIGITS else digits
