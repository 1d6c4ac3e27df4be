"""Reasons that a sound engine shows for a moment only, from facts in the store."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from wfe_scheduler.explain import explain_queue, explain_run
from wfe_store.explaining import queue_facts, run_facts
from wfe_store.pool import Database

OWNER = uuid.UUID(int=7)
NOW = dt.datetime.now(dt.UTC)
LONG_AGO = NOW - dt.timedelta(minutes=10)
SOON = NOW + dt.timedelta(hours=1)


@pytest.fixture
async def given(database: Database):
    """Puts rows into a table."""

    async def put(table, **values):
        columns = ", ".join(values)
        marks = ", ".join(["%s"] * len(values))
        async with database.connection() as connection:
            await connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(values.values()))

    return put


@pytest.fixture
async def run(given):
    """A run that goes on."""
    found = uuid.uuid4()
    await given_run(given, found)
    return found


async def given_run(given, run, **values):
    defaults = {
        "owner_id": OWNER, "template_id": run, "template_name": "t", "template_version": 1, "status": "running",
        "version": 1, "seq": 1, "state": "{}", "input": "{}", "trigger_type": "api", "created_by": OWNER,
        "created_at": LONG_AGO, "updated_at": LONG_AGO,
    }  # fmt: skip
    await given("runs", id=run, **(defaults | values))


async def given_step(given, run, **values):
    defaults = {
        "no": 1, "owner_id": OWNER, "path": "work", "kind": "call", "queue": "q", "request": '{"handler": "h"}',
        "attempt": 1, "max_attempts": 3, "fence": 1, "available_at": LONG_AGO, "created_at": LONG_AGO,
    }  # fmt: skip
    await given("dispatch", run_id=run, **(defaults | values))


async def given_executor(given, *, handlers, until=SOON):
    await given(
        "executors", id="x", name="x", queues=["q"], handlers=handlers, lease_until=until, heartbeat_at=NOW,
        started_at=NOW,
    )  # fmt: skip


async def given_wait(given, run, kind, **values):
    await given("steps", run_id=run, no=1, path="w", kind=kind, status="waiting", seq=1, created_at=LONG_AGO, **values)


@pytest.fixture
def explained(database: Database):
    """The explanation of a run."""

    async def explain(run):
        async with database.connection() as connection:
            return explain_run(await run_facts(connection, OWNER, run))

    return explain


async def test_an_executor_that_went_silent(given, run, explained):
    await given_executor(given, handlers=["h"], until=LONG_AGO)
    await given_step(given, run, executor_id="x", leased_at=LONG_AGO)
    said = await explained(run)
    assert (said.reason, said.since) == ("EXECUTOR_SILENT", LONG_AGO)


async def test_executors_without_the_handler_and_without_room(given, run, explained, database):
    await given_executor(given, handlers=["other"])
    await given_step(given, run)
    said = await explained(run)
    assert (said.reason, said.details["handler"]) == ("NO_HANDLER", "h")
    async with database.connection() as connection:
        await connection.execute("UPDATE executors SET handlers = '{h}'")
        assert explain_queue(await queue_facts(connection, OWNER, "q")).reason == "EXECUTORS_BUSY"
        await connection.execute("UPDATE executors SET stopping = true")
    said = await explained(run)
    assert said.message == "no live executor serves queue q; 1 are stopping"


async def test_a_timer_nobody_took_up(given, run, explained):
    await given_wait(given, run, "wait", due_at=LONG_AGO)
    await given("timers", run_id=run, no=1, due_at=LONG_AGO)
    assert (await explained(run)).reason == "TIMER_LATE"


async def test_a_decision_the_run_was_not_told(given, run, explained):
    await given(
        "gates", id=uuid.uuid4(), run_id=run, no=1, owner_id=OWNER, path="g", status="approved", title="t",
        policy="{}", digest="d", started_by=OWNER, created_at=LONG_AGO, decided_at=LONG_AGO, outcome="approve",
    )  # fmt: skip
    assert (await explained(run)).reason == "DECISION_UNTOLD"


async def given_gate(given, run, **values):
    gate = uuid.uuid4()
    defaults = {
        "no": 1, "owner_id": OWNER, "path": "g", "status": "open", "title": "Go on?", "policy": "{}", "digest": "d",
        "started_by": OWNER, "created_at": LONG_AGO,
    }  # fmt: skip
    await given("gates", id=gate, run_id=run, **(defaults | values))
    return gate


@pytest.mark.parametrize("late", ["opens_at", "expires_at"])
async def test_a_gate_whose_moment_nobody_took_up(given, run, explained, late):
    status = "scheduled" if late == "opens_at" else "open"
    gate = await given_gate(given, run, status=status, **{late: LONG_AGO})
    said = await explained(run)
    assert (said.reason, said.since, said.details["approval_id"]) == ("GATE_LATE", LONG_AGO, str(gate))


async def test_who_has_said_what_at_a_gate_so_far(given, run, explained):
    await given("owners", id=OWNER, name="acme")
    ada = uuid.uuid4()
    await given("principals", id=ada, owner_id=OWNER, name="ada", kind="person")
    gate = await given_gate(given, run, claimed_by=ada, level=1, expires_at=SOON)
    await given(
        "gate_votes", gate_id=gate, principal_id=ada, run_id=run, name="ada", kind="person", roles=["approver"],
        groups=[], vote="approve", digest="d",
    )  # fmt: skip
    said = await explained(run)
    assert (said.reason, said.until) == ("WAITING_APPROVAL", SOON)
    assert said.message == "it waits for people: Go on? (1 voted so far); ada has taken it upon themselves"
    assert said.details == {"approval_id": str(gate), "votes": "1", "claimed_by": "ada", "escalations": "1"}


async def test_a_start_whose_moment_nobody_took_up(given, explained):
    run = uuid.uuid4()
    await given_run(given, run, status="pending")
    await given("timers", run_id=run, no=0, due_at=LONG_AGO)
    assert (await explained(run)).reason == "TIMER_LATE"


async def given_child(given, run, **values):
    child = uuid.uuid4()
    defaults = {"owner_id": OWNER, "started_by": OWNER, "wish": "start", "request": "{}", "wished_at": LONG_AGO}
    await given_wait(given, run, "workflow", input="{}")
    await given("children", run_id=run, no=1, child_id=child, **(defaults | values))
    return child


async def test_a_child_nobody_has_begun(given, run, explained):
    child = await given_child(given, run)
    said = await explained(run)
    assert (said.reason, said.details) == ("CHILD_UNTOLD", {"child": str(child), "child_status": "none"})
    assert said.message == f"no scheduler has carried out that it wants to start run {child}"


async def test_a_child_whose_end_was_not_told(given, run, explained):
    child = await given_child(given, run, done=True)
    await given_run(given, child, status="cancelled", ended_at=LONG_AGO)
    said = await explained(run)
    assert (said.reason, said.message) == ("CHILD_UNTOLD", f"run {child} has been cancelled, and it was not told")


@pytest.mark.parametrize("kind", [None, "workflow"])
async def test_nothing_that_could_move_it(given, run, explained, kind):
    if kind:
        await given_wait(given, run, kind, input="{}")
    await given("timers", run_id=run, no=0, due_at=SOON)
    assert (await explained(run)).reason == "STUCK"


async def test_names_too_large_to_show_are_no_failure(given, run, explained):
    await given_wait(given, run, "wait_for", input='{"$blob": "x"}')
    assert (await explained(run)).reason == "WAITING_SIGNAL"
