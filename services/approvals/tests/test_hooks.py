"""Hooks: calls let in by their signature alone, and the starts they ask a scheduler for."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import grpc
import pytest
from nats.aio.client import Client
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_approvals.webhooks.signing import Signer, signed_headers
from wfe_bus import messages as m
from wfe_bus import subjects
from wfe_bus.asks import Answered, SendSignal, StartRun
from wfe_bus.connection import settle
from wfe_servicekit.testing import refused
from wfe_store.pool import fetch_all

from .conftest import World

BODY = b'{"issue": {"title": "It is broken",  "number": 7}, "action": "opened"}'
MAPPING = {"text": "body.issue.title", "from": 'headers["x-github-event"]', "number": "body.issue.number + 1"}


class Scheduler:
    """Answers starts as a scheduler does: the same key gives the same run."""

    def __init__(self) -> None:
        self.asked: list[StartRun] = []
        self.signals: list[SendSignal] = []
        self.runs: dict[str, bytes] = {}
        self.refusal: Answered | None = None

    async def answer(self, message) -> None:
        asked = m.decoder(StartRun).decode(message.data)
        self.asked.append(asked)
        answer = self.refusal or Answered(run=self.runs.setdefault(asked.key, uuid.uuid4().bytes))
        await message.respond(m.encode(answer))

    async def answer_signal(self, message) -> None:
        asked = m.decoder(SendSignal).decode(message.data)
        self.signals.append(asked)
        await message.respond(m.encode(self.refusal or Answered(run=asked.run)))


@pytest.fixture
async def scheduler(bus: Client) -> AsyncIterator[Scheduler]:
    found = Scheduler()
    answers = {subjects.START: found.answer, subjects.SIGNAL: found.answer_signal}
    subscriptions = [await bus.subscribe(name, queue=subjects.SCHEDULERS, cb=cb) for name, cb in answers.items()]
    await settle(bus)
    yield found
    for subscription in subscriptions:
        await subscription.unsubscribe()


async def add_template(world: World, owner: str = "acme") -> str:
    template = uuid.uuid4()
    async with world.database.connection() as connection:
        await connection.execute(
            "INSERT INTO templates (id, owner_id, name, draft) VALUES (%s, %s, %s, '')",
            (template, world.owners[owner], template.hex),
        )
    return str(template)


async def make(world: World, as_=("starter", "acme"), **more):
    if "signal" not in more:
        more.setdefault("template_id", await add_template(world, as_[1]))
    return await world.hooks.CreateHook(pb.CreateHookRequest(**more), metadata=await world.as_(*as_))


def standard(secret: str, body: bytes = BODY, message_id: str = "msg_1", at: float | None = None):
    moment = datetime.fromtimestamp(at or time.time(), UTC)
    return list(signed_headers([Signer(secret)], message_id, body.decode(), moment).items())


def github(secret: str, body: bytes = BODY, delivery: str = "1"):
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return [
        ("x-hub-signature-256", f"sha256={signature}"),
        ("x-github-event", "issues"),
        ("x-github-delivery", delivery),
    ]


async def call(world: World, hook, metadata, body: bytes = BODY):
    request = pb.ReceiveHookRequest(id=hook if isinstance(hook, str) else hook.id)
    request.body.data = body
    request.body.content_type = "application/json"
    return await world.hooks.ReceiveHook(request, metadata=metadata)


async def test_a_signed_call_starts_a_run_with_the_mapped_input(world: World, scheduler: Scheduler) -> None:
    hook = await make(world, scheme="github", input=MAPPING, version=3)
    assert hook.path == f"/api/v1/hooks/{hook.id}"
    receipt = await call(world, hook, github(hook.secret))
    assert (receipt.status, receipt.duplicate) == ("started", False)
    (asked,) = scheduler.asked
    assert json.loads(asked.input) == {"text": "It is broken", "from": "issues", "number": 8}
    assert uuid.UUID(bytes=asked.owner) == world.owners["acme"]
    assert uuid.UUID(bytes=asked.principal) == world.people["acme", "starter"]
    assert (str(uuid.UUID(bytes=asked.template)), asked.version, asked.trigger) == (hook.template_id, 3, "webhook")
    assert receipt.workflow_id == str(uuid.UUID(bytes=scheduler.runs[asked.key]))


async def test_the_same_message_starts_one_run_however_often_it_comes(world: World, scheduler: Scheduler) -> None:
    hook = await make(world)
    metadata = standard(hook.secret)
    receipts = await asyncio.gather(*(call(world, hook, metadata) for _ in range(8)))
    assert len({receipt.workflow_id for receipt in receipts}) == 1
    assert (await call(world, hook, metadata)).duplicate
    assert len(scheduler.runs) == 1
    assert (await call(world, hook, standard(hook.secret, message_id="msg_2"))).workflow_id not in {
        receipt.workflow_id for receipt in receipts
    }
    # What GitHub signs is the body: a call sent again under another delivery id is the same call.
    other = await make(world, scheme="github")
    first = await call(world, other, github(other.secret, delivery="1"))
    second = await call(world, other, github(other.secret, delivery="2"))
    assert (second.workflow_id, second.duplicate) == (first.workflow_id, True)


async def test_a_signed_call_sends_a_signal_once(world: World, scheduler: Scheduler) -> None:
    run = uuid.uuid4()
    body = json.dumps({"run": str(run), "paid": 12}).encode()
    hook = await make(world, signal="paid", workflow="body.run", input={"amount": "body.paid"})
    assert (hook.signal, hook.workflow, hook.template_id) == ("paid", "body.run", "")
    receipt = await call(world, hook, standard(hook.secret, body), body)
    assert (receipt.status, receipt.workflow_id, receipt.duplicate) == ("signalled", str(run), False)
    again = await call(world, hook, standard(hook.secret, body), body)
    assert (again.status, again.workflow_id, again.duplicate) == ("signalled", str(run), True)
    (asked,) = scheduler.signals
    assert (uuid.UUID(bytes=asked.run), asked.name, json.loads(asked.payload)) == (run, "paid", {"amount": 12})
    assert uuid.UUID(bytes=asked.owner) == world.owners["acme"]
    assert uuid.UUID(bytes=asked.principal) == world.people["acme", "starter"]
    # A call that names no run, and a run that has ended.
    refusal = await refused(call(world, hook, standard(hook.secret, b"{}", "msg_2"), b"{}"))
    assert refusal.details["BadRequest"].field_violations[0].field in ("workflow", "input.amount")
    scheduler.refusal = Answered(refusal="StateConflict", reason="WRONG_STATE", message="it has ended")
    refusal = await refused(call(world, hook, standard(hook.secret, body, "msg_3"), body))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")


async def test_hooks_that_send_signals_say_all_of_it(world: World) -> None:
    template = await add_template(world)
    for fields, more in (
        ({"workflow"}, {"signal": "paid"}),
        ({"signal"}, {"signal": "1 2", "workflow": "body.run"}),
        ({"workflow"}, {"signal": "paid", "workflow": "body."}),
        ({"template_id"}, {"signal": "paid", "workflow": "body.run", "template_id": template}),
        ({"template_id"}, {"signal": "paid", "workflow": "body.run", "version": 1}),
        ({"workflow"}, {"template_id": template, "workflow": "body.run"}),
    ):
        refusal = await refused(make(world, **more))
        assert {v.field for v in refusal.details["BadRequest"].field_violations} == fields


async def test_keys_of_the_engine_come_in_by_no_way(world: World, scheduler: Scheduler) -> None:
    hook = await make(world, input={"a": "{body.name: 1}", "b": '{headers["x-name"]: 1}'})
    other = await make(world, signal="s", workflow="body.run", input={"a": "[{body.name: 1}]"})
    for body in (b'{"a": [{"$sealed": "x"}]}', b'{"$blob": "x", "bytes": 1}'):
        refusal = await refused(call(world, hook, standard(hook.secret, body), body))
        assert {v.field for v in refusal.details["BadRequest"].field_violations} == {"body"}
    # Nor made by an expression, of a text of the body or of a header.
    body = json.dumps({"name": "$blob", "run": str(uuid.uuid4())}).encode()
    refusal = await refused(call(world, hook, [*standard(hook.secret, body), ("x-name", "$sealed")], body))
    assert {v.field for v in refusal.details["BadRequest"].field_violations} == {"input.a", "input.b"}
    refusal = await refused(call(world, other, standard(other.secret, body), body))
    assert {v.field for v in refusal.details["BadRequest"].field_violations} == {"input.a"}
    refusal = await refused(make(world, input={"$sealed": "body"}))
    assert {v.field for v in refusal.details["BadRequest"].field_violations} == {"input.$sealed"}
    assert (scheduler.asked, scheduler.signals) == ([], [])


async def test_a_secret_of_another_sealing_key_is_told(world: World, scheduler: Scheduler) -> None:
    hook = await make(world)
    async with world.database.connection() as connection:
        await connection.execute("UPDATE hooks SET secret = %s WHERE id = %s", (b"x" * 60, hook.id))
    refusal = await refused(call(world, hook, standard(hook.secret)))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "HOOK_SECRET_UNREADABLE")


async def test_who_is_not_let_in_learns_nothing(world: World, scheduler: Scheduler) -> None:
    hook = await make(world)
    hub = await make(world, scheme="github")
    good = dict(standard(hook.secret))
    bad = [
        (hook, []),
        (hook, standard("whsec_" + "A" * 43 + "=")),
        (hook, standard(hook.secret, at=time.time() - 400)),
        (hook, standard(hook.secret, at=time.time() + 400)),
        (hook, [*standard(hook.secret, BODY + b" ")]),
        (hook, list({**good, "webhook-signature": "v1"}.items())),
        (hook, list({**good, "webhook-id": "other"}.items())),
        (hook, github(hook.secret)),
        (hub, github("x" * 32)),
        (hub, github(hub.secret, BODY + b" ")),
        (hub, [("x-hub-signature-256", "sha256=")]),
        (hub, [("x-hub-signature", "sha1=aaaa")]),
        (hub, []),
        (str(uuid.uuid4()), standard(hook.secret)),
        ("nonsense", standard(hook.secret)),
        ("", []),
    ]
    seen = set()
    for which, metadata in bad:
        refusal = await refused(call(world, which, metadata))
        seen.add((refusal.code, refusal.message, refusal.info.reason))
    assert len(seen) == 1
    assert next(iter(seen))[0] is grpc.StatusCode.UNAUTHENTICATED
    assert scheduler.asked == []
    # The owner's key is no credential here, and does not hurt.
    refusal = await refused(call(world, hook, await world.as_("root")))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_hook_whose_maker_may_start_nothing_any_more_is_none(world: World, scheduler: Scheduler) -> None:
    hook = await make(world)
    async with world.database.connection() as connection:
        await connection.execute(
            "UPDATE principals SET disabled_at = now() WHERE id = %s", (world.people["acme", "starter"],)
        )
    assert (await refused(call(world, hook, standard(hook.secret)))).code is grpc.StatusCode.UNAUTHENTICATED
    async with world.database.connection() as connection:
        await connection.execute(
            "UPDATE principals SET disabled_at = NULL, roles = '{viewer}' WHERE id = %s",
            (world.people["acme", "starter"],),
        )
    assert (await refused(call(world, hook, standard(hook.secret)))).code is grpc.StatusCode.UNAUTHENTICATED
    assert scheduler.asked == []


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        ('body.action == "opened"', True), ('body.action == "closed"', False), ("body.missing == 1", False),
        ('headers["webhook-id"] == "msg_1"', True), ("body.action", False),
        ('body.issue.title.matches("^It")', True), ('"webhook-signature" in headers', False),
        ('"authorization" in headers', False),
    ],
)  # fmt: skip
async def test_filters(world: World, scheduler: Scheduler, source: str, passes: bool) -> None:
    hook = await make(world, filter=source)
    receipt = await call(world, hook, [*standard(hook.secret), ("authorization", "Bearer x")])
    assert receipt.status == ("started" if passes else "filtered")
    assert len(scheduler.asked) == passes
    assert (await call(world, hook, standard(hook.secret))).duplicate


async def test_what_the_mapping_misses_is_named(world: World, scheduler: Scheduler) -> None:
    hook = await make(world, input={"a": "body.nothing", "b": "body.issue.title", "c": "1 / 0"})
    refusal = await refused(call(world, hook, standard(hook.secret)))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    fields = {v.field for v in refusal.details["BadRequest"].field_violations}
    assert fields == {"input.a", "input.c"}
    assert scheduler.asked == []
    deep = [b'{"a": ' * levels + b"1" + b"}" * levels for levels in (101, 900, 989)]
    for body in (b"not json", b"\xff", b"", b"[" * 5_000, *deep):
        metadata = [] if body == b"\xff" else standard(hook.secret, body)
        assert (await refused(call(world, hook, metadata, body))).code in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.UNAUTHENTICATED,
        )


async def test_refusals_of_the_scheduler_reach_the_caller(world: World, scheduler: Scheduler) -> None:
    hook = await make(world)
    scheduler.refusal = Answered(
        refusal="InvalidInput", reason="INVALID_RUN_INPUT", message="x", violations=(("input.text", "is required"),)
    )
    refusal = await refused(call(world, hook, standard(hook.secret)))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_RUN_INPUT")
    scheduler.refusal = Answered(refusal="NotFound", reason="NOT_FOUND", message="there is no template")
    refusal = await refused(call(world, hook, standard(hook.secret)))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    # Nothing was promised; the same message again may work.
    scheduler.refusal = None
    assert (await call(world, hook, standard(hook.secret))).status == "started"


async def test_without_a_scheduler_the_sender_is_told_to_try_again(world: World, bus: Client) -> None:
    hook = await make(world)
    refusal = await refused(call(world, hook, standard(hook.secret)))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_SCHEDULER")
    async with world.database.connection() as connection:
        assert await fetch_all(connection, "SELECT 1 FROM hook_receipts") == []


async def test_secrets_are_shown_once_sealed_and_may_be_the_senders(world: World) -> None:
    own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    hook = await make(world, secret=own)
    assert hook.secret == own
    root = await world.as_("root")
    assert (await world.hooks.GetHook(pb.GetHookRequest(id=hook.id), metadata=root)).secret == ""
    listed = await world.hooks.ListHooks(pb.ListHooksRequest(), metadata=root)
    assert [(each.id, each.secret) for each in listed.hooks] == [(hook.id, "")]
    async with world.database.connection() as connection:
        assert own.removeprefix("whsec_") not in str(await fetch_all(connection, "SELECT h::text FROM hooks h"))
    for bad in ({"secret": "whsec_AAAA"}, {"secret": "short", "scheme": "github"}):
        assert (await refused(make(world, **bad))).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_hooks_of_others_and_of_nobody(world: World) -> None:
    hook = await make(world)
    stranger = await world.as_("root", "rival")
    for request in (
        world.hooks.GetHook(pb.GetHookRequest(id=hook.id), metadata=stranger),
        world.hooks.DeleteHook(pb.DeleteHookRequest(id=hook.id), metadata=stranger),
        world.hooks.CreateHook(pb.CreateHookRequest(template_id=hook.template_id), metadata=stranger),
    ):
        assert (await refused(request)).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(make(world, ("vic", "acme")))).code is grpc.StatusCode.PERMISSION_DENIED
    refusal = await refused(make(world, filter="body.", input={"a": "nobody"}, scheme="x", version=0))
    fields = {v.field for v in refusal.details["BadRequest"].field_violations}
    assert fields == {"filter", "input.a", "scheme", "version"}
    gone = await world.hooks.DeleteHook(pb.DeleteHookRequest(id=hook.id), metadata=await world.as_("starter"))
    assert gone.id == hook.id
    assert (await refused(call(world, hook, standard(hook.secret)))).code is grpc.StatusCode.UNAUTHENTICATED
