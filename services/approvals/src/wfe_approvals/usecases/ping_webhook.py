"""Test a webhook."""

from __future__ import annotations

import asyncio

from wfe.api.v1 import webhook_pb2
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import parse_uuid
from wfe_store.webhooks import enabled

from wfe_approvals.webhook_mapping import delivery_of
from wfe_approvals.webhooks.outbound import Outbound
from wfe_approvals.webhooks.payload import ping

#: Seconds to wait for the first attempt, which may be another process's.
WAIT_SECONDS = 25.0
LOOK_SECONDS = 0.05


async def ping_webhook(outbound: Outbound, caller: Caller, request: pb.PingWebhookRequest) -> webhook_pb2.Delivery:
    """Send a test message, whatever types and filter the webhook has; gives its delivery after the first attempt.

    The delivery is as any other: it is repeated when it fails. It is answered as pending without attempts when none
    was made in time, because the receiver has more under way than it may.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: The caller's owner has no such webhook.
        StateConflict: WEBHOOK_DISABLED.
    """
    webhook = enabled(await outbound.webhooks.get(caller.owner_id, parse_uuid(request.id, "id")))
    message = ping(webhook)
    await outbound.feed.tell([message], webhook)
    outbound.courier.nudged.set()
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while True:
        delivery = await outbound.deliveries.of_message(caller.owner_id, webhook.id, message.id)
        if delivery.attempts or asyncio.get_running_loop().time() > deadline:
            return delivery_of(delivery)
        await asyncio.sleep(LOOK_SECONDS)
