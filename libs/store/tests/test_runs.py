"""Reading runs: one with all that belongs to it, filtered lists."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import uuid
from typing import Any

import msgspec
import pytest
from wfe_engine.errors import NotFound
from wfe_store.history import History
from wfe_store.paging import TOTAL_CAP, compiled
from wfe_store.pool import Database
from wfe_store.runs import MOST_EVENTS, MOST_LISTED, MOST_PAYLOAD, Filters, Runs, _matching, _page

from .rows import NOW, SECOND, add_run, insert, run_id_of


@pytest.fixture
def runs(database: Database) -> Runs:
    return Runs(database)


@pytest.fixture
def history(database: Database) -> History:
    return History(database)


# ---- one run


async def test_get_joins_ended_and_live_steps_in_the_order_of_entering(
    database: Database, runs: Runs, owner_id: uuid.UUID
) -> None:
    run_id = await add_run(database, owner_id, seq=3)
    later = NOW + dt.timedelta(hours=1)
    await insert(database, "executors", id="e1", lease_until=later, heartbeat_at=NOW + SECOND)
    await insert(database, "steps", run_id=run_id, no=2, path="b", status="failed", attempts=3, error='{"code":"X"}')
    await insert(database, "steps", run_id=run_id, no=1, path="a", output='{"n":1}', attempts=1, ended_at=NOW)
    live = {"run_id": run_id, "owner_id": owner_id}
    # Step 2 is run again after a retry of the run: its dispatch row wins.
    await insert(database, "dispatch", **live, no=2, path="b", executor_id="e1", leased_at=NOW, progress='{"p":1}')
    await insert(database, "dispatch", **live, no=4, path="d", attempt=3, available_at=later, error='{"code":"Y"}')
    await insert(database, "dispatch", **live, no=3, path="c", request='{"u":1}', lease_losses=2)

    detail = await runs.get(owner_id, run_id)

    shown = [(s.no, s.path, s.status, s.attempts, s.executor, s.due_at) for s in detail.steps]
    assert shown == [
        (1, "a", "completed", 1, "", None),
        (2, "b", "running", 0, "e1", None),
        (3, "c", "ready", 0, "", None),
        (4, "d", "ready", 2, "", later),
    ]
    one, two, three, four = detail.steps
    assert (one.output, one.ended_at) == ('{"n":1}', NOW)
    assert (two.started_at, two.progress, two.error) == (NOW, '{"p":1}', None)
    assert (three.input, three.lease_losses, three.started_at) == ('{"u":1}', 2, None)
    assert four.error == '{"code":"Y"}'
    assert detail.run.heartbeat_at == NOW + SECOND


async def test_heartbeat_is_the_newest_of_live_leases_only(database: Database, runs: Runs, owner_id: uuid.UUID) -> None:
    run_id = await add_run(database, owner_id)
    idle = await add_run(database, owner_id)
    past, later = NOW - dt.timedelta(hours=1), NOW + dt.timedelta(hours=1)
    await insert(database, "executors", id="dead", lease_until=past, heartbeat_at=NOW)
    await insert(database, "executors", id="old", lease_until=later, heartbeat_at=NOW - 9 * SECOND)
    await insert(database, "executors", id="new", lease_until=later, heartbeat_at=NOW - 2 * SECOND)
    await insert(database, "executors", id="idle", lease_until=later, heartbeat_at=NOW)

    async def hold(no: int, executor: str | None) -> None:
        await insert(database, "dispatch", run_id=run_id, owner_id=owner_id, no=no, executor_id=executor, leased_at=NOW)

    async def heartbeats() -> tuple[dt.datetime | None, dt.datetime | None]:
        listed = {run.id: run for run in (await runs.list(owner_id, Filters(), limit=9, offset=0)).runs}
        assert listed[idle].heartbeat_at is None
        return (await runs.get(owner_id, run_id)).run.heartbeat_at, listed[run_id].heartbeat_at

    await hold(1, None)
    await hold(2, "dead")
    assert await heartbeats() == (None, None)
    await hold(3, "old")
    await hold(4, "new")
    assert await heartbeats() == (NOW - 2 * SECOND, NOW - 2 * SECOND)


async def test_get_has_the_gates_of_the_run_oldest_first(database: Database, runs: Runs, owner_id: uuid.UUID) -> None:
    run_id, other = await add_run(database, owner_id), await add_run(database, owner_id)
    first, second = uuid.uuid4(), uuid.uuid4()
    gate = {"run_id": run_id, "owner_id": owner_id}
    await insert(database, "gates", **gate, id=second, created_at=NOW + SECOND, policy='{"users":["ada"]}')
    await insert(database, "gates", **gate, id=first, status="superseded", decided_at=NOW)
    await insert(database, "gates", run_id=other, owner_id=owner_id, id=uuid.uuid4())
    gates = (await runs.get(owner_id, run_id)).gates
    assert [(g.id, g.status, g.policy.users) for g in gates] == [
        (first, "superseded", ()),
        (second, "open", ("ada",)),
    ]
    await insert(database, "gates", **gate, id=uuid.uuid4(), created_at=NOW + 2 * SECOND, expires_at=NOW - SECOND)
    assert [g.overdue for g in (await runs.get(owner_id, run_id)).gates] == [False, False, True]


async def test_get_has_the_newest_events(database: Database, runs: Runs, owner_id: uuid.UUID) -> None:
    run_id = await add_run(database, owner_id, seq=MOST_EVENTS + 5)
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO events (run_id, seq, at, type, actor, data)"
            " SELECT %s, n, clock_timestamp(), 't', 'system', '{}' FROM generate_series(1, %s) n",
            (run_id, MOST_EVENTS + 5),
        )
    events = (await runs.get(owner_id, run_id)).events
    assert [events[0].seq, events[-1].seq, len(events)] == [6, MOST_EVENTS + 5, MOST_EVENTS]


async def test_get_leaves_out_the_oldest_payloads_beyond_its_bound(
    database: Database, runs: Runs, owner_id: uuid.UUID
) -> None:
    run_id = await add_run(database, owner_id)
    half = json.dumps("x" * (MOST_PAYLOAD // 2))
    for no in (1, 2, 3):
        await insert(database, "steps", run_id=run_id, no=no, input="{}", output=half)
    steps = (await runs.get(owner_id, run_id)).steps
    assert [(s.output is None, s.left_out) for s in steps] == [
        (True, (2, len(half))),
        (True, (2, len(half))),
        (False, (0, 0)),
    ]


async def test_runs_are_looked_up_together_each_for_its_owner(
    database: Database, runs: Runs, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    ours, theirs, missing = run_id_of(), run_id_of(), run_id_of()
    await add_run(database, owner_id, id=ours, seq=3)
    await add_run(database, other_owner_id, id=theirs)
    wanted = [(owner_id, ours), (owner_id, theirs), (other_owner_id, theirs), (owner_id, missing)]
    found = await runs.basics(wanted)
    assert {place: run.id for place, run in found.items()} == {(owner_id, ours): ours, (other_owner_id, theirs): theirs}
    assert found[owner_id, ours] == (await runs.get(owner_id, ours)).run


@pytest.mark.parametrize("what", ["get", "events", "snapshots", "snapshot"])
async def test_another_owners_run_is_a_missing_one(
    database: Database,
    runs: Runs,
    history: History,
    owner_id: uuid.UUID,
    other_owner_id: uuid.UUID,
    what: str,
) -> None:
    run_id, snapshot_id = run_id_of(), uuid.uuid4()

    async def read(owner: uuid.UUID) -> Any:
        match what:
            case "get":
                return await runs.get(owner, run_id)
            case "events":
                return await history.events(owner, run_id, after=0, limit=10)
            case "snapshots":
                return await history.snapshots(owner, run_id)
        return await history.snapshot(owner, run_id, snapshot_id)

    with pytest.raises(NotFound) as missing:
        await read(other_owner_id)
    await add_run(database, owner_id, id=run_id, seq=1)
    await insert(database, "events", run_id=run_id, seq=1)
    await insert(database, "snapshots", run_id=run_id, id=snapshot_id, seq=1)
    assert await read(owner_id)
    with pytest.raises(NotFound) as foreign:
        await read(other_owner_id)
    assert (foreign.value.message, foreign.value.reason, foreign.value.metadata) == (
        missing.value.message,
        missing.value.reason,
        missing.value.metadata,
    )


async def test_undone_steps_are_the_owners_alone(
    database: Database, runs: Runs, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    run_id = await add_run(database, owner_id)
    await insert(database, "steps", run_id=run_id, no=1)
    await insert(database, "steps", run_id=run_id, no=2, status="rolled_back")
    assert await runs.undone(owner_id, run_id) == {2}
    assert await runs.undone(other_owner_id, run_id) == frozenset()


async def test_callers_that_go_away_leave_the_connections_usable(database_url: str, owner_id: uuid.UUID) -> None:
    database = Database(database_url, name="wfe-test", size=1)
    await database.open()
    try:
        runs = Runs(database)
        run_id = await add_run(database, owner_id)
        for turns in range(12):
            task = asyncio.create_task(runs.get(owner_id, run_id))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert (await runs.get(owner_id, run_id)).run.id == run_id
    finally:
        await database.close()


# ---- lists


async def test_list_is_newest_first_and_counts(database: Database, runs: Runs, owner_id: uuid.UUID) -> None:
    ids = [await add_run(database, owner_id, created_at=NOW + n * SECOND) for n in range(5)]
    ids.reverse()

    async def page(limit: int, offset: int) -> tuple[list[uuid.UUID], int, bool]:
        listed = await runs.list(owner_id, Filters(), limit=limit, offset=offset)
        return [run.id for run in listed.runs], listed.total, listed.capped

    assert await page(50, 0) == (ids, 5, False)
    assert await page(2, 0) == (ids[:2], 5, False)
    assert await page(5, 0) == (ids, 5, False)
    assert await page(2, 4) == (ids[4:], 5, False)
    assert await page(2, 5) == ([], 5, False)
    assert await page(2, 900_000) == ([], 5, False)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(), "abc"),
        (Filters(status="failed"), "b"),
        (Filters(status="paused"), ""),
        (Filters(template_id=uuid.UUID(int=7)), "c"),
        (Filters(labels=[("team", "red")]), "ab"),
        (Filters(labels=[("team", "red"), ("env", "é\"'=")]), "b"),
        (Filters(labels=[("team", "red"), ("team", "blue")]), ""),
        (Filters(labels=[("te", "red")]), ""),
        (Filters(created_after=NOW + SECOND), "bc"),
        (Filters(created_before=NOW + SECOND), "a"),
        (Filters(created_after=NOW + SECOND, created_before=NOW + 2 * SECOND), "b"),
        (Filters(created_after=dt.datetime.min.replace(tzinfo=dt.UTC)), "abc"),
        (Filters(created_before=dt.datetime.max.replace(tzinfo=dt.UTC)), "abc"),
        (Filters(created_after=dt.datetime.max.replace(tzinfo=dt.UTC)), ""),
        (Filters(status="failed", labels=[("team", "red")], created_after=NOW), "b"),
        (Filters(status="failed", template_id=uuid.UUID(int=7)), ""),
    ],
)
async def test_every_filter_must_hold(
    database: Database,
    runs: Runs,
    owner_id: uuid.UUID,
    other_owner_id: uuid.UUID,
    filters: Filters,
    found: str,
) -> None:
    names = {
        await add_run(database, owner_id, labels={"team": "red"}): "a",
        await add_run(
            database,
            owner_id,
            # The clock that made the id was behind the store's.
            id=run_id_of(NOW - dt.timedelta(minutes=5)),
            labels={"team": "red", "env": "é\"'="},
            status="failed",
            created_at=NOW + SECOND,
        ): "b",
        await add_run(
            database, owner_id, created_at=NOW + 2 * SECOND, template_id=uuid.UUID(int=7), labels={"team": "blue"}
        ): "c",
    }
    await add_run(database, other_owner_id, labels={"team": "red"}, status="failed")
    listed = await runs.list(owner_id, filters, limit=10, offset=0)
    assert "".join(sorted(names[run.id] for run in listed.runs)) == found
    assert listed.total == len(found)


async def test_list_leaves_out_large_inputs_and_outputs(database: Database, runs: Runs, owner_id: uuid.UUID) -> None:
    large = json.dumps("x" * MOST_LISTED)
    await add_run(database, owner_id, input=large, output='"small"')
    await add_run(database, owner_id, input="{}", output=large, created_at=NOW - SECOND)
    listed = (await runs.list(owner_id, Filters(), limit=10, offset=0)).runs
    assert [(run.input, run.output) for run in listed] == [(None, '"small"'), ("{}", None)]


async def _many(database: Database, owner_id: uuid.UUID, count: int) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO runs (id, owner_id, template_id, template_name, template_version, status, version, seq,"
            " state, input, trigger_type, created_by, created_at, updated_at)"
            " SELECT overlay(gen_random_uuid()::text PLACING %s FROM 1 FOR 14)::uuid, %s, gen_random_uuid(), 't', 1,"
            " 'completed', 1, 1, '{}', '{}', 'api', gen_random_uuid(), clock_timestamp(), clock_timestamp()"
            " FROM generate_series(1, %s)",
            (str(run_id_of())[:14], owner_id, count),
        )


async def test_totals_are_exact_up_to_the_cap(database: Database, runs: Runs, owner_id: uuid.UUID) -> None:
    await _many(database, owner_id, TOTAL_CAP)
    listed = await runs.list(owner_id, Filters(), limit=1, offset=0)
    assert (listed.total, listed.capped) == (TOTAL_CAP, False)
    await _many(database, owner_id, 1)
    listed = await runs.list(owner_id, Filters(), limit=1, offset=0)
    assert (listed.total, listed.capped) == (TOTAL_CAP, True)


@pytest.mark.parametrize(
    "filters", [Filters(), Filters(status="failed"), Filters(created_after=NOW, created_before=NOW + SECOND)]
)
async def test_lists_go_through_the_owners_index(
    database: Database, owner_id: uuid.UUID, other_owner_id: uuid.UUID, filters: Filters
) -> None:
    await _many(database, other_owner_id, 3_000)
    await _many(database, owner_id, 300)
    statement, values = compiled(_page(_matching(owner_id, filters), 50, 0))
    async with database.connection() as connection:
        await connection.execute("ANALYZE runs")
        plan = "\n".join(
            line for (line,) in await (await connection.execute("EXPLAIN " + statement, values)).fetchall()
        )
    # Partitions without a row are not worth an index.
    scans = [line for line in plan.splitlines() if " on runs_" in line and "0.00..0.00" not in line]
    assert scans
    assert not [line for line in scans if "Index" not in line or "owner" not in line], plan


async def test_the_few_among_many_are_found_without_reading_the_many(
    database: Database, runs: Runs, owner_id: uuid.UUID
) -> None:
    await _many(database, owner_id, 20_000)
    async with database.connection() as connection:
        await connection.execute("ANALYZE runs")
        row = await (await connection.execute("SELECT template_id FROM runs LIMIT 1")).fetchone()
        assert row is not None
        for filters in (Filters(status="failed"), Filters(template_id=row[0])):
            statement, values = compiled(_page(_matching(owner_id, filters), 50, 0))
            explained = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "
            plan = await (await connection.execute(explained + statement, values)).fetchone()
            assert plan is not None
            top = msgspec.json.decode(plan[0])[0]["Plan"]
            assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 50, plan[0]
