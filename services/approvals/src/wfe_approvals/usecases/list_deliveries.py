"""Deliveries of a webhook."""

from __future__ import annotations

from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, choice, page, parse_uuid
from wfe_store.deliveries import STATUSES

from wfe_approvals.webhook_mapping import delivery_of
from wfe_approvals.webhooks.outbound import Outbound


async def list_deliveries(
    outbound: Outbound, caller: Caller, request: pb.ListDeliveriesRequest
) -> pb.ListDeliveriesResponse:
    """A page of a webhook's deliveries, newest first.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound: The caller's owner has no such webhook.
    """
    faults = Violations()
    status = None
    with faults.collect():
        webhook_id = parse_uuid(request.id, "id")
    with faults.collect():
        status = choice(request.status, "status", STATUSES) if request.status else None
    with faults.collect():
        limit, offset = page(request.limit, request.offset)
    faults.raise_if_any()
    await outbound.webhooks.get(caller.owner_id, webhook_id)
    found = await outbound.deliveries.list(caller.owner_id, webhook_id, status=status, limit=limit, offset=offset)
    return pb.ListDeliveriesResponse(
        deliveries=[delivery_of(one) for one in found.items], total=found.total, limit=limit, offset=offset
    )
