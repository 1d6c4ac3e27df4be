"""Look at one delivery."""

from __future__ import annotations

from wfe.api.v1 import webhook_pb2
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, parse_uuid

from wfe_approvals.webhook_mapping import delivery_of
from wfe_approvals.webhooks.outbound import Outbound


async def get_delivery(outbound: Outbound, caller: Caller, request: pb.GetDeliveryRequest) -> webhook_pb2.Delivery:
    """One delivery with its attempts.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound: The caller's owner has no such webhook, or it no such delivery.
    """
    faults = Violations()
    with faults.collect():
        webhook_id = parse_uuid(request.id, "id")
    with faults.collect():
        delivery_id = parse_uuid(request.delivery_id, "delivery_id")
    faults.raise_if_any()
    return delivery_of(await outbound.deliveries.get(caller.owner_id, webhook_id, delivery_id))
