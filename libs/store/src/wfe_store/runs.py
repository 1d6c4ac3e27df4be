"""Runs as the API shows them: one with all that belongs to it, and filtered lists. Nothing here writes.

Every statement names the owner: another owner's run is a missing one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import ColumnClause, Select, Text, cast, func, literal, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB
from wfe_engine.errors import NotFound

from wfe_store import schema
from wfe_store.gate import Gate
from wfe_store.gate_rows import REPLACED_BY, gate_of
from wfe_store.paging import TOTAL_CAP, compiled
from wfe_store.pool import Connection, Database, Row

STATUSES = ("pending", "running", "waiting_approval", "paused", "completed", "failed", "cancelled")
ENDED = frozenset({"completed", "failed", "cancelled"})
#: Most steps, gates and events of a run in one answer; the newest.
MOST_STEPS = 5_000
MOST_GATES = 1_000
MOST_EVENTS = 1_000
#: Bytes of inputs and outputs of one run's steps that are read for one answer; beyond that the oldest are left out.
MOST_PAYLOAD = 4 << 20
#: Bytes of a run's input or output that a list still shows.
MOST_LISTED = 8 << 10
#: How far the clocks that made run ids may be from the store's, which gave created_at.
SKEW = timedelta(minutes=10)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """A run.

    Attributes:
        id: UUIDv7.
        template_id, template_name, template_version: What it is pinned to.
        status: One of STATUSES.
        phase: What it is busy with when the status does not say it.
        reason: Short code of why it is in its state.
        seq: Of its newest event; so the number of its events.
        epoch: 1, and one more with every retry and rollback after the end.
        input, output, error: JSON text; in lists None when larger than MOST_LISTED.
        labels: JSON text.
        trigger_type: What started it.
        created_by: Principal.
        forked_from, forked_snapshot: Where it came from; None for others.
        parent_run, parent_no: What waits for its end; None when nothing does.
        created_at, started_at, updated_at, ended_at: Moments.
        start_at: Moment it was to start at, as its start said; None for at once.
        heartbeat_at: Newest heartbeat of an executor that holds a lease on one of its steps; None while none does.
    """

    id: UUID
    template_id: UUID
    template_name: str
    template_version: int
    status: str
    phase: str
    reason: str
    seq: int
    epoch: int
    input: str | None
    output: str | None
    error: str | None
    labels: str
    trigger_type: str
    created_by: UUID
    forked_from: UUID | None
    forked_snapshot: UUID | None
    parent_run: UUID | None
    parent_no: int | None
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    ended_at: datetime | None
    start_at: datetime | None = None
    heartbeat_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run, live or ended.

    Attributes:
        no: Number within the run, in the order of entering.
        path, iteration, visit, kind: Which step.
        status: As people see it.
        attempts: That reported an outcome.
        max_attempts: It may have.
        lease_losses: Leases that ran out.
        input, output, progress: JSON text; None when there is none or it was left out.
        left_out: Bytes of input and output that were left out (MOST_PAYLOAD); (0, 0) when nothing was.
        error: JSON text of the last fault.
        executor: That holds it or ran it last; may be empty.
        gate_id: Gate it waits or waited for.
        due_at: End of its wait or back-off.
        created_at, started_at, ended_at: Moments.
    """

    no: int
    path: str
    iteration: str
    visit: int
    kind: str
    status: str
    attempts: int
    max_attempts: int
    lease_losses: int
    input: str | None
    output: str | None
    left_out: tuple[int, int]
    error: str | None
    executor: str
    gate_id: UUID | None
    due_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a run; `data` is JSON text."""

    seq: int
    at: datetime
    type: str
    actor: str
    reason: str
    data: str


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run with what belongs to it, all of one moment.

    Attributes:
        steps: In the order of entering; the newest MOST_STEPS.
        gates: Oldest first; the newest MOST_GATES.
        events: Oldest first; the newest MOST_EVENTS.
    """

    run: Run
    steps: Sequence[Step]
    gates: Sequence[Gate]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a listed run must be; None and empty for anything.

    Attributes:
        labels: Names and values it must have, all of them.
        created_after: Created at or after.
        created_before: Created before.
    """

    status: str | None = None
    template_id: UUID | None = None
    labels: Sequence[tuple[str, str]] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of runs.

    Attributes:
        total: Runs that match in all, at most TOTAL_CAP.
        capped: Whether there are more.
    """

    runs: Sequence[Run]
    total: int
    capped: bool


def no_run(run_id: UUID) -> NotFound:
    """The one answer for a missing run and for another owner's."""
    return NotFound(f"there is no workflow {run_id}", workflow_id=run_id)


_COLUMNS = tuple(schema.runs.c[name] for name in Run.__dataclass_fields__ if name != "heartbeat_at")
_MINE = "EXISTS (SELECT FROM runs WHERE id = %(run)s AND owner_id = %(owner)s)"

_RUN = f"SELECT {', '.join(column.name for column in _COLUMNS)} FROM runs WHERE id = %(run)s AND owner_id = %(owner)s"  # noqa: S608 - no input in any of these

_BASICS = f"""
SELECT r.owner_id, {", ".join(f"r.{column.name}" for column in _COLUMNS)}, CASE WHEN r.ended_at IS NULL THEN (
    SELECT max(e.heartbeat_at) FROM dispatch q JOIN executors e ON e.id = q.executor_id
    WHERE q.run_id = r.id AND e.lease_until > clock_timestamp()) END
FROM unnest(%b::uuid[], %b::uuid[]) AS d (owner_id, id) JOIN runs r ON r.id = d.id AND r.owner_id = d.owner_id"""  # noqa: S608

# The newest payloads are the ones that matter; the running sum stops reading before it grows beyond bounds.
_STEPS = f"""
SELECT no, path, iteration, visit, kind, status, attempts, max_attempts, lease_losses,
    CASE WHEN kept THEN input END, CASE WHEN kept THEN output END,
    CASE WHEN NOT kept THEN coalesce(octet_length(input), 0) ELSE 0 END,
    CASE WHEN NOT kept THEN coalesce(octet_length(output), 0) ELSE 0 END,
    error, executor, gate_id, due_at, created_at, started_at, ended_at
FROM (SELECT *, sum(coalesce(octet_length(input), 0) + coalesce(octet_length(output), 0)) OVER (ORDER BY no DESC)
        <= {MOST_PAYLOAD} AS kept
    FROM steps WHERE run_id = %(run)s AND {_MINE}) s
ORDER BY no DESC LIMIT {MOST_STEPS}"""  # noqa: S608

_LIVE = f"""
SELECT q.no, q.path, q.iteration, q.visit, q.kind, q.executor_id, q.attempt, q.max_attempts, q.lease_losses,
    CASE WHEN q.kept THEN q.request END, CASE WHEN q.kept THEN 0 ELSE octet_length(q.request) END, q.error,
    CASE WHEN q.available_at > clock_timestamp() THEN q.available_at END, q.created_at, q.leased_at, q.progress,
    CASE WHEN e.lease_until > clock_timestamp() THEN e.heartbeat_at END
FROM (SELECT *, sum(octet_length(request)) OVER (ORDER BY no DESC) <= {MOST_PAYLOAD} AS kept
    FROM dispatch WHERE run_id = %(run)s AND owner_id = %(owner)s) q
LEFT JOIN executors e ON e.id = q.executor_id
ORDER BY q.no DESC LIMIT {MOST_STEPS}"""  # noqa: S608

_GATES = f"""
SELECT {", ".join(name for name in Gate.__dataclass_fields__ if name not in ("replaced_by", "overdue", "barred"))},
    ({REPLACED_BY}) AS replaced_by, (status = 'open' AND expires_at <= coalesce(held_at, clock_timestamp())) IS TRUE
FROM gates WHERE run_id = %(run)s AND owner_id = %(owner)s
ORDER BY created_at DESC, id DESC LIMIT {MOST_GATES}"""  # noqa: S608

_EVENTS = f"""
SELECT seq, at, type, actor, reason, data FROM events WHERE run_id = %(run)s AND {_MINE}
ORDER BY seq DESC LIMIT {MOST_EVENTS}"""  # noqa: S608

#: Newest heartbeat of an executor that holds a step of a listed run.
_HEARTBEAT: ColumnClause[datetime] = literal_column(
    "(SELECT max(e.heartbeat_at) FROM dispatch q JOIN executors e ON e.id = q.executor_id"
    " WHERE q.run_id = page.id AND e.lease_until > clock_timestamp())"
)


class Runs:
    """The runs of the store, for reading."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, owner_id: UUID, run_id: UUID) -> RunDetail:
        """One run with its steps, gates and events, as they were at one moment; one round trip.

        Raises:
            NotFound: The owner has no such run.
        """
        wanted = {"run": run_id, "owner": owner_id}
        run, steps, live, gates, events = await self._read((_RUN, _STEPS, _LIVE, _GATES, _EVENTS), wanted)
        if not run:
            raise no_run(run_id)
        heartbeats = [row[-1] for row in live if row[-1] is not None]
        return RunDetail(
            replace(Run(*run[0]), heartbeat_at=max(heartbeats, default=None)),
            _merged(steps, live),
            [gate_of(row) for row in reversed(gates)],
            [Event(*row) for row in reversed(events)],
        )

    async def basics(self, wanted: Sequence[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], Run]:
        """Runs without what belongs to them, by owner and id; those the owner does not have are missing."""
        owners, ids = [owner for owner, _ in wanted], [run for _, run in wanted]
        async with self._database.connection() as connection:
            cursor = await connection.execute(_BASICS, (owners, ids), binary=True)
            return {(row[0], row[1]): Run(*row[1:]) for row in await cursor.fetchall()}

    async def undone(self, owner_id: UUID, run_id: UUID) -> frozenset[int]:
        """Numbers of the steps that rollbacks have undone so far; empty when the owner has no such run."""
        statement = f"SELECT no FROM steps WHERE run_id = %(run)s AND status = 'rolled_back' AND {_MINE}"  # noqa: S608
        async with self._database.connection() as connection:
            cursor = await connection.execute(statement, {"run": run_id, "owner": owner_id})
            return frozenset(no for (no,) in await cursor.fetchall())

    async def list(self, owner_id: UUID, filters: Filters, *, limit: int, offset: int) -> Listed:
        """The owner's runs, newest first.

        Args:
            limit, offset: The caller has checked them.
        """
        matching = _matching(owner_id, filters)
        page = await self._rows(*compiled(_page(matching, limit, offset)))
        if offset == 0 and len(page) < limit:
            total = len(page)
        else:
            counted = matching.with_only_columns(literal(1)).limit(TOTAL_CAP + 1).subquery()
            ((total,),) = await self._rows(*compiled(select(func.count()).select_from(counted)))
        return Listed([Run(*row) for row in page], min(total, TOTAL_CAP), total > TOTAL_CAP)

    async def _rows(self, statement: str, values: Mapping[str, Any]) -> Sequence[Row]:
        async with self._database.connection() as connection:
            return await (await connection.execute(statement, values)).fetchall()

    async def _read(self, statements: Sequence[str], values: Mapping[str, Any]) -> Sequence[Sequence[Row]]:
        """The rows of several statements that all see one moment, in one round trip."""

        async def work() -> Sequence[Sequence[Row]]:
            async with self._database.connection() as connection:
                return await _pipelined(connection, statements, values)

        return await undisturbed(work)


async def _pipelined(
    connection: Connection, statements: Sequence[str], values: Mapping[str, Any]
) -> Sequence[Sequence[Row]]:
    async with connection.pipeline():
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursors = [await connection.execute(statement, values, binary=True) for statement in statements]
        await connection.execute("COMMIT")
    return [await cursor.fetchall() for cursor in cursors]


async def undisturbed(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in a task of its own: a caller that goes away does not leave a pipeline half read."""
    task = asyncio.ensure_future(work())
    # Its caller may be gone; an exception nobody fetches would be logged as forgotten.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


def _merged(steps: Sequence[Row], live: Sequence[Row]) -> list[Step]:
    """Step rows and dispatch rows as one list; a step that has both is live."""
    found: dict[int, Step] = {}
    for row in steps:
        columns: Sequence[Any] = (*row[:11], (row[11], row[12]), *row[13:])
        found[row[0]] = Step(*columns)
    for (
        no, path, iteration, visit, kind, executor, attempt, max_attempts, lease_losses, request, left_out, error,
        due_at, created_at, leased_at, progress, _,
    ) in live:  # fmt: skip
        status = "ready" if executor is None else "running"
        found[no] = Step(
            no, path, iteration, visit, kind, status, attempt - 1, max_attempts, lease_losses, request, None,
            (left_out, 0), error, executor or "", None, due_at, created_at, leased_at, None, progress,
        )  # fmt: skip
    return [found[no] for no in sorted(found)]


def _matching(owner_id: UUID, filters: Filters) -> Select[Any]:
    r = schema.runs.c
    statement = select(*_COLUMNS).where(r.owner_id == owner_id)
    if filters.status is not None:
        statement = statement.where(r.status == filters.status)
    if filters.template_id is not None:
        statement = statement.where(r.template_id == filters.template_id)
    for name, value in filters.labels:
        wanted = literal(msgspec.json.encode({name: value}).decode(), Text)
        statement = statement.where(r.labels.op("@>")(cast(wanted, JSONB)))
    # Ids are in the order of time, so bounds on them let the index of the list leave out the rest.
    if filters.created_after is not None:
        statement = statement.where(
            r.created_at >= filters.created_after, r.id >= _first_id(filters.created_after, -SKEW)
        )
    if filters.created_before is not None:
        statement = statement.where(
            r.created_at < filters.created_before, r.id < _first_id(filters.created_before, SKEW)
        )
    return statement


def _page(matching: Select[Any], limit: int, offset: int) -> Select[Any]:
    page = matching.order_by(schema.runs.c.id.desc()).limit(limit).offset(offset).subquery("page")
    columns = [
        literal_column(f"CASE WHEN octet_length(page.{column.name}) <= {MOST_LISTED} THEN page.{column.name} END")
        if column.name in ("input", "output")
        else column
        for column in page.c
    ]
    return select(*columns, _HEARTBEAT).select_from(page).order_by(page.c.id.desc())


def _first_id(moment: datetime, shift: timedelta) -> UUID:
    """The least UUIDv7 of a moment, moved; the ends of the range when that is none a UUIDv7 can have."""
    milliseconds = int(moment.timestamp() * 1000) + shift // timedelta(milliseconds=1)
    return UUID(int=min(max(milliseconds, 0), (1 << 48) - 1) << 80)
