"""Remove a webhook."""

from __future__ import annotations

from wfe.api.v1 import webhook_pb2
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import parse_uuid

from wfe_approvals.usecases.get_webhook import shown
from wfe_approvals.webhooks.outbound import Outbound


async def delete_webhook(outbound: Outbound, caller: Caller, request: pb.DeleteWebhookRequest) -> webhook_pb2.Webhook:
    """Remove a webhook with its deliveries; gives it as it was.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: The caller's owner has no such webhook.
    """
    webhook_id = parse_uuid(request.id, "id")
    (message,) = await shown(outbound, [await outbound.webhooks.get(caller.owner_id, webhook_id)])
    await outbound.webhooks.delete(caller.owner_id, webhook_id)
    return message
