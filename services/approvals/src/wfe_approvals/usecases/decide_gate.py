"""Approve or reject a gate."""

from __future__ import annotations

from wfe.api.v1 import approval_service_pb2 as pb
from wfe.api.v1 import workflow_pb2
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, parse_uuid, plain_text
from wfe_store.gates import Gates

from wfe_approvals.bus import Bus
from wfe_approvals.inputs import COMMENT_CHARACTERS
from wfe_approvals.mapping import approval_of, decider_of


async def decide_gate(
    gates: Gates,
    bus: Bus,
    caller: Caller,
    request: pb.ApproveWorkflowRequest | pb.RejectWorkflowRequest,
    *,
    outcome: str,
) -> workflow_pb2.Approval:
    """Decide a gate, and tell the schedulers once it is committed. Does not wait for the run.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound, PermissionDenied, StateConflict: See `Gates.decide`.
    """
    faults = Violations()
    with faults.collect():
        run_id = parse_uuid(request.id, "id")
    with faults.collect():
        gate_id = parse_uuid(request.approval_id, "approval_id")
    with faults.collect():
        plain_text(request.comment, "comment", longest=COMMENT_CHARACTERS, line_breaks=True)
    with faults.collect():
        plain_text(request.expected_digest, "expected_digest", longest=128)
    faults.raise_if_any()
    decider = decider_of(caller)
    decided = await gates.decide(
        caller.owner_id,
        run_id,
        gate_id,
        decider=decider,
        outcome=outcome,
        comment=request.comment,
        expected_digest=request.expected_digest,
    )
    if decided.decision is not None:
        await bus.tell([decided.decision])
    return approval_of(decided.gate, decider)
