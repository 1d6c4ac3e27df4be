"""Switches operators set for all processes at once."""

from __future__ import annotations

from datetime import datetime

import msgspec

from wfe_store.pool import Connection

#: No step is handed to an executor; clocks of steps stand still meanwhile.
DISPATCH_HELD = "dispatch.held"


class Switch(msgspec.Struct, frozen=True):
    """A switch that is set."""

    name: str
    set_at: datetime
    set_by: str
    reason: str


async def hold_dispatch(connection: Connection, who: str, reason: str = "") -> bool:
    """Stop handing out steps; whether it was not held before."""
    cursor = await connection.execute(
        "INSERT INTO switches (name, set_by, reason) VALUES (%s, %s, %s) ON CONFLICT (name) DO NOTHING",
        (DISPATCH_HELD, who, reason),
    )
    return cursor.rowcount == 1


async def release_dispatch(connection: Connection) -> float | None:
    """Hand out steps again; clocks of waiting steps are later by the time it was held.

    Returns:
        Seconds it was held; None when it was not.
    """
    async with connection.transaction():
        cursor = await connection.execute("DELETE FROM switches WHERE name = %s RETURNING set_at", (DISPATCH_HELD,))
        row = await cursor.fetchone()
        if row is None:
            return None
        # A clock that was set while dispatch was held is later by the time since then only.
        cursor = await connection.execute(
            """
            UPDATE dispatch SET
                queue_deadline = queue_deadline + (clock_timestamp() - greatest(%(since)s, available_at)),
                total_deadline = total_deadline + (clock_timestamp() - greatest(%(since)s, created_at))
            WHERE executor_id IS NULL AND (queue_deadline IS NOT NULL OR total_deadline IS NOT NULL)
                AND available_at <= clock_timestamp()
            """,
            {"since": row[0]},
        )
        cursor = await connection.execute("SELECT extract(epoch FROM clock_timestamp() - %s)::float8", (row[0],))
        held = await cursor.fetchone()
    return float(held[0]) if held else 0.0


async def dispatch_held(connection: Connection) -> Switch | None:
    """The hold, when dispatch is held."""
    cursor = await connection.execute(
        "SELECT name, set_at, set_by, reason FROM switches WHERE name = %s", (DISPATCH_HELD,)
    )
    row = await cursor.fetchone()
    return None if row is None else Switch(*row)
