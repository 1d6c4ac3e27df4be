"""Partitions by a moved clock: made ahead, kept while anything in them matters, archived, dropped."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import uuid

import psycopg
import pytest
from wfe_store import admin, retention
from wfe_store.migrate import PARTITIONED, first_id
from wfe_store.watching import children_late, months_ahead, stray_rows, stuck_runs

JANUARY = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
YEAR = 365 * DAY


async def drop(connection, archive):
    """Drop what is older than a year, a year after February 2031; what became of January."""
    now = JANUARY + 33 * DAY + YEAR
    found = await retention.drop_old(connection, older_than=YEAR, archive=archive, now=now)
    return next(one for one in found if one.month == dt.date(2031, 1, 1))


@pytest.fixture
async def connection(database_url):
    async with retention.connect(database_url) as found:
        yield found


async def put(connection, started, *, ended=None, output='{"a":\n 1}'):
    """A run with a step, an event and a snapshot; gives its id."""
    run = uuid.UUID(int=first_id(started).int + uuid.uuid4().int % (1 << 60))
    status = "completed" if ended else "running"
    await connection.execute(
        "INSERT INTO runs (id, owner_id, template_id, template_name, template_version, status, version, seq, state,"
        " input, output, trigger_type, created_by, created_at, updated_at, ended_at)"
        " VALUES (%s, %s, %s, 't', 1, %s, 1, 1, '{}', '{}', %s, 'api', %s, %s, %s, %s)",
        (run, run, run, status, output, run, started, started, ended),
    )
    await connection.execute(
        "INSERT INTO steps (run_id, no, path, kind, status, seq, created_at)"
        " VALUES (%s, 1, 'a', 'call', 'completed', 1, %s)",
        (run, started),
    )
    await connection.execute(
        "INSERT INTO events (run_id, seq, at, type, actor, data) VALUES (%s, 1, %s, 'run.created', 'x', '{}')",
        (run, started),
    )
    await connection.execute(
        "INSERT INTO snapshots (run_id, id, seq, kind, state, created_at) VALUES (%s, %s, 1, 'demand', '{}', %s)",
        (run, run, started),
    )
    await connection.execute("INSERT INTO sealed_values (run_id, name, ciphertext) VALUES (%s, 'k', 'x')", (run,))
    await connection.execute("INSERT INTO blobs (run_id, id, part, data) VALUES (%s, %s, 0, 'x')", (run, run))
    await connection.execute(
        "INSERT INTO signals (run_id, id, name, payload, at) VALUES (%s, %s, 's', '{}', %s)", (run, run, started)
    )
    return run


async def tables(connection):
    cursor = await connection.execute(r"SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '%\_2031%'")
    return {row[0] for row in await cursor.fetchall()}


async def test_months_are_made_ahead_once(connection):
    made = await retention.make_partitions(connection, now=JANUARY + 14 * DAY, ahead=2)
    assert set(made) == {f"{table}_2031{month}" for table in PARTITIONED for month in ("01", "02", "03")}
    assert await retention.make_partitions(connection, now=JANUARY + 14 * DAY, ahead=2) == []
    assert await months_ahead(connection) >= 3


async def test_rows_that_strayed_move_into_their_month(connection):
    run = await put(connection, JANUARY + DAY)
    assert set((await stray_rows(connection, list(PARTITIONED))).values()) == {1}
    await retention.make_partitions(connection, now=JANUARY, ahead=0)
    assert set((await stray_rows(connection, list(PARTITIONED))).values()) == {0}
    for table, column in (("runs_203101", "id"), ("steps_203101", "run_id"), ("events_203101", "run_id")):
        cursor = await connection.execute(f"SELECT {column} FROM {table}")
        assert await cursor.fetchall() == [(run,)]


async def test_an_old_month_is_archived_and_dropped(connection, tmp_path):
    await retention.make_partitions(connection, now=JANUARY, ahead=1)
    old = [await put(connection, JANUARY + n * DAY, ended=JANUARY + (n + 1) * DAY) for n in range(3)]
    young = await put(connection, JANUARY + 40 * DAY, ended=JANUARY + 41 * DAY)
    found = await drop(connection, tmp_path)
    assert found.kept == ""
    assert found.rows == {"runs": 3, "steps": 3, "events": 3, "snapshots": 3, "blobs": 3, "gates": 0, "signals": 3} | {
        "gate_notes": 0,
        "gate_votes": 0,
    }
    assert await tables(connection) == {f"{table}_203102" for table in PARTITIONED}
    cursor = await connection.execute("SELECT id FROM runs")
    assert await cursor.fetchall() == [(young,)]
    for table in ("sealed_values", "signals"):
        cursor = await connection.execute(f"SELECT run_id FROM {table}")
        assert await cursor.fetchall() == [(young,)]
    archived = retention.read_archive(tmp_path / "runs-203101.ndjson")
    assert {row["id"] for row in archived} == {str(run) for run in old}
    assert archived[0]["output"] == '{"a":\n 1}'
    assert {path.name for path in tmp_path.glob("*-203101.*")} == {
        f"{table}-203101.ndjson" for table in retention.ARCHIVED
    }


@pytest.mark.parametrize(
    ("ended", "why"),
    [(None, "1 of its runs have not ended"), (JANUARY + 20 * DAY + YEAR, "1 of its runs ended more recently")],
)
async def test_one_run_that_matters_keeps_its_month(connection, tmp_path, ended, why):
    await retention.make_partitions(connection, now=JANUARY, ahead=0)
    await put(connection, JANUARY + DAY, ended=JANUARY + 2 * DAY)
    await put(connection, JANUARY + DAY, ended=ended)
    found = await drop(connection, tmp_path)
    assert found.kept.startswith(why)
    assert len(await tables(connection)) == len(PARTITIONED)
    assert list(tmp_path.glob("*-203101*")) == []


async def test_a_run_that_is_retried_while_it_is_archived_keeps_its_month(
    connection, tmp_path, monkeypatch, database_url
):
    await retention.make_partitions(connection, now=JANUARY, ahead=0)
    run = await put(connection, JANUARY + DAY, ended=JANUARY + 2 * DAY)
    archive = retention._archive

    async def meanwhile(*arguments):
        count = await archive(*arguments)
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
            await other.execute("UPDATE runs SET status = 'running', ended_at = NULL WHERE id = %s", (run,))
        return count

    monkeypatch.setattr(retention, "_archive", meanwhile)
    found = await drop(connection, tmp_path)
    assert found.kept == "1 of its runs have not ended"
    assert len(await tables(connection)) == len(PARTITIONED)


async def test_an_archive_that_cannot_be_written_drops_nothing(connection, tmp_path):
    await retention.make_partitions(connection, now=JANUARY, ahead=0)
    await put(connection, JANUARY + DAY, ended=JANUARY + 2 * DAY)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        await drop(connection, tmp_path / "file")
    assert len(await tables(connection)) == len(PARTITIONED)


def test_the_command_line(database_url, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WFE_DATABASE_URL", database_url)
    assert admin.main(["partitions", "make", "--ahead", "1"]) == 0
    assert admin.main(["partitions", "list"]) == 0
    assert admin.main(["retention", "run", "--older-than", "400d", "--archive", str(tmp_path)]) == 0
    assert admin.main(["dispatch", "hold", "--reason", "after a restore"]) == 0
    assert admin.main(["dispatch", "show"]) == 0
    assert admin.main(["dispatch", "release"]) == 0
    assert admin.main(["queues"]) == 0
    assert admin.main(["retention", "show"]) == 0
    assert admin.main(["stuck"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"no month is old enough\nforgotten: 0 idempotency, .*\nanalyzed", said)
    assert re.search(r"(?m)^runs +[0-9.]+ MB  dropped by month, archived before$", said)
    assert "after a restore" in said
    assert "released, after 0 s" in said
    assert admin.main(["partitions", "drop", "--older-than", "400d"]) == 2
    assert "say --without-archive" in capsys.readouterr().err
    monkeypatch.setenv("WFE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
    assert admin.main(["stuck"]) == 1


async def test_no_table_with_rows_of_runs_is_forgotten(connection):
    cursor = await connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'run_id'"
        " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace"
    )
    partitioned = set(PARTITIONED) - {"runs"}  # its column is id
    assert {row[0] for row in await cursor.fetchall()} == partitioned | {*retention.BESIDE, *retention.BY_OWN_AGE}
    assert set(retention.ARCHIVED) <= partitioned | set(retention.BESIDE) | {"runs"}


async def test_what_is_of_no_use_any_more_goes_by_its_own_age(connection):
    run = await put(connection, dt.datetime.now(dt.UTC))
    for age in (1, 50):
        created = dt.datetime.now(dt.UTC) - age * DAY
        await connection.execute(
            "INSERT INTO idempotency (owner_id, key, request_hash, run_id, created_at) VALUES (%s, %s, 'h', %s, %s)",
            (run, f"k{age}", run, created),
        )
        await connection.execute(
            "INSERT INTO run_traces (run_id, traceparent, created_at) VALUES (%s, 't', %s)", (uuid.uuid4(), created)
        )
    nothing = dict.fromkeys(retention.LEFTOVERS, 0)
    gone = await retention.drop_leftovers(connection, older_than=10 * DAY)
    assert gone == nothing | {"idempotency": 1, "run_traces": 1}
    cursor = await connection.execute("SELECT key FROM idempotency")
    assert await cursor.fetchall() == [("k1",)]
    # A year later, by a clock that is moved.
    later = dt.datetime.now(dt.UTC) + YEAR
    gone = await retention.drop_leftovers(connection, older_than=10 * DAY, now=later)
    assert gone == nothing | {"idempotency": 1, "run_traces": 1}


async def test_what_was_told_outside_goes_by_age_and_what_is_to_be_told_stays(connection):
    owner, webhook, person = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    now = dt.datetime.now(dt.UTC)
    await connection.execute("INSERT INTO owners (id, name) VALUES (%s, 'acme')", (owner,))
    await connection.execute(
        "INSERT INTO webhooks (id, owner_id, name, url, event_types, created_by) VALUES (%s, %s, 'w', 'u', '{*}', %s)",
        (webhook, owner, person),
    )
    await connection.execute(
        "INSERT INTO hooks (id, owner_id, name, scheme, signal, workflow, secret, created_by)"
        " VALUES (%s, %s, 'h', 'standard', 's', 'w', 'x', %s)",
        (webhook, owner, person),
    )
    for name, status, age in (("told", "delivered", 50), ("pending", "pending", 50), ("young", "failed", 1)):
        at = now - age * DAY
        await connection.execute(
            "INSERT INTO webhook_messages (id, owner_id, type, body, created_at) VALUES (%s, %s, 't', '{}', %s)",
            (name, owner, at),
        )
        await connection.execute(
            "INSERT INTO webhook_deliveries (id, owner_id, webhook_id, message_id, status, next_at, created_at)"
            " VALUES (gen_random_uuid(), %s, %s, %s, %s, %s, %s)",
            (owner, webhook, name, status, at, at),
        )
        await connection.execute(
            "INSERT INTO hook_receipts (hook_id, message_id, status, received_at) VALUES (%s, %s, 'filtered', %s)",
            (webhook, name, at),
        )
    for ends, revoked in ((-50, None), (None, -50), (None, None), (50, None)):
        moments = [None if days is None else now + days * DAY for days in (ends, revoked)]
        await connection.execute(
            "INSERT INTO delegations (id, owner_id, from_id, to_id, starts_at, ends_at, revoked_at, created_by)"
            " VALUES (gen_random_uuid(), %s, %s, %s, %s, %s, %s, %s)",
            (owner, person, webhook, now - 90 * DAY, *moments, person),
        )
    gone = await retention.drop_leftovers(connection, older_than=10 * DAY)
    assert gone == {"idempotency": 0, "run_traces": 0} | {
        "webhook_deliveries": 1, "webhook_messages": 1, "hook_receipts": 2, "delegations": 2,
    }  # fmt: skip
    cursor = await connection.execute("SELECT message_id FROM webhook_deliveries ORDER BY 1")
    assert await cursor.fetchall() == [("pending",), ("young",)]
    cursor = await connection.execute("SELECT id FROM webhook_messages ORDER BY 1")
    assert await cursor.fetchall() == [("pending",), ("young",)]


async def test_every_table_says_what_makes_its_rows_go(connection):
    found = {one.table: one for one in await retention.kept(connection)}
    cursor = await connection.execute(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace = 'public'::regnamespace"
    )
    assert set(found) == {row[0] for row in await cursor.fetchall()}
    assert found["runs"].rule == "dropped by month, archived before"
    assert found["gates"].rule == "goes with the month of its run, archived before"
    assert found["run_traces"].rule == "goes with the month of its run or by its own age"
    assert found["webhook_deliveries"].rule == "by its own age"
    assert found["templates"].rule == "stays until it is removed"
    # What grows with the runs and has no rule would fill the disk.
    stays = {one.table for one in found.values() if one.rule == "stays until it is removed"}
    assert stays == {
        "alembic_version", "api_keys", "group_members", "groups", "hooks", "owners", "principals", "schedules",
        "secrets", "switches", "template_versions", "templates", "webhook_secrets", "webhooks",
    }  # fmt: skip


async def waits_for_signal(connection, run):
    await connection.execute("UPDATE steps SET kind = 'wait_for', status = 'waiting' WHERE run_id = %s", (run,))


async def waits_for_child(connection, run):
    await connection.execute("UPDATE steps SET kind = 'workflow', status = 'waiting' WHERE run_id = %s", (run,))
    await connection.execute(
        "INSERT INTO children (run_id, no, child_id, owner_id, started_by, wish, request, wished_at)"
        " VALUES (%s, 1, %s, %s, %s, 'start', '{}', clock_timestamp())",
        (run, uuid.uuid4(), run, run),
    )


async def waits_for_time(connection, run):
    await connection.execute("UPDATE steps SET kind = 'wait', status = 'waiting' WHERE run_id = %s", (run,))
    await connection.execute(
        "INSERT INTO timers (run_id, no, due_at) VALUES (%s, 1, clock_timestamp() + interval '1 h')", (run,)
    )


async def waits_for_people(connection, run):
    await connection.execute(
        "INSERT INTO gates (id, run_id, no, owner_id, path, status, title, policy, digest, started_by, created_at)"
        " VALUES (%s, %s, 1, %s, 'a', 'open', 't', '{}', 'd', %s, clock_timestamp())",
        (uuid.uuid4(), run, run, run),
    )


async def waits_for_a_gate_to_open(connection, run):
    await waits_for_people(connection, run)
    await connection.execute("UPDATE gates SET status = 'scheduled', opens_at = clock_timestamp() + interval '1 h'")


async def waits_for_its_start(connection, run):
    await connection.execute("UPDATE runs SET status = 'pending', started_at = NULL WHERE id = %s", (run,))
    await connection.execute(
        "INSERT INTO timers (run_id, no, due_at) VALUES (%s, 0, clock_timestamp() + interval '1 h')", (run,)
    )


async def waits_for_an_executor(connection, run):
    await connection.execute(
        "INSERT INTO dispatch (run_id, no, owner_id, path, kind, queue, request, attempt, max_attempts, fence,"
        " available_at, created_at) VALUES (%s, 1, %s, 'a', 'call', 'q', '{}', 2, 3, 1,"
        " clock_timestamp() + interval '1 h', clock_timestamp())",
        (run, run),
    )


async def is_paused(connection, run):
    await connection.execute("UPDATE runs SET status = 'paused' WHERE id = %s", (run,))


WAITS = (
    waits_for_signal,
    waits_for_child,
    waits_for_time,
    waits_for_people,
    waits_for_a_gate_to_open,
    waits_for_its_start,
    waits_for_an_executor,
    is_paused,
)


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
async def test_a_run_that_waits_is_not_stuck(connection, wait):
    await wait(connection, await put(connection, dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)))
    assert await stuck_runs(connection) == []


@pytest.mark.parametrize("kind", ["wait", "workflow"])
async def test_a_wait_that_nothing_ends_is_stuck_whatever_the_run_s_own_clock_says(connection, kind):
    run = await put(connection, dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    await connection.execute("UPDATE steps SET kind = %s, status = 'waiting' WHERE run_id = %s", (kind, run))
    await connection.execute(
        "INSERT INTO timers (run_id, no, due_at) VALUES (%s, 0, clock_timestamp() + interval '1 h')", (run,)
    )
    assert await stuck_runs(connection) == [run]


async def test_a_child_run_nobody_has_begun_and_an_end_nobody_told_are_late(connection):
    assert await children_late(connection) == 0
    now = dt.datetime.now(dt.UTC)
    parent = await put(connection, now - dt.timedelta(hours=1))
    child = await put(connection, now - dt.timedelta(hours=1), ended=now - dt.timedelta(minutes=10))
    await waits_for_child(connection, parent)
    await connection.execute("UPDATE children SET wished_at = clock_timestamp() - interval '5 min'")
    assert 290 < await children_late(connection) < 400
    await connection.execute("UPDATE children SET child_id = %s, done = true", (child,))
    assert await children_late(connection) == 0
    await connection.execute("UPDATE children SET ended = true")
    assert 590 < await children_late(connection) < 700


async def test_a_run_that_nothing_can_move_is_stuck(connection, database_url, monkeypatch, capsys):
    now = dt.datetime.now(dt.UTC)
    moving, stuck = [await put(connection, now - dt.timedelta(hours=1)) for _ in range(2)]
    await connection.execute(
        "INSERT INTO timers (run_id, no, due_at) VALUES (%s, 1, clock_timestamp() + interval '1 h')", (moving,)
    )
    monkeypatch.setenv("WFE_DATABASE_URL", database_url)
    assert await asyncio.to_thread(admin.main, ["stuck"]) == 1
    assert capsys.readouterr().out == f"{stuck}\n"
