"""What people do at a gate before it is decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from wfe.api.v1 import approval_service_pb2 as pb
from wfe.api.v1 import workflow_pb2
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, from_timestamp, parse_uuid, plain_text
from wfe_store.gate_policy import Decider
from wfe_store.gates import Decided, Gates

from wfe_approvals.approval_mapping import decider_of
from wfe_approvals.bus import Bus
from wfe_approvals.inputs import COMMENT_CHARACTERS, NAME_CHARACTERS
from wfe_approvals.usecases.view_gate import view_decided

LONGEST = timedelta(days=366)


async def claim_gate(gates: Gates, bus: Bus, caller: Caller, request: pb.ClaimApprovalRequest) -> workflow_pb2.Approval:
    """Say that the caller is at it. See `GateActs.claim`."""
    gate_id = parse_uuid(request.approval_id, "approval_id")
    me = decider_of(caller)
    return await _told(bus, me, await gates.claim(caller.owner_id, gate_id, decider=me, fresh=_fresh(caller)))


async def release_gate(
    gates: Gates, bus: Bus, caller: Caller, request: pb.ReleaseApprovalRequest
) -> workflow_pb2.Approval:
    """Give a claim back. See `GateActs.release`."""
    gate_id = parse_uuid(request.approval_id, "approval_id")
    me = decider_of(caller)
    return await _told(bus, me, await gates.release(caller.owner_id, gate_id, decider=me))


async def withdraw_vote(
    gates: Gates, bus: Bus, caller: Caller, request: pb.WithdrawVoteRequest
) -> workflow_pb2.Approval:
    """Take a vote back. See `GateActs.withdraw_vote`."""
    gate_id, _ = _checked(request)
    me = decider_of(caller)
    return await _told(
        bus, me, await gates.withdraw_vote(caller.owner_id, gate_id, decider=me, reason=request.reason)
    )  # fmt: skip


async def remind_of_gate(
    gates: Gates, bus: Bus, caller: Caller, request: pb.RemindApprovalRequest
) -> workflow_pb2.Approval:
    """Tell whoever listens that it waits. See `GateActs.remind`."""
    gate_id, _ = _checked(request)
    me = decider_of(caller)
    return await _told(bus, me, await gates.remind(caller.owner_id, gate_id, decider=me, reason=request.reason))


async def delegate_gate(
    gates: Gates, bus: Bus, caller: Caller, request: pb.DelegateApprovalRequest
) -> workflow_pb2.Approval:
    """Let somebody else decide it. See `GateActs.delegate`."""
    gate_id, faults = _checked(request, raises=False)
    with faults.collect():
        plain_text(request.to, "to", longest=NAME_CHARACTERS, shortest=1)
    faults.raise_if_any()
    me = decider_of(caller)
    done = await gates.delegate(
        caller.owner_id, gate_id, decider=me, to=request.to, reason=request.reason, fresh=_fresh(caller)
    )
    return await _told(bus, me, done)


async def extend_gate(
    gates: Gates, bus: Bus, caller: Caller, request: pb.ExtendApprovalRequest
) -> workflow_pb2.Approval:
    """Move its deadline. See `GateActs.extend`."""
    gate_id, faults = _checked(request, raises=False, shortest=1)
    until = None
    with faults.collect():
        until = from_timestamp(request, "until")
        if until is None:
            faults.add("until", "is required: the new deadline")
        elif not datetime.now(UTC) < until <= datetime.now(UTC) + LONGEST:
            faults.add("until", "must be within the next year")
    faults.raise_if_any()
    assert until is not None
    me = decider_of(caller)
    return await _told(
        bus, me, await gates.extend(caller.owner_id, gate_id, decider=me, until=until, reason=request.reason)
    )  # fmt: skip


def _checked(
    request: pb.WithdrawVoteRequest | pb.RemindApprovalRequest | pb.DelegateApprovalRequest | pb.ExtendApprovalRequest,
    *,
    raises: bool = True,
    shortest: int = 0,
) -> tuple[UUID, Violations]:
    faults = Violations()
    gate_id = UUID(int=0)
    with faults.collect():
        gate_id = parse_uuid(request.approval_id, "approval_id")
    with faults.collect():
        plain_text(request.reason, "reason", longest=COMMENT_CHARACTERS, shortest=shortest, line_breaks=True)
    if raises:
        faults.raise_if_any()
    return gate_id, faults


def _fresh(caller: Caller) -> bool:
    """Whether the caller's groups are the store's, and so can be read anew; a token brings its own."""
    return caller.key_id is not None


async def _told(bus: Bus, me: Decider, decided: Decided) -> workflow_pb2.Approval:
    if decided.decision is not None:
        await bus.tell([decided.decision])
    return view_decided(decided, me)
