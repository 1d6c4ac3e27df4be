"""Partitions by a moved clock: made ahead, kept while anything in them matters, archived, dropped."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid

import psycopg
import pytest
from wfe_store import admin, retention
from wfe_store.migrate import PARTITIONED, first_id
from wfe_store.watching import months_ahead, stray_rows

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
    assert found.rows == {"runs": 3, "steps": 3, "events": 3, "snapshots": 3, "gates": 0}
    assert await tables(connection) == {f"{table}_203102" for table in PARTITIONED}
    cursor = await connection.execute("SELECT id FROM runs")
    assert await cursor.fetchall() == [(young,)]
    cursor = await connection.execute("SELECT run_id FROM sealed_values")
    assert await cursor.fetchall() == [(young,)]
    archived = retention.read_archive(tmp_path / "runs-203101.ndjson")
    assert {row["id"] for row in archived} == {str(run) for run in old}
    assert archived[0]["output"] == '{"a":\n 1}'
    assert {path.name for path in tmp_path.glob("*-203101.*")} == {
        f"{table}-203101.ndjson" for table in (*PARTITIONED, "gates")
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
    assert len(await tables(connection)) == 4
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
    assert len(await tables(connection)) == 4


async def test_an_archive_that_cannot_be_written_drops_nothing(connection, tmp_path):
    await retention.make_partitions(connection, now=JANUARY, ahead=0)
    await put(connection, JANUARY + DAY, ended=JANUARY + 2 * DAY)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        await drop(connection, tmp_path / "file")
    assert len(await tables(connection)) == 4


def test_the_command_line(database_url, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WFE_DATABASE_URL", database_url)
    assert admin.main(["partitions", "make", "--ahead", "1"]) == 0
    assert admin.main(["partitions", "list"]) == 0
    assert admin.main(["retention", "run", "--older-than", "400d", "--archive", str(tmp_path)]) == 0
    assert admin.main(["dispatch", "hold", "--reason", "after a restore"]) == 0
    assert admin.main(["dispatch", "show"]) == 0
    assert admin.main(["dispatch", "release"]) == 0
    assert admin.main(["queues"]) == 0
    assert admin.main(["stuck"]) == 0
    said = capsys.readouterr().out
    assert "no month is old enough\nanalyzed" in said
    assert "after a restore" in said
    assert "released, after 0 s" in said
    assert admin.main(["partitions", "drop", "--older-than", "400d"]) == 2
    assert "say --without-archive" in capsys.readouterr().err
    monkeypatch.setenv("WFE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
    assert admin.main(["stuck"]) == 1


async def test_a_run_that_nothing_can_move_is_stuck(connection, database_url, monkeypatch, capsys):
    now = dt.datetime.now(dt.UTC)
    moving, stuck = [await put(connection, now - dt.timedelta(hours=1)) for _ in range(2)]
    await connection.execute(
        "INSERT INTO timers (run_id, no, due_at) VALUES (%s, 1, clock_timestamp() + interval '1 h')", (moving,)
    )
    monkeypatch.setenv("WFE_DATABASE_URL", database_url)
    assert await asyncio.to_thread(admin.main, ["stuck"]) == 1
    assert capsys.readouterr().out == f"{stuck}\n"
