"""Partitions: made ahead, archived and dropped by age. Nothing here deletes a run that could still be asked about.

A month goes only when every run of it has ended and is older than the retention; one that is younger or still going
keeps its month. Months are by the start of a run (UUIDv7), age is by its end.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql

from wfe_store.migrate import MONTHS_AHEAD, PARTITIONED, first_id

#: Seconds a change of partitions waits for its locks; commits wait as long behind it.
LOCK_SECONDS = 3
#: Rows read at once for an archive.
_CHUNK = 1_000
#: Tables that hold rows of runs, by run_id, and are not partitioned: they go with the month. A test compares them with
#: the schema.
BESIDE = (
    "children",
    "dispatch",
    "gate_links",
    "gate_notes",
    "gate_votes",
    "gates",
    "idempotency",
    "outbox",
    "run_traces",
    "sealed_values",
    "signals",
    "timers",
    "webhook_outbox",
)
#: Those with bounds of their own: what was told outside, and what schedules did, is asked about by its receivers and
#: schedules, not by its runs.
BY_OWN_AGE = ("webhook_messages", "webhook_deliveries", "hook_receipts", "schedule_firings")
#: What is forgotten by its age alone: table to when a row is past it.
LEFTOVERS = {
    "idempotency": "created_at < %s",
    "run_traces": "created_at < %s",
    "webhook_deliveries": "created_at < %s AND status <> 'pending'",
    "webhook_messages": "created_at < %s AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d"
    " WHERE d.message_id = webhook_messages.id)",
    "hook_receipts": "received_at < %s",
    "delegations": "least(revoked_at, ends_at) < %s",
}
_OWN_RULES = {
    "schedule_firings": "the newest 100 of each schedule stay",
    "executors": "goes when its executor falls silent",
}
#: Tables an archive has: what a run did and was told. Sealed values stay sealed and go.
ARCHIVED = (*PARTITIONED, "gates", "gate_votes", "gate_notes", "signals")
_MONTH = re.compile(r"runs_(\d{4})(\d{2})")


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """A month's partitions.

    Attributes:
        month: Its first day.
        runs: Estimated number of runs; -1 when never counted.
        bytes: Size of all its tables and indexes.
    """

    month: dt.date
    runs: int
    bytes: int


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a month that was old enough to look at.

    Attributes:
        kept: Why it was kept; empty when it was dropped.
        archives: Files it was written to.
        rows: Rows by table.
    """

    month: dt.date
    kept: str = ""
    archives: tuple[str, ...] = ()
    rows: dict[str, int] = {}


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection for maintenance: its own, as it may take hours and locks."""
    async with await AsyncConnection.connect(url, autocommit=True, application_name="wfe-admin") as connection:
        await connection.execute(
            "SELECT set_config('lock_timeout', %s, false), set_config('timezone', 'UTC', false)", (f"{LOCK_SECONDS}s",)
        )
        yield connection


async def months(connection: AsyncConnection[Any]) -> list[Month]:
    """Months that have partitions, oldest first."""
    cursor = await connection.execute(
        """
        SELECT c.relname, c.reltuples::bigint, (
            SELECT sum(pg_total_relation_size(to_regclass(t || substr(c.relname, 5)))) FROM unnest(%s::text[]) AS t)
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'runs'::regclass ORDER BY 1
        """,
        (list(PARTITIONED),),
    )
    found = []
    for name, count, size in await cursor.fetchall():
        if match := _MONTH.fullmatch(name):
            found.append(Month(month=dt.date(int(match[1]), int(match[2]), 1), runs=count, bytes=int(size or 0)))
    return found


async def make_partitions(
    connection: AsyncConnection[Any], *, now: dt.datetime | None = None, ahead: int = MONTHS_AHEAD
) -> list[str]:
    """Make this month's partitions and those of the months ahead; rows that lie in a default partition move in.

    Returns:
        Names of the tables that were made.
    """
    first = _first(now or await _now(connection))
    made = []
    for _ in range(ahead + 1):
        after = _next(first)
        for table, storage in PARTITIONED.items():
            name = f"{table}_{first:%Y%m}"
            cursor = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,))
            if not (await cursor.fetchone() or [False])[0]:
                await _make(connection, table, name, storage, first_id(first), first_id(after))
                made.append(name)
        first = after
    return made


async def _make(connection: AsyncConnection[Any], table: str, name: str, storage: str, low: UUID, high: UUID) -> None:
    column = sql.Identifier("id" if table == "runs" else "run_id")
    names = {
        "new": sql.Identifier(name),
        "parent": sql.Identifier(table),
        "stray": sql.Identifier(f"{table}_default"),
        "column": column,
        "storage": sql.SQL(storage),
        "low": sql.Literal(str(low)),
        "high": sql.Literal(str(high)),
    }
    async with connection.transaction():
        await connection.execute(sql.SQL("LOCK TABLE {parent} IN ACCESS EXCLUSIVE MODE").format(**names))
        await connection.execute(
            sql.SQL("CREATE TABLE {new} (LIKE {parent} INCLUDING ALL) WITH ({storage})").format(**names)
        )
        await connection.execute(
            sql.SQL(
                "WITH moved AS (DELETE FROM {stray} WHERE {column} >= {low} AND {column} < {high} RETURNING *)"
                " INSERT INTO {new} SELECT * FROM moved"
            ).format(**names)
        )
        await connection.execute(
            sql.SQL("ALTER TABLE {parent} ATTACH PARTITION {new} FOR VALUES FROM ({low}) TO ({high})").format(**names)
        )


async def drop_old(
    connection: AsyncConnection[Any],
    *,
    older_than: dt.timedelta,
    archive: Path | None,
    now: dt.datetime | None = None,
) -> list[Dropped]:
    """Archive and drop every month whose runs have all ended longer ago than the retention.

    Args:
        older_than: The retention, counted from a run's end.
        archive: Folder of the archives, one file for each table of a month; None to keep none.
        now: The moment; the store's clock when absent.

    Raises:
        OSError: An archive cannot be written; nothing of its month was dropped.
        psycopg.errors.LockNotAvailable: The tables were busy; try again.
    """
    limit = (now or await _now(connection)) - older_than
    found = []
    for month in await months(connection):
        end = _next(dt.datetime.combine(month.month, dt.time(), dt.UTC))
        if end > limit:
            break
        found.append(await _drop(connection, month.month, limit, archive))
    return found


async def _drop(connection: AsyncConnection[Any], month: dt.date, limit: dt.datetime, archive: Path | None) -> Dropped:
    if kept := await _kept(connection, month, limit):
        return Dropped(month=month, kept=kept)
    low = first_id(dt.datetime.combine(month, dt.time(), dt.UTC))
    high = first_id(_next(dt.datetime.combine(month, dt.time(), dt.UTC)))
    written: dict[str, int] = {}
    files = []
    if archive is not None:
        archive.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs in this process
        for table in ARCHIVED:
            path = archive / f"{table}-{month:%Y%m}.ndjson"
            written[table] = await _archive(connection, table, low, high, path)
            files.append(str(path))
    async with connection.transaction():
        for table in PARTITIONED:
            await connection.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(f"{table}_{month:%Y%m}"))
            )
        # Somebody may have retried a run since: then it is not over any more.
        if kept := await _kept(connection, month, limit):
            return Dropped(month=month, kept=kept)
        rows = {table: await _count(connection, table, low, high) for table in ARCHIVED}
        if archive is not None and rows != written:
            return Dropped(month=month, kept="it changed while it was archived; the next run tries again")
        for table in PARTITIONED:
            await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(f"{table}_{month:%Y%m}")))
        for table in BESIDE:
            query = sql.SQL("DELETE FROM {} WHERE run_id >= %s AND run_id < %s").format(sql.Identifier(table))
            await connection.execute(query, (low, high))
    return Dropped(month=month, archives=tuple(files), rows=rows)


async def _kept(connection: AsyncConnection[Any], month: dt.date, limit: dt.datetime) -> str:
    """Why a month must be kept; empty when it need not."""
    query = sql.SQL(
        "SELECT count(*) FILTER (WHERE ended_at IS NULL), count(*) FILTER (WHERE ended_at > %s) FROM {}"
    ).format(sql.Identifier(f"runs_{month:%Y%m}"))
    cursor = await connection.execute(query, (limit,))
    going, young = await cursor.fetchone() or (0, 0)
    if going:
        return f"{going} of its runs have not ended"
    return f"{young} of its runs ended more recently than the retention" if young else ""


async def _archive(connection: AsyncConnection[Any], table: str, low: UUID, high: UUID, path: Path) -> int:
    """Write the rows of a range as NDJSON, whole or not at all; gives their number."""
    part = path.with_suffix(".part")
    column = "id" if table == "runs" else "run_id"
    names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
    query = sql.SQL("SELECT row_to_json(t)::text FROM {table} AS t WHERE {column} >= %s AND {column} < %s").format(
        **names
    )
    count = 0
    with part.open("w", encoding="utf-8") as file:
        async with connection.transaction(), connection.cursor(name="archive") as cursor:
            cursor.itersize = _CHUNK
            await cursor.execute(query, (low, high))
            async for (line,) in cursor:
                # One line each: row_to_json breaks lines between columns of some types.
                file.write(line.replace("\n", " ") if "\n" in line else line)
                file.write("\n")
                count += 1
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return count


async def _count(connection: AsyncConnection[Any], table: str, low: UUID, high: UUID) -> int:
    column = "id" if table == "runs" else "run_id"
    names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
    query = sql.SQL("SELECT count(*) FROM {table} WHERE {column} >= %s AND {column} < %s").format(**names)
    row = await (await connection.execute(query, (low, high))).fetchone()
    return int(row[0]) if row else 0


async def drop_leftovers(
    connection: AsyncConnection[Any], *, older_than: dt.timedelta, now: dt.datetime | None = None
) -> dict[str, int]:
    """Forget what nobody can ask for any more once it is past an age: rows by table.

    What webhooks were told goes earlier where approvals services run, by their own setting.
    """
    limit = (now or await _now(connection)) - older_than
    found = {}
    for table, past in LEFTOVERS.items():
        query = sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table), sql.SQL(past))
        found[table] = (await connection.execute(query, (limit,))).rowcount
    return found


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a table holds, and when it goes.

    Attributes:
        bytes: With indexes and all partitions.
        rule: What makes its rows go.
    """

    table: str
    bytes: int
    rule: str


async def kept(connection: AsyncConnection[Any]) -> list[Kept]:
    """Every table, the largest first."""
    cursor = await connection.execute(
        """
        SELECT c.relname, (SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree(c.oid) AS t)
        FROM pg_class c WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.relnamespace = 'public'::regnamespace ORDER BY 2 DESC, 1
        """
    )
    return [Kept(table=name, bytes=int(size or 0), rule=_rule(name)) for name, size in await cursor.fetchall()]


def _rule(table: str) -> str:
    if table in PARTITIONED:
        return "dropped by month" + (", archived before" if table in ARCHIVED else "")
    if table in BESIDE:
        archived = ", archived before" if table in ARCHIVED else ""
        own = " or by its own age" if table in LEFTOVERS else ""
        return f"goes with the month of its run{own}{archived}"
    if table in LEFTOVERS:
        return "by its own age"
    return _OWN_RULES.get(table, "stays until it is removed")


async def analyze(connection: AsyncConnection[Any]) -> list[str]:
    """Statistics of the partitioned tables, which autovacuum never gathers for the parents."""
    for table in PARTITIONED:
        await connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
    return list(PARTITIONED)


def read_archive(path: Path) -> list[dict[str, Any]]:
    """The rows of an archive."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


async def _now(connection: AsyncConnection[Any]) -> dt.datetime:
    row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    assert row is not None
    now: dt.datetime = row[0]
    return now


def _first(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next(first: dt.datetime) -> dt.datetime:
    return (first + dt.timedelta(days=32)).replace(day=1)
