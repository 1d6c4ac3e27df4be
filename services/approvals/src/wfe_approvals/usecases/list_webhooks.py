"""The owner's webhooks."""

from __future__ import annotations

from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import page

from wfe_approvals.usecases.get_webhook import shown
from wfe_approvals.webhooks.outbound import Outbound


async def list_webhooks(outbound: Outbound, caller: Caller, request: pb.ListWebhooksRequest) -> pb.ListWebhooksResponse:
    """A page of the owner's webhooks without secrets, oldest first.

    Raises:
        InvalidInput: Limit or offset is wrong.
    """
    limit, offset = page(request.limit, request.offset)
    found = await outbound.webhooks.list(caller.owner_id, limit=limit, offset=offset)
    return pb.ListWebhooksResponse(
        webhooks=await shown(outbound, found.items), total=found.total, limit=limit, offset=offset
    )
