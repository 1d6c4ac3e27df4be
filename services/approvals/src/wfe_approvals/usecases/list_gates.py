"""The inbox."""

from __future__ import annotations

from wfe.api.v1 import approval_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, choice, page, parse_uuid
from wfe_store.gates import STATUSES, Asked, Gates

from wfe_approvals.mapping import approval_of, decider_of


async def list_gates(gates: Gates, caller: Caller, request: pb.ListApprovalsRequest) -> pb.ListApprovalsResponse:
    """The owner's gates, oldest first, without payloads; the open ones unless a status is named.

    Raises:
        InvalidInput: With everything wrong in the request.
    """
    faults = Violations()
    run_id = None
    with faults.collect():
        status = choice(request.status or "open", "status", (*STATUSES, "all"))
    with faults.collect():
        run_id = parse_uuid(request.workflow_id, "workflow_id") if request.workflow_id else None
    with faults.collect():
        limit, offset = page(request.limit, request.offset)
    faults.raise_if_any()
    decider = decider_of(caller)
    found = await gates.list(
        caller.owner_id,
        Asked(status=None if status == "all" else status, run_id=run_id, mine=decider if request.mine else None),
        limit=limit,
        offset=offset,
    )
    return pb.ListApprovalsResponse(
        approvals=[approval_of(gate, decider) for gate in found.items],
        total=found.total,
        limit=limit,
        offset=offset,
    )
