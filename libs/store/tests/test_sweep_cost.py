"""A sweep reads what is due, not what is parked: a million runs that wait cost it nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from wfe_store import leases
from wfe_store.gates import Gates
from wfe_store.pool import Connection, Database

PARKED = 5_000
_TIMERS = """
INSERT INTO timers (run_id, no, due_at)
SELECT gen_random_uuid(), 1, now() + make_interval(secs => n) FROM generate_series(3600, 3600 + %s) AS n
"""
_GATES = """
INSERT INTO gates (id, run_id, no, owner_id, path, status, title, policy, digest, started_by, created_at, expires_at)
SELECT gen_random_uuid(), gen_random_uuid(), 1, gen_random_uuid(), 'go', 'open', 'Go?', '{}', '', gen_random_uuid(),
    now(), now() + make_interval(secs => n) FROM generate_series(3600, 3600 + %s) AS n
"""
_DISPATCH = """
INSERT INTO dispatch (run_id, no, owner_id, path, kind, queue, request, attempt, max_attempts, fence, available_at,
    queue_deadline, total_deadline, created_at)
SELECT gen_random_uuid(), 1, gen_random_uuid(), 'a', 'call', 'q', '{}', 1, 1, 1, now(),
    now() + make_interval(secs => n), now() + make_interval(secs => n), now() FROM generate_series(3600, 3600 + %s) AS n
"""


async def rows_read(connection: Connection, table: str) -> int:
    """Rows of a table that were looked at so far, by scans of it and by its indexes."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    cursor = await connection.execute(
        "SELECT coalesce(seq_tup_read, 0) + coalesce((SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i"
        " WHERE i.relid = t.relid), 0) FROM pg_stat_user_tables t WHERE relname = %s",
        (table,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def _sweep(connection: Connection, _: Database) -> Any:
    return await leases.sweep(connection)


async def _expire(_: Connection, database: Database) -> Any:
    return await Gates(database).expire_due()


@pytest.mark.parametrize(
    ("table", "parked", "find"),
    [("timers", _TIMERS, _sweep), ("dispatch", _DISPATCH, _sweep), ("gates", _GATES, _expire)],
)
async def test_what_is_parked_is_not_read(
    database_url: str, table: str, parked: str, find: Callable[[Connection, Database], Awaitable[Any]]
) -> None:
    # One connection: statistics are told when the connection that made them is idle.
    database = Database(database_url, name="test", size=1)
    await database.open()
    try:
        async with database.connection() as connection:
            await connection.execute(parked, (PARKED,))
            await connection.execute(f"ANALYZE {table}")
            before = await rows_read(connection, table)
            if find is _sweep:
                await find(connection, database)
        if find is not _sweep:
            await find(connection, database)
        async with database.connection() as connection:
            assert await rows_read(connection, table) - before < 100
    finally:
        await database.close()
