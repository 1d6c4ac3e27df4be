"""Trace contexts of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from wfe_store.pool import Connection


async def save_traces(connection: Connection, traces: Mapping[UUID, str]) -> None:
    """Keep the W3C traceparent of runs; the first one of a run stays. Waits for no flush to disk: it may be lost."""
    await connection.execute(
        "INSERT INTO run_traces (run_id, traceparent) SELECT * FROM unnest(%b::uuid[], %b::text[])"
        " WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off' ON CONFLICT DO NOTHING",
        (list(traces), list(traces.values())),
    )


async def load_traces(connection: Connection, runs: Sequence[UUID]) -> dict[UUID, str]:
    """The traceparent of those runs that have one."""
    cursor = await connection.execute(
        "SELECT run_id, traceparent FROM run_traces WHERE run_id = ANY(%b::uuid[])", (list(runs),)
    )
    return {row[0]: row[1] for row in await cursor.fetchall()}
