"""How much there is of something."""

from __future__ import annotations

from uuid import UUID

from wfe_store.pool import Connection


async def count_open(connection: Connection, owner: UUID, most: int) -> int:
    """Runs of an owner that have not ended; counting stops at `most`."""
    cursor = await connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM runs WHERE owner_id = %s AND ended_at IS NULL LIMIT %s) AS found",
        (owner, most),
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])
