"""Why is it not moving: the reason is the true one, and only the owner is told."""

from __future__ import annotations

import psycopg
import pytest
from wfe_stack.rest import Refused
from wfe_stack.waiting import wait_for
from wfe_store.pool import Database
from wfe_store.switches import hold_dispatch, release_dispatch

ONE = "name: {name}\nsteps:\n  - {{id: work, queue: {queue}, call: {{handler: {handler}, input: {{seconds: 30}}}}}}\n"


async def reason_of(rest, run):
    return await rest.get(f"/api/v1/workflows/{run}/explain")


async def until(rest, run, reason):
    async def found():
        said = await reason_of(rest, run)
        return said if said["reason"] == reason else None

    return await wait_for(found, what=reason)


@pytest.fixture
def start(sam, publish):
    """Starts a run with one step of a handler, on a queue."""

    async def begin(name, queue="default", handler="sleep"):
        template = await publish(ONE.format(name=name, queue=queue, handler=handler))
        return (await sam.start({"template_id": template}))["id"]

    return begin


async def test_a_step_that_runs_then_a_pause_then_the_end(sam, start):
    run = await start("runs")
    said = await until(sam, run, "STEP_RUNS")
    assert said["step"] == "work"
    assert said["details"]["executor"]
    await sam.post(f"/api/v1/workflows/{run}/pause")
    assert (await reason_of(sam, run))["action"] == "resume it"
    await sam.post(f"/api/v1/workflows/{run}/cancel", {"reason": "enough"})
    assert (await until(sam, run, "ENDED"))["message"].startswith("it was cancelled")


async def test_a_queue_nobody_serves(sam, start):
    run = await start("lonely", queue="gpu")
    said = await until(sam, run, "NO_EXECUTOR")
    assert said["action"] == "start an executor with WFE_EXECUTOR_QUEUES=gpu"
    of_queue = await sam.get("/api/v1/queues/gpu/explain")
    assert (of_queue["reason"], of_queue["details"]["ready"]) == ("NO_EXECUTOR", "1")
    await sam.post(f"/api/v1/workflows/{run}/cancel")


async def test_a_gate(sam, sample):
    run = (await sam.start({"template_id": await sample("publish-article"), "input": {"text": "Some words."}}))["id"]
    said = await until(sam, run, "WAITING_APPROVAL")
    gates = (await sam.get(f"/api/v1/workflows/{run}"))["approvals"]
    assert said["details"]["approval_id"] == gates[0]["id"]
    await sam.post(f"/api/v1/workflows/{run}/cancel")


async def test_a_wait(sam, publish):
    source = "name: waits\nsteps:\n  - {id: rest, wait: {for: 1h}}\n"
    run = (await sam.start({"template_id": await publish(source)}))["id"]
    said = await until(sam, run, "WAITING_TIME")
    assert said["until"]
    await sam.post(f"/api/v1/workflows/{run}/cancel")


IN_A_SECOND = "name: held\nsteps:\n  - {id: work, timeout: {queue: 1s}, call: {handler: echo, input: {}}}\n"


async def test_dispatch_that_an_operator_holds(stack, sam, publish):
    template = await publish(IN_A_SECOND)
    log = stack.settings.folder / "logs" / "scheduler.log"
    database = Database(stack.database_url, name="test", size=2)
    await database.open()
    try:
        held = log.read_text().count("dispatch is held")
        async with database.connection() as connection:
            assert await hold_dispatch(connection, "test", "looking around")
        await wait_for(lambda: log.read_text().count("dispatch is held") > held)
        run = (await sam.start({"template_id": template}))["id"]
        said = await until(sam, run, "DISPATCH_HELD")
        assert said["message"] == "an operator holds dispatch (looking around): no step is handed out"
        # Its queue clock of a second stands still meanwhile.
        query = "SELECT clock_timestamp() > max(queue_deadline) + interval '2 s' FROM dispatch WHERE run_id = %s"
        with psycopg.connect(stack.database_url, autocommit=True) as connection:
            await wait_for(lambda: connection.execute(query, (run,)).fetchone()[0])
        assert (await sam.get(f"/api/v1/workflows/{run}"))["status"] == "running"
    finally:
        async with database.connection() as connection:
            await release_dispatch(connection)
        await database.close()
    assert (await sam.wait_ended(run))["status"] == "completed"


async def test_nobody_else_is_told(sam, stranger, start):
    run = await start("mine", queue="gpu")
    with pytest.raises(Refused) as refused:
        await reason_of(stranger, run)
    assert refused.value.status == 404
    assert (await stranger.get("/api/v1/queues/gpu/explain"))["reason"] == "IDLE"
    await sam.post(f"/api/v1/workflows/{run}/cancel")
