"""Calls that tests about webhooks make."""

from __future__ import annotations

import asyncio

from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_stack.testing_receivers import tell

from .conftest import World


async def subscribe(world: World, url: str, *types: str, as_=("root", "acme"), **more):
    request = pb.CreateWebhookRequest(url=url, event_types=types or ["*"], **more)
    return await world.webhooks.CreateWebhook(request, metadata=await world.as_(*as_))


async def happen(world: World, *kinds: str, owner: str = "acme", **more):
    return await tell(
        world.database, world.owners[owner], world.people[owner, "starter"], kinds or ["run.created"], **more
    )


async def deliveries(world: World, webhook_id: str, status: str = ""):
    request = pb.ListDeliveriesRequest(id=webhook_id, status=status, limit=200)
    return (await world.webhooks.ListDeliveries(request, metadata=await world.as_("root"))).deliveries


async def ended(world: World, webhook_id: str, count: int = 1):
    """Its deliveries, once that many are no longer pending."""

    async def there():
        found = [one for one in await deliveries(world, webhook_id) if one.status != "pending"]
        return found if len(found) >= count else None

    async with asyncio.timeout(20):
        while True:
            if found := await there():
                return found
            await asyncio.sleep(0.02)


async def look(world: World, webhook_id: str):
    return await world.webhooks.GetWebhook(pb.GetWebhookRequest(id=webhook_id), metadata=await world.as_("root"))


async def one(world: World, delivery):
    request = pb.GetDeliveryRequest(id=delivery.webhook_id, delivery_id=delivery.id)
    return await world.webhooks.GetDelivery(request, metadata=await world.as_("root"))
