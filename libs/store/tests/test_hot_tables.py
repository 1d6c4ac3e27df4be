"""Tables that change with every step stay small, and what keeps them from it is seen and ended."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import psycopg
import pytest
from wfe_engine.errors import Unavailable
from wfe_store import leases, pool, watching
from wfe_store.pool import Connection, Database

EXECUTORS, BEATS = 20, 100


@pytest.fixture
async def unswept(database_url: str) -> AsyncIterator[Connection]:
    """A connection to a store whose hot tables no autovacuum helps meanwhile."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        for table in watching.HOT:
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        yield connection
        for table in watching.HOT:
            await connection.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")


async def one(connection: Connection, query: str) -> int:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return int(row[0])


async def beat(connection: Connection, executor: str) -> None:
    await leases.heartbeat(
        connection,
        executor=executor,
        name=executor,
        queues=["default"],
        handlers=[f"handler-{n}" for n in range(50)],
        stopping=False,
        lease_seconds=15,
        held=[],
        progress=[],
    )


async def test_heartbeats_leave_the_table_as_small_as_it_was(unswept: Connection) -> None:
    """An update stays on its page and takes the room of the one before: nothing to vacuum, no index to write."""
    for n in range(EXECUTORS):
        await beat(unswept, f"executor-{n}")
    for _ in range(5):
        for n in range(EXECUTORS):
            await beat(unswept, f"executor-{n}")
    pages = await one(unswept, "SELECT pg_relation_size('executors') / 8192")
    index = await one(unswept, "SELECT pg_indexes_size('executors') / 8192")
    for _ in range(BEATS):
        for n in range(EXECUTORS):
            await beat(unswept, f"executor-{n}")
    assert await one(unswept, "SELECT pg_relation_size('executors') / 8192") <= pages + 2
    assert await one(unswept, "SELECT pg_indexes_size('executors') / 8192") == index
    await unswept.execute("SELECT pg_stat_force_next_flush()")
    assert (
        await one(unswept, "SELECT n_tup_upd - n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'executors'") < 20
    )


async def test_hot_tables_are_vacuumed_after_few_changes(database: Database) -> None:
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT relname, reloptions::text FROM pg_class WHERE relname = ANY(%s) AND relnamespace ="
            " 'public'::regnamespace",
            (list(watching.HOT),),
        )
        options = dict(await cursor.fetchall())
    assert set(options) == set(watching.HOT)
    for table in ("dispatch", "timers", "webhook_outbox"):
        assert "autovacuum_vacuum_scale_factor=0.01" in options[table], table


async def test_an_old_transaction_and_what_it_keeps_are_seen(database_url: str, unswept: Connection) -> None:
    """Somebody's report, or a dump, that has been open for long: steps go on, and their dead rows stay."""
    database = Database(database_url, name="test", size=2)
    await database.open()
    insert = (
        "INSERT INTO dispatch (run_id, no, owner_id, path, kind, queue, request, attempt, max_attempts, fence,"
        " available_at, created_at) SELECT gen_random_uuid(), 1, %s, 'a', 'call', 'q', '{}', 1, 1, 1,"
        " clock_timestamp(), clock_timestamp() FROM generate_series(1, 500)"
    )
    try:
        async with await psycopg.AsyncConnection.connect(database_url) as old, database.connection() as connection:
            assert await watching.oldest_transaction(connection) == 0
            await old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await old.execute("SELECT count(*) FROM dispatch")
            for _ in range(4):
                await connection.execute(insert, (uuid.uuid4(),))
                # What is ready is found among whatever is dead.
                assert len(await leases.claim(connection, "executor", "q", 500)) == 500
                await connection.execute("DELETE FROM dispatch")
            await unswept.execute("VACUUM dispatch")
            await connection.execute("SELECT pg_stat_force_next_flush()")
            await connection.execute("SELECT pg_stat_clear_snapshot()")
            kept = (await watching.dead_rows(connection))["dispatch"]
            assert kept >= 2_000
            assert await watching.oldest_transaction(connection) > 0
            await old.rollback()
            assert await watching.oldest_transaction(connection) == 0
            await unswept.execute("VACUUM dispatch")
            await connection.execute("SELECT pg_stat_clear_snapshot()")
            assert (await watching.dead_rows(connection))["dispatch"] == 0
    finally:
        await database.close()


async def test_the_server_ends_a_transaction_of_ours_that_does_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.2)
    database = Database(database_url, name="test", size=1)
    await database.open()
    never = asyncio.Event()
    try:

        async def stalls(connection: Connection) -> None:
            await connection.execute("SELECT 1 FROM runs LIMIT 1")
            try:
                await asyncio.wait_for(never.wait(), 1)
            except TimeoutError:
                await connection.execute("SELECT 1")

        with pytest.raises(Unavailable):
            await database.transaction(stalls)
        async with database.connection() as connection:
            assert (
                await one(connection, "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
                == 0
            )
    finally:
        await database.close()
