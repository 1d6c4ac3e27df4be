"""Facts that say why a run, or a queue, is not moving. Every read names the owner."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from wfe_store.pool import Connection
from wfe_store.switches import dispatch_held


class LiveStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step an executor has or should have.

    Attributes:
        handler: Of a call step; empty for other kinds.
        executor: That has it; empty when it is ready or backs off.
        alive_until: When that executor's lease ends; None when it never sent a heartbeat.
        error: JSON of why the last attempt failed; None for the first.
    """

    path: str
    kind: str
    handler: str
    queue: str
    held: bool
    available_at: datetime
    executor: str
    leased_at: datetime | None
    alive_until: datetime | None
    attempt: int
    max_attempts: int
    error: str | None


class WaitingGate(msgspec.Struct, frozen=True, kw_only=True):
    """A gate that is scheduled or open, or whose decision the run has not taken in (`decided_at` is set then).

    Attributes:
        opens_at: Of a scheduled one; None when it is open.
        level: Escalations that have happened.
        votes: Given so far.
        claimed_by: Who has taken it upon himself; empty for nobody.
    """

    id: UUID
    path: str
    title: str
    created_at: datetime
    expires_at: datetime | None
    decided_at: datetime | None
    opens_at: datetime | None
    level: int
    votes: int
    claimed_by: str


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """A step that waits for something other than an executor or people.

    Attributes:
        kind: wait, wait_for or workflow.
        since: When it was entered.
        due_at: When it is over by itself, or the next sign of life of a callback is due; None for never.
        params: JSON of what it waits for; a reference when that is large.
        child: The run it waits for; None for other kinds, and when nothing is wanted of a run any more.
        wish: What the step wants of it: start, retry, cancel or terminate.
        wished_at: Since when.
        done: Whether that was carried out.
        child_status: Of that run; None when there is none (yet).
        child_ended_at: When it ended.
    """

    path: str
    kind: str
    since: datetime
    due_at: datetime | None
    params: str | None
    child: UUID | None
    wish: str | None
    wished_at: datetime | None
    done: bool | None
    child_status: str | None
    child_ended_at: datetime | None


class QueueExecutors(msgspec.Struct, frozen=True):
    """Live executors of a queue: how many take steps, how many are stopping, and what they know."""

    taking: int = 0
    stopping: int = 0
    handlers: frozenset[str] = frozenset()


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a run that says why it is not moving.

    Attributes:
        now: The store's clock.
        steps: Oldest first, at most 100.
        phase: What it is busy with when its status does not say it: compensating, cancelling or failing.
        started_at: None before its start.
        timers: Moments that were set, earliest first, with the step's number; 0 for the run's own: its start, and from
            then on its total clock.
        waiting: Those that end by themselves first, at most 10.
        held: Why dispatch is held; None when it is not.
    """

    now: datetime
    status: str
    phase: str
    reason: str
    error: str | None
    updated_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    steps: list[LiveStep]
    gates: list[WaitingGate]
    timers: list[tuple[int, datetime]]
    waiting: list[Wait]
    executors: dict[str, QueueExecutors]
    held: str | None


_STEPS = """
SELECT d.path, d.kind, CASE WHEN d.kind = 'call' THEN coalesce(d.request::json ->> 'handler', '') ELSE '' END, d.queue,
    d.held, d.available_at, coalesce(d.executor_id, ''), d.leased_at, e.lease_until, d.attempt, d.max_attempts, d.error
FROM dispatch d LEFT JOIN executors e ON e.id = d.executor_id
"""
_WAITS = """
SELECT s.path, s.kind, s.created_at, s.due_at, s.input, c.child_id, c.wish, c.wished_at, c.done, r.status, r.ended_at
FROM steps s
    LEFT JOIN children c ON c.run_id = s.run_id AND c.no = s.no
    LEFT JOIN runs r ON r.id = c.child_id
WHERE s.run_id = %s AND s.status = 'waiting' ORDER BY s.due_at NULLS LAST, s.no LIMIT 10
"""
_GATES = """
SELECT g.id, g.path, g.title, g.created_at, g.expires_at, g.decided_at,
    CASE WHEN g.status = 'scheduled' THEN g.opens_at END, g.level,
    (SELECT count(*) FROM gate_votes v WHERE v.gate_id = g.id), coalesce(p.name, '')
FROM gates g LEFT JOIN principals p ON p.id = g.claimed_by
WHERE g.run_id = %s AND g.owner_id = %s
    AND (g.status IN ('open', 'scheduled') OR (g.outcome IS NOT NULL AND g.told_at IS NULL))
ORDER BY g.status = 'scheduled', g.created_at LIMIT 100
"""
_STEP_FIELDS = LiveStep.__struct_fields__
_WAIT_FIELDS = Wait.__struct_fields__
_GATE_FIELDS = WaitingGate.__struct_fields__


async def run_facts(connection: Connection, owner: UUID, run: UUID) -> RunFacts | None:
    """Facts of an owner's run; None when there is none."""
    cursor = await connection.execute(
        "SELECT clock_timestamp(), status, phase, reason, error, updated_at, ended_at, started_at FROM runs"
        " WHERE id = %s AND owner_id = %s",
        (run, owner),
    )
    found = await cursor.fetchone()
    if found is None:
        return None
    cursor = await connection.execute(
        _STEPS + "WHERE d.run_id = %s AND d.owner_id = %s ORDER BY d.created_at, d.no LIMIT 100", (run, owner)
    )
    steps = [LiveStep(**dict(zip(_STEP_FIELDS, row, strict=True))) for row in await cursor.fetchall()]
    cursor = await connection.execute(
        _GATES,
        (run, owner),
    )
    gates = [WaitingGate(**dict(zip(_GATE_FIELDS, row, strict=True))) for row in await cursor.fetchall()]
    cursor = await connection.execute(
        "SELECT no, due_at FROM timers WHERE run_id = %s ORDER BY due_at LIMIT 10", (run,)
    )
    timers = [(row[0], row[1]) for row in await cursor.fetchall()]
    cursor = await connection.execute(_WAITS, (run,))
    waiting = [Wait(**dict(zip(_WAIT_FIELDS, row, strict=True))) for row in await cursor.fetchall()]
    held = await dispatch_held(connection)
    return RunFacts(
        now=found[0],
        status=found[1],
        phase=found[2],
        reason=found[3],
        error=found[4],
        updated_at=found[5],
        ended_at=found[6],
        started_at=found[7],
        steps=steps,
        gates=gates,
        timers=timers,
        waiting=waiting,
        executors=await _executors(connection, {step.queue for step in steps}),
        held=None if held is None else (held.reason or held.set_by),
    )


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about an owner's steps of a queue.

    Attributes:
        oldest: The owner's oldest ready step; None when none is ready.
        ready, leased, backing_off, paused: How many steps of the owner.
        next_at: When the first that backs off is due.
    """

    now: datetime
    queue: str
    oldest: LiveStep | None
    ready: int
    leased: int
    backing_off: int
    paused: int
    next_at: datetime | None
    executors: QueueExecutors
    held: str | None


async def queue_facts(connection: Connection, owner: UUID, queue: str) -> QueueFacts:
    """Facts of an owner's steps of a queue."""
    cursor = await connection.execute(
        """
        SELECT n.now,
            count(*) FILTER (WHERE d.executor_id IS NULL AND NOT d.held AND d.available_at <= n.now),
            count(*) FILTER (WHERE d.executor_id IS NOT NULL),
            count(*) FILTER (WHERE d.executor_id IS NULL AND NOT d.held AND d.available_at > n.now),
            count(*) FILTER (WHERE d.executor_id IS NULL AND d.held),
            min(d.available_at) FILTER (WHERE d.executor_id IS NULL AND NOT d.held AND d.available_at > n.now)
        FROM (SELECT clock_timestamp() AS now) n LEFT JOIN dispatch d ON d.queue = %s AND d.owner_id = %s GROUP BY n.now
        """,
        (queue, owner),
    )
    counts = await cursor.fetchone()
    assert counts is not None
    cursor = await connection.execute(
        _STEPS + "WHERE d.queue = %s AND d.owner_id = %s AND d.executor_id IS NULL AND NOT d.held"
        " AND d.available_at <= clock_timestamp() ORDER BY d.priority DESC, d.available_at LIMIT 1",
        (queue, owner),
    )
    row = await cursor.fetchone()
    held = await dispatch_held(connection)
    return QueueFacts(
        now=counts[0],
        queue=queue,
        oldest=None if row is None else LiveStep(**dict(zip(_STEP_FIELDS, row, strict=True))),
        ready=counts[1],
        leased=counts[2],
        backing_off=counts[3],
        paused=counts[4],
        next_at=counts[5],
        executors=(await _executors(connection, {queue})).get(queue, QueueExecutors()),
        held=None if held is None else (held.reason or held.set_by),
    )


async def _executors(connection: Connection, queues: set[str]) -> dict[str, QueueExecutors]:
    if not queues:
        return {}
    cursor = await connection.execute(
        """
        SELECT q, count(DISTINCT e.id) FILTER (WHERE NOT stopping), count(DISTINCT e.id) FILTER (WHERE stopping),
            coalesce(array_agg(DISTINCT h) FILTER (WHERE h IS NOT NULL AND NOT stopping), '{}')
        FROM executors e CROSS JOIN LATERAL unnest(queues) AS q LEFT JOIN LATERAL unnest(handlers) AS h ON true
        WHERE lease_until > clock_timestamp() AND q = ANY(%s) GROUP BY q
        """,
        (sorted(queues),),
    )
    return {row[0]: QueueExecutors(row[1], row[2], frozenset(row[3])) for row in await cursor.fetchall()}
