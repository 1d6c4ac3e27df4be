"""Look at one webhook."""

from __future__ import annotations

from collections.abc import Sequence

from wfe.api.v1 import webhook_pb2
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import parse_uuid
from wfe_store.webhooks import Webhook

from wfe_approvals.webhook_mapping import webhook_of
from wfe_approvals.webhooks.outbound import Outbound


async def get_webhook(outbound: Outbound, caller: Caller, request: pb.GetWebhookRequest) -> webhook_pb2.Webhook:
    """One webhook, without its secret.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: The caller's owner has no such webhook.
    """
    webhook = await outbound.webhooks.get(caller.owner_id, parse_uuid(request.id, "id"))
    (message,) = await shown(outbound, [webhook])
    return message


async def shown(outbound: Outbound, webhooks: Sequence[Webhook]) -> list[webhook_pb2.Webhook]:
    """Webhooks as people see them."""
    secrets = await outbound.webhooks.secrets([webhook.id for webhook in webhooks])
    return [webhook_of(webhook, secrets.get(webhook.id, ())) for webhook in webhooks]
