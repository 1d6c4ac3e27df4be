"""Leases: claiming ready steps, heartbeats, giving back, and finding what was lost. Single statements, no decisions.

An executor's row is its lease on everything it holds: a heartbeat moves one `lease_until`, however many steps it
holds. Every change of a lease raises the step's fence, so whatever was sent under the old one changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from wfe_store.pool import Connection

#: Seconds a lease may be missing from its executor's heartbeats before it counts as never arrived.
ARRIVAL_SECONDS = 7.0
#: Seconds nobody claims a step that has lost all the leases it may, while it is being failed.
FAILING_SECONDS = 10.0


class ClaimedStep(msgspec.Struct, frozen=True):
    """A dispatch row that was just leased; `waited` is how many seconds it had been ready."""

    run: UUID
    no: int
    fence: int
    owner: UUID
    path: str
    iteration: str
    visit: int
    epoch: int
    kind: str
    request: str
    sealed: bool
    attempt: int
    max_attempts: int
    clocks: str
    total_deadline: float | None
    approval: str
    digest: str
    waited: float = 0.0


# Owners take turns: the first step of each comes before the second of any, within one priority. The owners that have
# something ready are found by hops over the index, so a long backlog of one costs the others nothing.
_CLAIM = """
WITH RECURSIVE owners AS (
    (SELECT owner_id FROM dispatch WHERE queue = %(queue)s AND executor_id IS NULL AND NOT held
        ORDER BY owner_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.owner_id FROM dispatch d WHERE d.queue = %(queue)s AND d.executor_id IS NULL AND NOT d.held
        AND d.owner_id > o.owner_id ORDER BY d.owner_id LIMIT 1)
    FROM owners o WHERE o.owner_id IS NOT NULL
), candidates AS (
    SELECT c.run_id, c.no FROM owners o CROSS JOIN LATERAL (
        SELECT t.*, row_number() OVER (ORDER BY t.priority DESC, t.available_at) AS turn FROM (
            SELECT d.run_id, d.no, d.priority, d.available_at FROM dispatch d
            WHERE d.queue = %(queue)s AND d.owner_id = o.owner_id AND d.executor_id IS NULL AND NOT d.held
                AND d.available_at <= clock_timestamp()
            ORDER BY d.priority DESC, d.available_at LIMIT %(room)s
        ) t
    ) c
    WHERE o.owner_id IS NOT NULL
    ORDER BY c.priority DESC, c.turn, c.available_at LIMIT %(room)s
), picked AS (
    SELECT d.run_id, d.no FROM candidates c JOIN dispatch d ON d.run_id = c.run_id AND d.no = c.no
    WHERE d.executor_id IS NULL AND NOT d.held
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE dispatch q SET executor_id = %(executor)s, leased_at = clock_timestamp(), fence = q.fence + 1,
    queue_deadline = NULL
FROM picked p WHERE q.run_id = p.run_id AND q.no = p.no
RETURNING q.run_id, q.no, q.fence, q.owner_id, q.path, q.iteration, q.visit, q.epoch, q.kind, q.request, q.sealed,
    q.attempt, q.max_attempts, q.clocks, extract(epoch FROM q.total_deadline)::float8,
    coalesce(q.approval_id::text, ''), q.digest, extract(epoch FROM clock_timestamp() - q.available_at)::float8
"""


async def claim(connection: Connection, executor: str, queue: str, room: int) -> list[ClaimedStep]:
    """Lease up to `room` ready steps of a queue to an executor: by priority, owners in turn.

    Safe beside any number of other claims: what another one is taking is passed over.
    """
    cursor = await connection.execute(_CLAIM, {"queue": queue, "executor": executor, "room": room})
    return [ClaimedStep(*row) for row in await cursor.fetchall()]


class Held(msgspec.Struct, frozen=True):
    """A lease as the store has it."""

    run: UUID
    no: int
    fence: int


_HEARTBEAT = """
INSERT INTO executors (id, name, queues, handlers, lease_until, heartbeat_at, stopping, started_at)
VALUES (%(id)s, %(name)s, %(queues)s, %(handlers)s, clock_timestamp() + make_interval(secs => %(lease)s),
    clock_timestamp(), %(stopping)s, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until, heartbeat_at = excluded.heartbeat_at,
    stopping = excluded.stopping
"""
_HELD = """
SELECT run_id, no, fence, leased_at < clock_timestamp() - make_interval(secs => %s) FROM dispatch WHERE executor_id = %s
"""
# The moment a step is free again: now, or the moment its run was paused. A resume makes everything later by the length
# of the pause, so what is freed meanwhile must not be later already.
_FREE_AT = """coalesce(CASE WHEN q.held THEN (
        SELECT to_timestamp((r.state::json ->> 'paused_at')::float8) FROM runs r WHERE r.id = q.run_id
    ) END, clock_timestamp())"""
_FREED = f"""executor_id = NULL, leased_at = NULL, progress = NULL, fence = q.fence + 1,
    queue_deadline = {_FREE_AT} + make_interval(secs => (q.clocks::json ->> 'queue')::float8)"""
_RELEASE = f"""
UPDATE dispatch q SET {_FREED}, available_at = {_FREE_AT}
FROM unnest(%b::uuid[], %b::int[], %b::bigint[]) AS d (run_id, no, fence)
WHERE q.run_id = d.run_id AND q.no = d.no AND q.fence = d.fence AND q.executor_id IS NOT NULL
RETURNING q.queue
"""  # noqa: S608 - no input in it


async def heartbeat(
    connection: Connection,
    *,
    executor: str,
    name: str,
    queues: Sequence[str],
    handlers: Sequence[str],
    stopping: bool,
    lease_seconds: float,
    held: Sequence[tuple[UUID, int, int]],
    progress: Sequence[tuple[UUID, int, int, str]],
) -> tuple[list[Held], list[str]]:
    """Prolong an executor's lease and compare what it holds with what it should hold.

    Returns:
        Leases it thinks it holds and does not; and the queues of leases it was given and does not list, which are
        free again, uncounted: they never arrived.
    """
    async with connection.transaction(), connection.pipeline():
        await connection.execute(
            _HEARTBEAT,
            {
                "id": executor,
                "name": name,
                "queues": list(queues),
                "handlers": list(handlers),
                "lease": lease_seconds,
                "stopping": stopping,
            },
        )
        if progress:
            await connection.execute(
                "UPDATE dispatch q SET progress = d.progress"
                " FROM unnest(%b::uuid[], %b::int[], %b::bigint[], %b::text[]) AS d (run_id, no, fence, progress)"
                " WHERE q.run_id = d.run_id AND q.no = d.no AND q.fence = d.fence",
                [list(column) for column in zip(*progress, strict=True)],
            )
        cursor = await connection.execute(_HELD, (ARRIVAL_SECONDS, executor))
    rows = await cursor.fetchall()
    stored = {(row[0], row[1], row[2]) for row in rows}
    listed = set(held)
    missing = [row[:3] for row in rows if row[3] and row[:3] not in listed]
    freed = await release(connection, missing)
    return [Held(*lease) for lease in held if lease not in stored], freed


async def release(connection: Connection, leases: Sequence[tuple[UUID, int, int]]) -> list[str]:
    """Free these leases, where the fence still holds; no attempt and no loss is counted.

    Returns:
        Queues that have something ready now.
    """
    if not leases:
        return []
    cursor = await connection.execute(_RELEASE, [list(column) for column in zip(*leases, strict=True)])
    return sorted({row[0] for row in await cursor.fetchall()})


class LostLease(msgspec.Struct, frozen=True):
    """A lease whose executor went silent; the step is free again."""

    run: UUID
    no: int
    fence: int
    losses: int
    queue: str
    executor: str


_SILENT = """
    SELECT EXISTS (SELECT 1 FROM executors WHERE lease_until < statement_timestamp())
        OR EXISTS (
            SELECT 1 FROM dispatch q LEFT JOIN executors e ON e.id = q.executor_id
            WHERE q.executor_id IS NOT NULL AND e.id IS NULL
                AND q.leased_at < statement_timestamp() - make_interval(secs => %(lease)s)
        )
"""


async def reap(
    connection: Connection, lease_seconds: float, lease_losses: int, limit: int = 500
) -> tuple[list[LostLease], list[str]]:
    """Free the steps of executors whose lease ran out, counting the loss on each.

    Their rows go in the same transaction, so a late heartbeat finds nothing it held.

    Args:
        lease_seconds: Age after which a lease of an executor that never sent a heartbeat is lost too.
        lease_losses: Leases a step may lose. One that has lost so many is the caller's to fail: it is not claimed
            for FAILING_SECONDS.

    Returns:
        The lost leases, and the executors that went silent, also those that held nothing.
    """
    # Nothing is silent nearly always, and a look at two indexes is a fifth of a transaction.
    cursor = await connection.execute(_SILENT, {"lease": lease_seconds})
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return [], []
    async with connection.transaction():
        cursor = await connection.execute(
            "SELECT id FROM executors WHERE lease_until < clock_timestamp() ORDER BY id LIMIT 50 FOR UPDATE SKIP LOCKED"
        )
        dead = [row[0] for row in await cursor.fetchall()]
        cursor = await connection.execute(
            f"""
            WITH lost AS (
                SELECT q.run_id, q.no, q.executor_id FROM dispatch q LEFT JOIN executors e ON e.id = q.executor_id
                WHERE q.executor_id IS NOT NULL AND (q.executor_id = ANY(%(dead)s)
                    OR (e.id IS NULL AND q.leased_at < clock_timestamp() - make_interval(secs => %(lease)s)))
                LIMIT %(limit)s FOR UPDATE OF q SKIP LOCKED
            )
            UPDATE dispatch q SET {_FREED}, lease_losses = q.lease_losses + 1, available_at = {_FREE_AT}
                + make_interval(secs => CASE WHEN q.lease_losses + 1 >= %(losses)s THEN %(failing)s ELSE 0 END)
            FROM lost WHERE q.run_id = lost.run_id AND q.no = lost.no
            RETURNING q.run_id, q.no, q.fence, q.lease_losses, q.queue, lost.executor_id
            """,  # noqa: S608 - no input in it
            {
                "dead": dead,
                "lease": lease_seconds,
                "losses": lease_losses,
                "failing": FAILING_SECONDS,
                "limit": limit,
            },
        )
        rows = await cursor.fetchall()
        if dead:
            # An executor with more steps than the limit keeps its row for the next round.
            await connection.execute(
                "DELETE FROM executors e WHERE e.id = ANY(%s)"
                " AND NOT EXISTS (SELECT 1 FROM dispatch q WHERE q.executor_id = e.id)",
                (dead,),
            )
    lost = [LostLease(*row) for row in rows]
    return lost, sorted({*dead, *(lease.executor for lease in lost)})


class Due(msgspec.Struct, kw_only=True):
    """What a sweep found.

    Attributes:
        timers: (run, step number, moment) that have come.
        queue_clocks, total_clocks: (run, step number, fence) whose clock ran out.
        ready: Queues with steps that nobody has claimed.
    """

    timers: list[tuple[UUID, int, float]]
    queue_clocks: list[tuple[UUID, int, int]]
    total_clocks: list[tuple[UUID, int, int]]
    ready: list[str]


async def sweep(connection: Connection, limit: int = 500) -> Due:
    """Everything whose moment has come, from the indexes made for it. Changes nothing."""
    # Not clock_timestamp(): it may differ from row to row, so no index is searched by it, and all of it is read.
    async with connection.pipeline():
        timers = await connection.execute(
            "SELECT run_id, no, extract(epoch FROM due_at)::float8 FROM timers WHERE due_at <= statement_timestamp()"
            " ORDER BY due_at LIMIT %s",
            (limit,),
        )
        queue_clocks = await connection.execute(
            "SELECT run_id, no, fence FROM dispatch WHERE queue_deadline <= statement_timestamp()"
            " AND executor_id IS NULL AND NOT held ORDER BY queue_deadline LIMIT %s",
            (limit,),
        )
        total_clocks = await connection.execute(
            "SELECT run_id, no, fence FROM dispatch WHERE total_deadline <= statement_timestamp() AND NOT held"
            " ORDER BY total_deadline LIMIT %s",
            (limit,),
        )
        ready = await connection.execute(
            """
            WITH RECURSIVE queues AS (
                (SELECT queue FROM dispatch WHERE executor_id IS NULL AND NOT held
                    AND available_at <= statement_timestamp() ORDER BY queue LIMIT 1)
                UNION ALL
                SELECT (SELECT d.queue FROM dispatch d WHERE d.executor_id IS NULL AND NOT d.held
                    AND d.available_at <= statement_timestamp() AND d.queue > q.queue ORDER BY d.queue LIMIT 1)
                FROM queues q WHERE q.queue IS NOT NULL
            )
            SELECT queue FROM queues WHERE queue IS NOT NULL
            """
        )
    return Due(
        timers=[_triple(row) for row in await timers.fetchall()],
        queue_clocks=[_triple(row) for row in await queue_clocks.fetchall()],
        total_clocks=[_triple(row) for row in await total_clocks.fetchall()],
        ready=[row[0] for row in await ready.fetchall()],
    )


def _triple(row: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    return row[0], row[1], row[2]


async def fences(connection: Connection, steps: Sequence[tuple[UUID, int]]) -> dict[tuple[UUID, int], int]:
    """Present fences of live steps by (run, number); those that are not live are missing."""
    cursor = await connection.execute(
        "SELECT q.run_id, q.no, q.fence FROM unnest(%b::uuid[], %b::int[]) AS d (run_id, no)"
        " JOIN dispatch q ON q.run_id = d.run_id AND q.no = d.no",
        ([run for run, _ in steps], [no for _, no in steps]),
    )
    return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}


async def live_handlers(connection: Connection) -> frozenset[str] | None:
    """Names of the handlers that live executors know; None when no executor is live."""
    cursor = await connection.execute(
        "SELECT count(*), coalesce(array_agg(DISTINCT h) FILTER (WHERE h IS NOT NULL), '{}') FROM executors"
        " LEFT JOIN LATERAL unnest(handlers) AS h ON true WHERE lease_until > clock_timestamp()"
    )
    row = await cursor.fetchone()
    return None if row is None or not row[0] else frozenset(row[1])
