"""Webhooks and hooks through the whole engine, with real receivers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import socket
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime

import aiohttp
import pytest
from standardwebhooks import Webhook as Library
from wfe_stack.rest import Refused, Rest
from wfe_stack.testing_receivers import Receivers

from .test_main_job import CANARY, article, started, until


@pytest.fixture
async def receivers() -> AsyncIterator[Receivers]:
    async with Receivers() as running:
        yield running


@pytest.fixture
async def subscribe(root: Rest):
    made = []

    async def make(url: str, *types: str, **more):
        made.append(await root.post("/api/v1/webhooks", {"url": url, "event_types": types or ["*"], **more}))
        return made[-1]

    yield make
    for webhook in made:
        await root.delete(f"/api/v1/webhooks/{webhook['id']}")


async def test_a_run_is_told_from_its_start_to_its_end(
    sam: Rest, ada: Rest, root: Rest, sample, subscribe, receivers: Receivers
):
    webhook = await subscribe(f"{receivers.url}/a", name="mine")
    # At once: the first event of the run must not be missed.
    run = await started(sam, await sample("publish-article"), **article())
    gate = (await until(sam, run["id"], "waiting_approval"))["approvals"][0]
    await ada.post(f"/api/v1/workflows/{run['id']}/approvals/{gate['id']}/approve", {"comment": "fine"})
    await until(sam, run["id"], "completed")
    page = await sam.get(f"/api/v1/workflows/{run['id']}/events", limit=200)

    def ours():
        return [call for call in receivers.at("/a") if call.event.get("subject") == f"workflows/{run['id']}"]

    async with asyncio.timeout(20):
        while len(ours()) < len(page["events"]):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    # Every event of its log, the decision among them, and each told once.
    told = Counter((call.event["data"]["seq"], call.event["type"]) for call in ours())
    assert told == Counter((event["seq"], event["type"]) for event in page["events"])
    assert told[next(e["seq"] for e in page["events"] if e["type"] == "approval.approved"), "approval.approved"] == 1
    for call in ours():
        assert Library(webhook["secret"]).verify(call.body, call.headers) == call.event
        assert CANARY not in call.body.decode()
    created = next(call.event for call in ours() if call.event["type"] == "run.created")
    assert created["data"]["event"]["input"]["token"] == {"$sealed": [{"var": "token"}]}
    listed = await root.get(f"/api/v1/webhooks/{webhook['id']}/deliveries", status="delivered", limit=200)
    assert {each["workflow_id"] for each in listed["deliveries"]} >= {run["id"]}
    assert "secret" not in json.dumps(listed)
    assert (await root.get(f"/api/v1/webhooks/{webhook['id']}"))["secret"] == ""


async def test_receivers_of_every_kind(sam: Rest, root: Rest, sample, subscribe, receivers: Receivers):
    receivers.answer("/gone", 410)
    receivers.answer("/busy", 429, {"retry-after": "1"})
    receivers.answer("/moved", 308, {"location": f"{receivers.url}/elsewhere"})
    receivers.answer("/broken", 500)
    release = asyncio.Event()

    async def hang(_got):
        await release.wait()
        return aiohttp.web.Response(status=204)

    receivers.behave("/slow", hang)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        kinds = ["gone", "busy", "moved", "broken", "slow", "well"]
        made = {kind: await subscribe(f"{receivers.url}/{kind}", "run.completed") for kind in kinds}
        made["dead"] = await subscribe(f"http://127.0.0.1:{closed.getsockname()[1]}/", "run.completed")
        run = await started(sam, await sample("hello"))
        await until(sam, run["id"], "completed")
        began = asyncio.get_running_loop().time()
        (call,) = await receivers.wait("/well", 1)
        assert asyncio.get_running_loop().time() - began < 3
        assert call.event["type"] == "run.completed"

        async def last(kind: str):
            path = f"/api/v1/webhooks/{made[kind]['id']}/deliveries"
            async with asyncio.timeout(30):
                while True:
                    (found,) = (await root.get(path))["deliveries"]
                    if found["status"] != "pending":
                        return await root.get(f"{path}/{found['id']}")
                    await asyncio.sleep(0.05)

        for kind, status in (("moved", 308), ("broken", 500), ("dead", 0)):
            delivery = await last(kind)
            assert (delivery["status"], delivery["attempts"]) == ("failed", 4)
            assert {attempt["status"] for attempt in delivery["log"]} == {status}
            assert all(attempt["error"] for attempt in delivery["log"])
        assert len({call.headers["webhook-id"] for call in receivers.at("/broken")}) == 1
        assert receivers.at("/elsewhere") == []
        assert (await last("gone"))["attempts"] == 1
        gone = await root.get(f"/api/v1/webhooks/{made['gone']['id']}")
        assert (gone["status"], gone["disabled_reason"]) == ("disabled", "gone")
        busy = await last("busy")
        moments = [datetime.fromisoformat(attempt["at"]) for attempt in busy["log"]]
        assert all((b - a).total_seconds() >= 0.9 for a, b in itertools.pairwise(moments))
        release.set()
        receivers.answer("/broken", 200)
        answer = await root.post(
            f"/api/v1/webhooks/{made['broken']['id']}/redeliver", {"since": made["broken"]["created_at"]}
        )
        assert answer["count"] == 1
        await receivers.wait("/broken", 5)


async def test_a_crash_of_approvals_loses_no_event(stack, sam: Rest, sample, subscribe, receivers: Receivers):
    await subscribe(f"{receivers.url}/a", "run.completed")
    template = await sample("hello")
    runs = [(await started(sam, template))["id"] for _ in range(5)]
    await stack.kill("approvals")
    try:
        runs += [(await started(sam, template))["id"] for _ in range(10)]
        for run in runs:
            await until(sam, run, "completed")
    finally:
        await stack.restart("approvals")

    async with asyncio.timeout(60):
        while {c.event["data"]["workflow"]["id"] for c in receivers.at("/a")} < set(runs):
            await asyncio.sleep(0.1)


async def test_a_hook_starts_a_run_by_its_signature_alone(stack, sam: Rest, root: Rest, publish):
    template = await publish(
        "name: hooked\nvariables:\n  title: {type: string, required: true}\n  secret: {type: string, sensitive: true}\n"
        "steps:\n  - id: a\n    set: {t: '${{ vars.title }}'}\noutput: {t: '${{ steps.a.output.t }}'}\n"
    )
    hook = await root.post(
        "/api/v1/hooks",
        {
            "template_id": template,
            "scheme": "github",
            "filter": 'body.action == "opened"',
            "input": {"title": "body.issue.title", "secret": "body.token"},
        },
    )
    canary = f"canary-{uuid.uuid4().hex}"
    body = json.dumps({"action": "opened", "issue": {"title": "Ünsäfe  <b>"}, "token": canary}, indent=3).encode()

    def signed(body: bytes):
        signature = hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
        return {"x-hub-signature-256": f"sha256={signature}", "content-type": "application/json"}

    async with aiohttp.ClientSession() as session:

        async def call(body: bytes, headers):
            async with session.post(stack.url + hook["path"], data=body, headers=headers) as answer:
                return answer.status, await answer.json()

        status, receipt = await call(body, signed(body))
        assert (status, receipt["status"]) == (200, "started")
        run = await until(sam, receipt["workflow_id"], "completed")
        assert (run["output"], run["trigger_type"]) == ({"t": "Ünsäfe  <b>"}, "webhook")
        again = await asyncio.gather(*(call(body, signed(body)) for _ in range(5)))
        assert {(s, r["workflow_id"], r["duplicate"]) for s, r in again} == {(200, receipt["workflow_id"], True)}
        closed = body.replace(b"opened", b"closed")
        assert (await call(closed, signed(closed)))[1]["status"] == "filtered"
        assert (await call(body + b" ", signed(body)))[0] == 401
        assert (await call(body, {"content-type": "application/json"}))[0] == 401
        missing = b'{"action": "opened", "issue": {}}'
        status, answer = await call(missing, signed(missing))
        assert status == 400
        assert "input.title" in json.dumps(answer)
    assert canary not in json.dumps(await sam.get(f"/api/v1/workflows/{run['id']}"))
    for log in (stack.settings.folder / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert canary not in text
        assert hook["secret"] not in text
    await root.delete(f"/api/v1/hooks/{hook['id']}")
    with pytest.raises(Refused):
        await root.get(f"/api/v1/hooks/{hook['id']}")


async def test_a_hook_sends_a_signal_to_the_run_its_body_names(stack, sam: Rest, root: Rest, publish):
    template = await publish(
        "name: paid\nsteps:\n  - {id: wait, wait_for: {signal: paid}}\n"
        "output: {amount: '${{ steps.wait.output.payload.amount }}'}\n"
    )
    hook = await root.post(
        "/api/v1/hooks",
        {"signal": "paid", "workflow": "body.run", "scheme": "github", "input": {"amount": "body.amount"}},
    )

    async def call(body: bytes):
        signature = hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
        headers = {"x-hub-signature-256": f"sha256={signature}", "content-type": "application/json"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(stack.url + hook["path"], data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    run = await started(sam, template)
    body = json.dumps({"run": run["id"], "amount": 12}).encode()
    status, receipt = await call(body)
    assert (status, receipt["status"], receipt["workflow_id"]) == (200, "signalled", run["id"])
    assert (await until(sam, run["id"], "completed"))["output"] == {"amount": 12}
    # The same message again has been taken; another one comes too late; and one names a run that is not there.
    assert (await call(body))[1]["duplicate"] is True
    assert (await call(body + b" "))[0] == 409
    assert (await call(json.dumps({"run": str(uuid.uuid4()), "amount": 1}).encode()))[0] == 404


async def test_events_of_the_templates_own_are_told_by_their_name(sam: Rest, publish, subscribe, receivers: Receivers):
    template = await publish(
        "name: emits\nsteps:\n  - {id: a, emit: {name: other, data: {n: 1}}}\n"
        "  - {id: b, emit: {name: order.paid, data: {n: 2}}}\n"
    )
    await subscribe(f"{receivers.url}/all", "emitted")
    await subscribe(f"{receivers.url}/paid", "emitted", filter='event.data.event.name == "order.paid"')
    run = await started(sam, template)
    await until(sam, run["id"], "completed")
    (call,) = await receivers.wait("/paid", 1)
    assert call.event["data"]["event"]["data"] == {"n": 2}
    both = await receivers.wait("/all", 2)
    assert {one.event["data"]["event"]["name"] for one in both} == {"other", "order.paid"}
    assert len(receivers.at("/paid")) == 1
