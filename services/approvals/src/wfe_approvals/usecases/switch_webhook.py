"""Enable and disable a webhook."""

from __future__ import annotations

from wfe.api.v1 import webhook_pb2
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import parse_uuid

from wfe_approvals.usecases.create_webhook import until_active
from wfe_approvals.usecases.get_webhook import shown
from wfe_approvals.webhooks.outbound import Outbound


async def enable_webhook(outbound: Outbound, caller: Caller, request: pb.EnableWebhookRequest) -> webhook_pb2.Webhook:
    """Tell a webhook again, and answer once events are sure to be told. Safe to repeat.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: The caller's owner has no such webhook.
    """
    webhook = await outbound.webhooks.enable(caller.owner_id, parse_uuid(request.id, "id"))
    await until_active(webhook)
    (message,) = await shown(outbound, [webhook])
    return message


async def disable_webhook(outbound: Outbound, caller: Caller, request: pb.DisableWebhookRequest) -> webhook_pb2.Webhook:
    """Tell a webhook nothing any more. Safe to repeat.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: The caller's owner has no such webhook.
    """
    webhook = await outbound.webhooks.disable(caller.owner_id, parse_uuid(request.id, "id"))
    (message,) = await shown(outbound, [webhook])
    return message
