"""Look at one gate."""

from __future__ import annotations

from wfe.api.v1 import approval_service_pb2 as pb
from wfe.api.v1 import workflow_pb2
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import parse_uuid
from wfe_store.gates import Gates

from wfe_approvals.approval_mapping import decider_of
from wfe_approvals.usecases.view_gate import view_gate


async def get_gate(gates: Gates, caller: Caller, request: pb.GetApprovalRequest) -> workflow_pb2.Approval:
    """One gate with its payload and votes, and whether the caller may decide it.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: The caller's owner has no such gate.
    """
    gate_id = parse_uuid(request.approval_id, "approval_id")
    fresh = caller.key_id is not None
    return await view_gate(
        gates, caller.owner_id, await gates.facts(caller.owner_id, gate_id, decider_of(caller), fresh=fresh)
    )
