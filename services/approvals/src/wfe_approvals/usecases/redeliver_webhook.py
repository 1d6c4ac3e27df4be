"""Send deliveries again."""

from __future__ import annotations

from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, choice, from_timestamp, parse_uuid
from wfe_store.webhooks import enabled

from wfe_approvals.webhooks.outbound import Outbound

_STATUSES = {"failed": ("failed",), "delivered": ("delivered",), "all": ("failed", "delivered")}


async def redeliver_webhook(
    outbound: Outbound, caller: Caller, request: pb.RedeliverWebhookRequest
) -> pb.RedeliverWebhookResponse:
    """Send one delivery again, or all since a moment.

    Raises:
        InvalidInput: With everything wrong in the request; also neither or both of the two.
        NotFound: The caller's owner has no such webhook, or it no such delivery.
        StateConflict: WEBHOOK_DISABLED.
    """
    faults = Violations()
    delivery_id = since = None
    status = "failed"
    with faults.collect():
        webhook_id = parse_uuid(request.id, "id")
    with faults.collect():
        delivery_id = parse_uuid(request.delivery_id, "delivery_id") if request.delivery_id else None
    with faults.collect():
        since = from_timestamp(request, "since")
    with faults.collect():
        status = choice(request.status or "failed", "status", _STATUSES)
    if bool(request.delivery_id) == request.HasField("since"):
        faults.add("delivery_id", "give either delivery_id or since")
    faults.raise_if_any()
    enabled(await outbound.webhooks.get(caller.owner_id, webhook_id))
    again = await outbound.deliveries.again(
        caller.owner_id, webhook_id, delivery_id=delivery_id, since=since, statuses=_STATUSES[status]
    )
    await outbound.feed.release({(webhook, run) for webhook, run in again if run is not None})
    outbound.courier.nudged.set()
    return pb.RedeliverWebhookResponse(count=len(again))
