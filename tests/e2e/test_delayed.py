"""Starts that wait for their moment, and runs that a signal starts, on the real engine."""

from __future__ import annotations

import datetime as dt
import uuid

from e2e_runs import moment, path_of, refused, statuses, step_of, types, until
from wfe_stack.rest import Rest

WORK = "name: delayed-work\nsteps: [{id: work, call: {handler: echo, input: {text: hi}}}]"
WAITS = """
name: started-by-signal
steps:
  - {id: paid, wait_for: {signal: paid}}
output: "${{ steps.paid.output.payload }}"
"""


async def test_a_run_waits_for_its_moment_and_its_start_may_be_repeated(sam: Rest, publish):
    body, key = {"template_id": await publish(WORK), "delay_seconds": 3}, str(uuid.uuid4())
    accepted = await sam.start(body, key=key)
    assert accepted["status"] == "pending"
    assert abs(moment(accepted["start_at"]) - moment(accepted["created_at"]) - 3) < 0.001
    waiting = await sam.get(path_of(accepted["id"]))
    assert (waiting["status"], waiting["steps"], types(waiting)) == ("pending", [], ["run.created"])
    assert not waiting.get("started_at")
    done = await until(sam, accepted["id"], "completed")
    assert moment(done["started_at"]) >= moment(done["start_at"])
    assert moment(done["started_at"]) - moment(done["start_at"]) < 5
    assert step_of(done, "work")["status"] == "completed"
    again = await sam.start(body, key=key)
    assert again == accepted, "the same key gets the same answer, whatever has happened since"


async def test_a_run_that_waits_for_its_start_is_in_no_process(crash_stack, publish):
    async with Rest(crash_stack.url, crash_stack.keys["sam"], repeat_seconds=30) as sam:
        at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=8)
        body = {"template_id": await publish(WORK, sam), "start_at": at.isoformat()}
        run, paused = await sam.start(body), await sam.start(body)
        await sam.post(path_of(paused["id"], "pause"))
        for part in ("scheduler", "scheduler-2"):
            await crash_stack.kill(part)
        for part in ("scheduler", "scheduler-2"):
            await crash_stack.restart(part, ready=False)
        await crash_stack.ready()
        done = await until(sam, run["id"], "completed")
        assert moment(done["started_at"]) >= at.timestamp()
        held = await sam.get(path_of(paused["id"]))
        assert (held["status"], held["steps"]) == ("paused", [])
        await sam.post(path_of(paused["id"], "cancel"))
        again = await sam.post(path_of(paused["id"], "retry"))
        assert again["status"] == "running", "retried by hand, it starts at once"
        await until(sam, paused["id"], "completed")


async def test_a_signal_starts_a_run_and_is_what_it_waits_for(sam: Rest, publish):
    template = await publish(WAITS)
    body = {"template_id": template, "signal": {"name": "paid", "payload": {"amount": 5}}}
    key = str(uuid.uuid4())
    run = await sam.start(body, key=key)
    assert run["trigger_type"] == "signal"
    assert (await sam.start(body, key=key))["id"] == run["id"]
    done = await until(sam, run["id"], "completed")
    assert (done["trigger_type"], done["output"]) == ("signal", {"amount": 5})
    assert types(done).count("signal.received") == 1, "told once, however often the start was repeated"
    kept = await sam.start({**body, "delay_seconds": 2})
    assert (await sam.get(path_of(kept["id"])))["status"] == "pending", "a signal does not start it before its time"
    assert (await until(sam, kept["id"], "completed"))["output"] == {"amount": 5}
    other = await sam.start({"template_id": template, "signal": {"name": "else"}})
    waiting = await until(sam, other["id"], lambda found: statuses(found).get("paid") == "waiting")
    await sam.post(path_of(waiting["id"], "cancel"))


async def test_what_is_wrong_with_a_delayed_start(sam: Rest, publish):
    template = await publish(WORK)
    far = (dt.datetime.now(dt.UTC) + dt.timedelta(days=400)).isoformat()
    for wrong in (
        {"start_at": far},
        {"delay_seconds": -1},
        {"delay_seconds": 2**31 - 1},
        {"signal": {"name": "no good"}},
    ):
        refusal = await refused(sam.start({"template_id": template, **wrong}))
        assert refusal.status == 400
        assert next(iter(wrong)) in refusal.message
