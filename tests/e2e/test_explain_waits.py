"""Why is it not moving, for every kind of wait there is."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import suppress

import psycopg
import pytest
from wfe_stack.waiting import wait_for


@pytest.fixture
def explained(sam, publish):
    """Starts a run of a template and gives its id and its explanation, once that has a reason and is of a step."""

    async def begin(source, reason, given=None, step=None):
        run = (await sam.start({"template_id": await publish(source), "input": given or {}}))["id"]

        async def found():
            said = await sam.get(f"/api/v1/workflows/{run}/explain")
            return said if said["reason"] == reason and step in (None, said["step"]) else None

        return run, await wait_for(found, what=reason)

    return begin


@pytest.fixture
async def silent():
    """URL of a server that takes connections and never answers."""
    over = asyncio.Event()

    async def hold(_reader, writer):
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"http://{host}:{port}/"
    over.set()
    server.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(server.wait_closed(), 5)


async def test_a_signal_whatever_the_run_s_own_clock(sam, explained):
    source = "name: for-signal\ntimeout: 1h\nsteps: [{id: paid, wait_for: {signals: [paid, waived]}}]\n"
    run, said = await explained(source, "WAITING_SIGNAL")
    assert (said["step"], said["message"]) == ("paid", "it waits for signal paid or waived")
    assert said["details"] == {"signals": "paid, waived"}
    assert "until" not in said
    await sam.post(f"/api/v1/workflows/{run}/signals/waived", {"payload": 1})
    assert (await sam.wait_ended(run))["status"] == "completed"


async def test_a_callback(sam, explained):
    source = "name: for-callback\nsteps: [{id: scanned, wait_for: {callback: scan, heartbeat: 1h}}]\n"
    run, said = await explained(source, "WAITING_CALLBACK")
    assert (said["step"], said["details"]) == ("scanned", {"callback": "scan"})
    assert said["until"], "when its next sign of life is due"
    await sam.post(f"/api/v1/workflows/{run}/cancel")


async def test_a_run_of_its_own(sam, publish, explained):
    await publish("name: for-child\nsteps: [{id: go, wait_for: {signal: go}}]\n")
    parent, said = await explained(
        "name: for-parent\nsteps: [{id: inner, workflow: {template: for-child}}]\n", "WAITING_CHILD"
    )
    child = said["details"]["child"]
    assert said["step"] == "inner"

    async def begun():
        return (await sam.get(f"/api/v1/workflows/{parent}/explain"))["details"].get("child_status") == "running"

    await wait_for(begun)

    async def waits():
        return (await sam.get(f"/api/v1/workflows/{child}/explain"))["reason"] == "WAITING_SIGNAL"

    await wait_for(waits)
    await sam.post(f"/api/v1/workflows/{child}/signals/go", {"payload": 1})
    assert (await sam.wait_ended(parent))["status"] == "completed"


async def test_a_retry_that_backs_off(sam, explained):
    run, said = await explained(
        "name: for-retry\nsteps:\n  - {id: work, call: {handler: flaky, input: {failures: 9}},"
        " retry: {max_attempts: 3, initial: 1h, max: 1h, jitter: none}}\n",
        "RETRY_LATER",
    )
    assert said["message"].startswith("attempt 2 of 3 waits for its back-off: FLAKY: ")
    assert said["until"]
    await sam.post(f"/api/v1/workflows/{run}/cancel")


async def test_a_compensation(sam, explained):
    run, said = await explained(
        "name: for-undo\nsteps:\n"
        "  - {id: hold, call: {handler: echo, input: {}}, compensate: {call: {handler: sleep, input: {seconds: 30}}}}\n"
        "  - {id: no, fail: {code: NO, message: no}}\n",
        "STEP_RUNS",
        step="hold~",
    )
    assert (said["step"], said["details"]["phase"]) == ("hold~", "compensating")
    assert said["message"].startswith("while compensating: executor ")
    await sam.post(f"/api/v1/workflows/{run}/terminate")


async def test_a_gate_that_opens_later(sam, explained):
    run, said = await explained(
        "name: for-opening\nsteps:\n"
        "  - {id: ask, approval: {title: 'Go on?', opens_after: 1h, approvers: {roles: [approver]}}}\n",
        "GATE_SCHEDULED",
    )
    assert (said["step"], said["message"]) == ("ask", "its gate is not open yet: Go on?")
    gate = (await sam.get(f"/api/v1/workflows/{run}"))["approvals"][0]
    assert (said["until"], said["details"]["approval_id"]) == (gate["opens_at"], gate["id"])
    await sam.post(f"/api/v1/workflows/{run}/cancel")


async def test_one_vote_of_two(sam, ada, explained):
    run, said = await explained(
        "name: for-votes\nsteps:\n"
        "  - {id: ask, approval: {title: 'Go on?', policy: [{from: {role: approver}, count: 2}]}}\n",
        "WAITING_APPROVAL",
    )
    assert "votes" not in said["details"]
    await ada.post(f"/api/v1/workflows/{run}/approvals/{said['details']['approval_id']}/approve")
    said = await sam.get(f"/api/v1/workflows/{run}/explain")
    assert (said["reason"], said["details"]["votes"]) == ("WAITING_APPROVAL", "1")
    assert said["message"] == "it waits for people: Go on? (1 voted so far)"
    await sam.post(f"/api/v1/workflows/{run}/cancel")


async def test_a_start_at_a_later_moment_and_a_pause_of_it(sam, publish):
    template = await publish("name: for-start\nsteps: [{id: work, set: {x: 1}}]\n")
    run = await sam.start({"template_id": template, "delay_seconds": 3600})
    said = await sam.get(f"/api/v1/workflows/{run['id']}/explain")
    assert (said["reason"], said["until"][:19]) == ("WAITING_START", run["start_at"][:19])
    await sam.post(f"/api/v1/workflows/{run['id']}/pause")
    assert (await sam.get(f"/api/v1/workflows/{run['id']}/explain"))["reason"] == "PAUSED"
    await sam.post(f"/api/v1/workflows/{run['id']}/cancel")


@pytest.mark.parametrize(
    ("step", "kind", "does"),
    [
        ("{id: a, http: {method: GET, url: '${{ vars.url }}'}}", "http", "makes its call"),
        ("{id: a, mcp: {server: {url: '${{ vars.url }}'}, tool: add, arguments: {}}}", "mcp", "calls a tool"),
        (
            "{id: a, agent: {endpoint: '${{ vars.url }}', model: m, prompt: hello}}",
            "model",
            "waits for an answer of the agent's model",
        ),
    ],
    ids=["http", "tool", "agent"],
)
async def test_somebody_else_who_does_not_answer(sam, explained, silent, step, kind, does):
    source = f"name: for-{kind}\nvariables: {{url: {{type: string, required: true}}}}\nsteps:\n  - {step}\n"
    run, said = await explained(source, "STEP_RUNS", {"url": silent})
    assert said["details"]["kind"] == kind
    assert does in said["message"]
    await sam.post(f"/api/v1/workflows/{run}/terminate")


async def test_a_gate_beside_a_wait(sam, explained):
    run, said = await explained(
        "name: for-both\nsteps:\n"
        "  - {id: rest, needs: [], wait: {for: 1h}}\n"
        "  - {id: ask, needs: [], approval: {title: 'Go on?', approvers: {roles: [approver]}}}\n",
        "WAITING_APPROVAL",
    )
    assert said["step"] == "ask"
    await sam.post(f"/api/v1/workflows/{run}/cancel")


async def test_a_schedule_that_is_paused_and_one_behind_its_own_run(stack, sam, publish):
    template = await publish("name: for-schedule\nsteps: [{id: go, wait_for: {signal: go}}]\n")
    # Once a year, at the minute that has just gone by.
    at = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - dt.timedelta(minutes=1)
    cron = f"{at.minute} {at.hour} {at.day} {at.month} *"
    terms = {"name": "for-explain", "template_id": template, "cron": cron, "overlap": "queue"}
    made = await sam.post("/api/v1/schedules", terms)
    path = f"/api/v1/schedules/{made['id']}"
    said = await sam.get(f"{path}/explain")
    assert (said["reason"], said["until"]) == ("WAITING_TIME", made["next_at"])
    run = (await sam.post(f"{path}/trigger"))["id"]
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute("UPDATE schedules SET next_at = %s WHERE id = %s", (at, made["id"]))

    async def queued():
        said = await sam.get(f"{path}/explain")
        return said if said["reason"] == "OVERLAP" else None

    assert (await wait_for(queued))["details"]["run"] == run
    await sam.post(f"{path}/pause")
    assert (await sam.get(f"{path}/explain"))["reason"] == "PAUSED"
    await sam.post(f"/api/v1/workflows/{run}/cancel")
    await sam.call("DELETE", path)


async def test_a_webhook_whose_receiver_fails_and_one_that_is_disabled(root, sam, publish, silent):
    made = await root.post("/api/v1/webhooks", {"url": silent, "event_types": ["run.*"]})
    path = f"/api/v1/webhooks/{made['id']}"
    await sam.start({"template_id": await publish("name: for-webhook\nsteps: [{id: a, set: {x: 1}}]\n")})

    async def failing():
        said = await root.get(f"{path}/explain")
        return said if said["reason"] == "RETRY_LATER" else None

    said = await wait_for(failing, seconds=60)
    assert said["message"] == "attempt 1 failed: it did not answer within 3 s"
    assert said["until"]
    await root.post(f"{path}/disable")
    said = await root.get(f"{path}/explain")
    assert (said["reason"], said["details"]["disabled_reason"]) == ("DISABLED", "asked")
    await root.call("DELETE", path)
