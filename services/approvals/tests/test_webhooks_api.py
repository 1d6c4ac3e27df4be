"""Subscribing: who may, what is refused, what is shown; over real gRPC, Postgres and HTTP."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from standardwebhooks import Webhook as Library
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_approvals.webhooks.signing import verify_v1a
from wfe_servicekit.testing import refused
from wfe_stack.testing_receivers import Receivers
from wfe_store.pool import fetch_all, fetch_one

from .conftest import World
from .webhook_calls import deliveries, ended, happen, look, one, subscribe


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
