"""Events and snapshots of runs, for reading.

Every statement names the owner: another owner's run is a missing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from wfe_engine.errors import NotFound

from wfe_store.pool import Database, fetch_all
from wfe_store.runs import Event, no_run

#: Most snapshots of a run in one answer; the newest.
MOST_SNAPSHOTS = 1_000


@dataclass(frozen=True, slots=True)
class Events:
    """Events of a run after a seq.

    Attributes:
        events: Oldest first.
        total: Events the run has in all.
        status: Of the run when these were read.
    """

    events: Sequence[Event]
    total: int
    status: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A point of the log.

    Attributes:
        id: UUID.
        seq: Of the last event it holds.
        kind: gate, checkpoint, periodic or demand.
        name: May be empty.
        created_at: When it was taken.
        steps_done: Paths of the steps that were completed or skipped then, and that no rollback has undone since.
    """

    id: UUID
    seq: int
    kind: str
    name: str
    created_at: datetime
    steps_done: Sequence[str] = ()


# Events have no gaps and are written with the run's seq, so that seq is their number.
_EVENTS = """
SELECT r.seq, r.status, e.seq, e.at, e.type, e.actor, e.reason, e.data
FROM runs r LEFT JOIN LATERAL (
    SELECT * FROM events WHERE run_id = %(run)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s
) e ON true
WHERE r.id = %(run)s AND r.owner_id = %(owner)s
ORDER BY e.seq"""

_SNAPSHOTS = """
SELECT s.id, s.seq, s.kind, s.name, s.created_at, ARRAY(
    SELECT t.path FROM steps t WHERE t.run_id = %(run)s AND t.status IN ('completed', 'skipped') AND t.seq <= s.seq
    ORDER BY t.no)
FROM runs r LEFT JOIN LATERAL (
    SELECT * FROM snapshots WHERE run_id = %(run)s AND (%(id)s::uuid IS NULL OR id = %(id)s)
    ORDER BY seq DESC, id DESC LIMIT %(limit)s
) s ON true
WHERE r.id = %(run)s AND r.owner_id = %(owner)s
ORDER BY s.seq, s.id"""


class History:
    """The events and snapshots of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(self, owner_id: UUID, run_id: UUID, *, after: int, limit: int) -> Events:
        """The first events of a run with a greater seq, at most `limit`.

        Raises:
            NotFound: The owner has no such run.
        """
        values = {"run": run_id, "owner": owner_id, "after": after, "limit": limit}
        async with self._database.connection() as connection:
            rows = await fetch_all(connection, _EVENTS, values)
        if not rows:
            raise no_run(run_id)
        return Events([Event(*row[2:]) for row in rows if row[2] is not None], rows[0][0], rows[0][1])

    async def snapshots(self, owner_id: UUID, run_id: UUID) -> Sequence[Snapshot]:
        """The snapshots of a run, oldest first; the newest MOST_SNAPSHOTS.

        Raises:
            NotFound: The owner has no such run.
        """
        return await self._snapshots(owner_id, run_id, None)

    async def snapshot(self, owner_id: UUID, run_id: UUID, snapshot_id: UUID) -> Snapshot:
        """One snapshot of a run.

        Raises:
            NotFound: The owner has no such run, or it no such snapshot.
        """
        found = await self._snapshots(owner_id, run_id, snapshot_id)
        if not found:
            raise NotFound(
                f"workflow {run_id} has no snapshot {snapshot_id}", workflow_id=run_id, snapshot_id=snapshot_id
            )
        return found[0]

    async def _snapshots(self, owner_id: UUID, run_id: UUID, snapshot_id: UUID | None) -> Sequence[Snapshot]:
        values = {"run": run_id, "owner": owner_id, "id": snapshot_id, "limit": MOST_SNAPSHOTS}
        async with self._database.connection() as connection:
            rows = await fetch_all(connection, _SNAPSHOTS, values)
        if not rows:
            raise no_run(run_id)
        return [Snapshot(*row) for row in rows if row[0] is not None]
