"""Webhooks: subscribe, and be told; over real gRPC, Postgres and HTTP."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid

import grpc
import pytest
from aiohttp import web
from standardwebhooks import Webhook as Library
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_approvals.webhooks.signing import verify_v1a
from wfe_servicekit.testing import refused, until
from wfe_stack.testing_receivers import Receivers, tell
from wfe_store.pool import fetch_all, fetch_one

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


async def test_the_secret_is_shown_once_and_kept_sealed(world: World, receivers: Receivers) -> None:
    made = await subscribe(world, f"{receivers.url}/a")
    assert made.secret.startswith("whsec_")
    assert (await look(world, made.id)).secret == ""
    page = await world.webhooks.ListWebhooks(pb.ListWebhooksRequest(), metadata=await world.as_("root"))
    assert [each.secret for each in page.webhooks] == [""]
    async with world.database.connection() as connection:
        for table in ("webhooks", "webhook_secrets"):
            rows = await fetch_all(connection, f"SELECT t::text FROM {table} t")
            assert made.secret.removeprefix("whsec_") not in str(rows)
        (sealed,) = await fetch_one(connection, "SELECT ciphertext FROM webhook_secrets") or (b"",)
    assert made.secret.encode() not in bytes(sealed)


async def test_everything_wrong_with_a_subscription_is_named(world: World) -> None:
    request = pb.CreateWebhookRequest(
        url="http://10.0.0.1/x", event_types=["run.done"], filter="event.", signature="v9", name="x" * 101
    )
    refusal = await refused(world.webhooks.CreateWebhook(request, metadata=await world.as_("root")))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    fields = {v.field for v in refusal.details["BadRequest"].field_violations}
    assert fields == {"url", "event_types", "filter", "signature", "name"}


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com", "http://user:secret@example.com/", "http://169.254.169.254/latest", "http://[::1]/",
        "http://[::ffff:10.0.0.1]/", "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:a00:1::]/", "http://0x7f.1.2.3/",
        "http://2130706434/", "http://192.168.1.1:80/", "nonsense", "http:///x", "http://[fe80::1]/",
        "http://100.100.100.200/", "https://[::127.0.0.2]/",
    ],
)  # fmt: skip
async def test_urls_of_the_inside_are_refused(world: World, url: str) -> None:
    refusal = await refused(subscribe(world, url))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_names_that_lead_inside_are_not_called(start, receivers: Receivers) -> None:
    # The name passes when it is read, and its address does not when it is called.
    world = await start(egress_allow="10.255.255.255")
    port = receivers.url.rpartition(":")[2]
    made = await subscribe(world, f"http://localhost:{port}/a")
    await happen(world)
    (delivery,) = await ended(world, made.id)
    assert delivery.status == "failed"
    assert "not on the open internet" in (await one(world, delivery)).log[0].error
    assert receivers.calls == []


async def test_plain_http_must_be_allowed(start, receivers: Receivers) -> None:
    world = await start(webhook_http=False)
    assert (await refused(subscribe(world, f"{receivers.url}/a"))).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_without_a_key_to_seal_with_there_are_no_webhooks(start) -> None:
    world = await start(seal_key_file=None)
    assert (await refused(subscribe(world, "https://example.com/"))).info.reason == "NO_SEAL_KEY"


async def test_other_owners_see_nothing_and_are_told_nothing(world: World, receivers: Receivers) -> None:
    ours = await subscribe(world, f"{receivers.url}/ours")
    theirs = await subscribe(world, f"{receivers.url}/theirs", as_=("root", "rival"))
    await happen(world)
    await receivers.wait("/ours", 1)
    await ended(world, ours.id)
    assert receivers.at("/theirs") == []
    stranger = await world.as_("root", "rival")
    (delivery,) = await deliveries(world, ours.id)
    stub = world.webhooks
    for call in (
        stub.GetWebhook(pb.GetWebhookRequest(id=ours.id), metadata=stranger),
        stub.DeleteWebhook(pb.DeleteWebhookRequest(id=ours.id), metadata=stranger),
        stub.EnableWebhook(pb.EnableWebhookRequest(id=ours.id), metadata=stranger),
        stub.DisableWebhook(pb.DisableWebhookRequest(id=ours.id), metadata=stranger),
        stub.RotateWebhookSecret(pb.RotateWebhookSecretRequest(id=ours.id), metadata=stranger),
        stub.PingWebhook(pb.PingWebhookRequest(id=ours.id), metadata=stranger),
        stub.ListDeliveries(pb.ListDeliveriesRequest(id=ours.id), metadata=stranger),
        stub.GetDelivery(pb.GetDeliveryRequest(id=ours.id, delivery_id=delivery.id), metadata=stranger),
        stub.GetDelivery(pb.GetDeliveryRequest(id=theirs.id, delivery_id=delivery.id), metadata=stranger),
        stub.RedeliverWebhook(pb.RedeliverWebhookRequest(id=ours.id, delivery_id=delivery.id), metadata=stranger),
        stub.RedeliverWebhook(pb.RedeliverWebhookRequest(id=theirs.id, delivery_id=delivery.id), metadata=stranger),
    ):
        assert (await refused(call)).code is grpc.StatusCode.NOT_FOUND
    assert (await look(world, ours.id)).status == "enabled"


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
    await happen(world)
    async with asyncio.timeout(15):
        while (found := await look(world, made.id)).status == "enabled":
            await asyncio.sleep(0.05)
    assert found.disabled_reason == "failing"


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


async def test_a_ping_answers_with_its_first_attempt(world: World, receivers: Receivers) -> None:
    made = await subscribe(world, f"{receivers.url}/a", "approval.*", filter="false")
    root = await world.as_("root")
    delivery = await world.webhooks.PingWebhook(pb.PingWebhookRequest(id=made.id), metadata=root)
    assert (delivery.status, delivery.type, delivery.log[0].status) == ("delivered", "webhook.ping", 204)
    receivers.answer("/a", 404)
    delivery = await world.webhooks.PingWebhook(pb.PingWebhookRequest(id=made.id), metadata=root)
    assert (delivery.attempts, delivery.log[0].status) == (1, 404)


async def test_after_a_rotation_both_keys_sign_for_a_while(world: World, receivers: Receivers) -> None:
    made = await subscribe(world, f"{receivers.url}/a")
    root = await world.as_("root")
    await world.webhooks.PingWebhook(pb.PingWebhookRequest(id=made.id), metadata=root)
    request = pb.RotateWebhookSecretRequest(id=made.id)
    fresh = await world.webhooks.RotateWebhookSecret(request, metadata=root)
    assert fresh.secret != made.secret
    await world.webhooks.PingWebhook(pb.PingWebhookRequest(id=made.id), metadata=root)
    call = receivers.at("/a")[-1]
    for secret in (made.secret, fresh.secret):
        assert Library(secret).verify(call.body, call.headers)
    request = pb.RotateWebhookSecretRequest(id=made.id, overlap_seconds=0)
    last = await world.webhooks.RotateWebhookSecret(request, metadata=root)
    await world.webhooks.PingWebhook(pb.PingWebhookRequest(id=made.id), metadata=root)
    call = receivers.at("/a")[-1]
    assert call.headers["webhook-signature"].count("v1,") == 1
    assert Library(last.secret).verify(call.body, call.headers)


async def test_v1a(world: World, receivers: Receivers) -> None:
    made = await subscribe(world, f"{receivers.url}/a", signature="v1a")
    assert (made.secret, made.signature) == ("", "v1a")
    assert (await look(world, made.id)).public_key == made.public_key
    await world.webhooks.PingWebhook(pb.PingWebhookRequest(id=made.id), metadata=await world.as_("root"))
    (call,) = receivers.at("/a")
    stamp, signature = call.headers["webhook-timestamp"], call.headers["webhook-signature"]
    assert verify_v1a(made.public_key, call.headers["webhook-id"], stamp, call.body, signature)


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


async def test_only_administrators_say_where_events_go(world: World) -> None:
    request = pb.CreateWebhookRequest(url="https://example.com", event_types=["*"])
    for name in ("starter", "ada", "vic"):
        refusal = await refused(world.webhooks.CreateWebhook(request, metadata=await world.as_(name)))
        assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    listed = await world.webhooks.ListWebhooks(pb.ListWebhooksRequest(), metadata=await world.as_("starter"))
    assert listed.total == 0


async def test_removing_a_webhook_ends_it(world: World, receivers: Receivers) -> None:
    made = await subscribe(world, f"{receivers.url}/a")
    root = await world.as_("root")
    gone = await world.webhooks.DeleteWebhook(pb.DeleteWebhookRequest(id=made.id), metadata=root)
    assert gone.id == made.id
    assert (await refused(world.webhooks.GetWebhook(pb.GetWebhookRequest(id=made.id), metadata=root))).code is (
        grpc.StatusCode.NOT_FOUND
    )
    await happen(world)
    async with asyncio.timeout(10), world.database.connection() as connection:
        while await fetch_all(connection, "SELECT 1 FROM webhook_outbox"):
            await asyncio.sleep(0.02)
    assert receivers.calls == []


async def test_a_secret_that_cannot_be_opened_stops_only_its_own(world: World, receivers: Receivers) -> None:
    broken = await subscribe(world, f"{receivers.url}/broken")
    async with world.database.connection() as connection:
        await connection.execute("UPDATE webhook_secrets SET ciphertext = set_byte(ciphertext, 20, 1)")
    await subscribe(world, f"{receivers.url}/well")
    await happen(world)
    await receivers.wait("/well", 1)
    (delivery,) = await ended(world, broken.id)
    assert "cannot be opened" in (await one(world, delivery)).log[0].error
    assert receivers.at("/broken") == []
