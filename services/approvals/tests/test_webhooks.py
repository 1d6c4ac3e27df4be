"""Being told: attempts, their ends, and what people do about them; over real gRPC, Postgres and HTTP."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid

import grpc
from aiohttp import web
from standardwebhooks import Webhook as Library
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.testing import refused, until
from wfe_stack.testing_receivers import Receivers
from wfe_store.pool import fetch_all

from .conftest import World
from .webhook_calls import ended, happen, look, one, subscribe


async def test_events_are_told_signed_and_recorded(world: World, receivers: Receivers) -> None:
    made = await subscribe(world, f"{receivers.url}/a", "run.*", name="mine")
    run = await happen(world, "run.created", "step.ready", "run.started")
    calls = await receivers.wait("/a", 2)
    assert sorted(call.event["type"] for call in calls) == ["run.created", "run.started"]
    for call in calls:
        assert Library(made.secret).verify(call.body, call.headers) == call.event
        assert call.headers["content-type"].startswith("application/cloudevents+json")
        assert call.headers["webhook-id"] == call.event["id"]
        assert call.event["data"]["workflow"]["id"] == str(run)
    listed = await ended(world, made.id, 2)
    assert {(d.status, d.attempts, d.workflow_id) for d in listed} == {("delivered", 1, str(run))}
    detail = await one(world, listed[0])
    (attempt,) = detail.log
    assert (attempt.status, attempt.error, attempt.url) == (204, "", f"{receivers.url}/a")
    # Enough to see what was sent, not enough to send it again.
    assert attempt.request_headers["webhook-signature"] == "v1,…"
    assert detail.event["id"] == detail.message_id
    async with world.database.connection() as connection:
        assert await fetch_all(connection, "SELECT 1 FROM webhook_outbox") == []


async def test_a_failing_receiver_gets_the_same_id_with_fresh_timestamps(world: World, receivers: Receivers) -> None:
    receivers.answer("/a", 500, text="no\0 thanks")
    made = await subscribe(world, f"{receivers.url}/a")
    await happen(world)
    (delivery,) = await ended(world, made.id)
    assert (delivery.status, delivery.attempts) == ("failed", 3)
    calls = receivers.at("/a")
    assert len({call.headers["webhook-id"] for call in calls}) == 1
    for call in calls:
        assert Library(made.secret).verify(call.body, call.headers)
    log = (await one(world, delivery)).log
    assert [(a.status, a.response_body) for a in log] == [(500, "no\0 thanks")] * 3
    assert log[0].at.ToDatetime() < log[1].at.ToDatetime() < log[2].at.ToDatetime()
    assert (await look(world, made.id)).HasField("failing_since")
    receivers.answer("/a", 200)
    await happen(world)
    await until(lambda: len(receivers.at("/a")) >= 4)
    async with asyncio.timeout(10):
        while (await look(world, made.id)).HasField("failing_since"):
            await asyncio.sleep(0.02)


async def test_redirects_are_failures_and_nobody_follows_them(world: World, receivers: Receivers) -> None:
    receivers.answer("/a", 307, {"location": f"{receivers.url}/elsewhere"})
    made = await subscribe(world, f"{receivers.url}/a")
    await happen(world)
    (delivery,) = await ended(world, made.id)
    assert delivery.status == "failed"
    assert "redirect" in (await one(world, delivery)).log[0].error
    assert receivers.at("/elsewhere") == []


async def test_410_disables_tells_the_others_and_enabling_tells_again(world: World, receivers: Receivers) -> None:
    receivers.answer("/a", 410)
    gone = await subscribe(world, f"{receivers.url}/a", "run.*")
    await subscribe(world, f"{receivers.url}/b", "webhook.disabled")
    await happen(world)
    (call,) = await receivers.wait("/b", 1)
    assert call.event["type"] == "webhook.disabled"
    assert call.event["data"]["webhook"]["id"] == gone.id
    assert call.event["data"]["webhook"]["reason"] == "gone"
    now = await look(world, gone.id)
    assert (now.status, now.disabled_reason) == ("disabled", "gone")
    refusal = await refused(
        world.webhooks.PingWebhook(pb.PingWebhookRequest(id=gone.id), metadata=await world.as_("root"))
    )
    assert refusal.info.reason == "WEBHOOK_DISABLED"
    await happen(world)
    receivers.answer("/a", 204)
    again = await world.webhooks.EnableWebhook(pb.EnableWebhookRequest(id=gone.id), metadata=await world.as_("root"))
    assert again.status == "enabled"
    run = await happen(world)
    calls = await receivers.wait("/a", 2)
    assert [each.event["data"]["workflow"]["id"] for each in calls[1:]] == [str(run)]


async def test_days_of_failure_disable(start, receivers: Receivers) -> None:
    world = await start(webhook_patience_days=1e-6, webhook_schedule=(0, 0.3, 0.3, 0.3))
    receivers.answer("/a", 500)
    made = await subscribe(world, f"{receivers.url}/a", "run.*")
    await subscribe(world, f"{receivers.url}/b", "webhook.disabled")
    await happen(world)
    async with asyncio.timeout(15):
        while (found := await look(world, made.id)).status == "enabled":
            await asyncio.sleep(0.05)
    assert found.disabled_reason == "failing"
    (call,) = await receivers.wait("/b", 1)
    told = call.event["data"]["webhook"]
    assert (call.event["type"], told["id"], told["reason"]) == ("webhook.disabled", made.id, "failing")


async def test_what_is_pending_of_a_disabled_webhook_ends_and_can_be_sent_again(start, receivers: Receivers) -> None:
    world = await start(webhook_schedule=(0, 600))
    receivers.answer("/a", 500)
    made = await subscribe(world, f"{receivers.url}/a")
    await happen(world)
    await receivers.wait("/a", 1)
    await world.webhooks.DisableWebhook(pb.DisableWebhookRequest(id=made.id), metadata=await world.as_("root"))
    (delivery,) = await ended(world, made.id)
    assert delivery.status == "failed"
    receivers.answer("/a", 204)
    await world.webhooks.EnableWebhook(pb.EnableWebhookRequest(id=made.id), metadata=await world.as_("root"))
    request = pb.RedeliverWebhookRequest(id=made.id, delivery_id=delivery.id)
    answer = await world.webhooks.RedeliverWebhook(request, metadata=await world.as_("root"))
    assert answer.count == 1
    calls = await receivers.wait("/a", 2)
    assert calls[0].headers["webhook-id"] == calls[1].headers["webhook-id"]


async def test_429_leaves_the_receiver_alone(start, receivers: Receivers) -> None:
    world = await start(webhook_schedule=(0, 0.05, 0.05))
    receivers.answer("/a", 429, {"retry-after": "2"})
    made = await subscribe(world, f"{receivers.url}/a")
    await happen(world)
    (first,) = await receivers.wait("/a", 1)
    receivers.answer("/a", 204)
    async with asyncio.timeout(10):
        while not (await look(world, made.id)).HasField("paused_until"):
            await asyncio.sleep(0.02)
    await happen(world)
    calls = await receivers.wait("/a", 3)
    assert calls[1].at - first.at >= 1.5
    assert calls[2].at - first.at >= 1.5


async def test_dead_and_hanging_receivers_delay_nobody(start, receivers: Receivers) -> None:
    world = await start(webhook_in_all=12, webhook_at_once=4, webhook_attempt_seconds=5)
    release = asyncio.Event()

    async def hang(_got):
        await release.wait()
        return web.Response(status=204)

    hanging = []
    for number in range(4):
        receivers.behave(f"/hang{number}", hang)
        hanging.append(await subscribe(world, f"{receivers.url}/hang{number}"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        await subscribe(world, f"http://127.0.0.1:{closed.getsockname()[1]}/")
        # They are known for slow once the first attempts ended; before that they may take everything, once.
        await happen(world)
        for number in range(4):
            await receivers.wait(f"/hang{number}", 1)
        await asyncio.sleep(0)
        await subscribe(world, f"{receivers.url}/well")
        began = time.monotonic()
        for _ in range(10):
            await happen(world)
        await receivers.wait("/well", 10)
        took = time.monotonic() - began
        release.set()
    assert took < 4


async def test_deliveries_are_sent_again_one_or_all_since(world: World, receivers: Receivers) -> None:
    made = await subscribe(world, f"{receivers.url}/a")
    receivers.answer("/a", 500)
    for _ in range(3):
        await happen(world)
    failed = await ended(world, made.id, 3)
    receivers.answer("/a", 204)
    before = len(receivers.calls)
    root = await world.as_("root")
    request = pb.RedeliverWebhookRequest(id=made.id, delivery_id=failed[0].id)
    assert (await world.webhooks.RedeliverWebhook(request, metadata=root)).count == 1
    await receivers.wait("/a", before + 1)
    await ended(world, made.id, 3)
    request = pb.RedeliverWebhookRequest(id=made.id, since=made.created_at)
    assert (await world.webhooks.RedeliverWebhook(request, metadata=root)).count == 2
    assert len(await receivers.wait("/a", before + 3)) == before + 3
    assert {one.status for one in await ended(world, made.id, 3)} == {"delivered"}
    request = pb.RedeliverWebhookRequest(id=made.id, since=made.created_at, status="all")
    assert (await world.webhooks.RedeliverWebhook(request, metadata=root)).count == 3
    for bad in (
        pb.RedeliverWebhookRequest(id=made.id),
        pb.RedeliverWebhookRequest(id=made.id, since=made.created_at, delivery_id=failed[0].id),
        pb.RedeliverWebhookRequest(id=made.id, since=made.created_at, status="pending"),
    ):
        code = (await refused(world.webhooks.RedeliverWebhook(bad, metadata=root))).code
        assert code is grpc.StatusCode.INVALID_ARGUMENT
    missing = pb.RedeliverWebhookRequest(id=made.id, delivery_id=str(uuid.uuid4()))
    assert (await refused(world.webhooks.RedeliverWebhook(missing, metadata=root))).code is grpc.StatusCode.NOT_FOUND


async def test_filters_cheap_and_costly(world: World, receivers: Receivers) -> None:
    cheap = await subscribe(world, f"{receivers.url}/cheap", filter="event.data.seq == 2")
    costly = await subscribe(world, f"{receivers.url}/costly", filter='event.type.matches("^run[.]s.*")')
    await happen(world, "run.created", "run.started", "run.completed")
    (call,) = await receivers.wait("/cheap", 1)
    assert call.event["data"]["seq"] == 2
    (call,) = await receivers.wait("/costly", 1)
    assert call.event["type"] == "run.started"
    assert sorted(d.status for d in await ended(world, costly.id, 3)) == ["delivered", "filtered", "filtered"]
    assert len(await ended(world, cheap.id)) == 1
