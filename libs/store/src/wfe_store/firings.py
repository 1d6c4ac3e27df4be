"""Firings of schedules: who decides on one does it under the lock of its schedule, once.

Three transactions lead from a moment to a run. `reckon` turns moments that have come into rows, at most one for each.
`judge` says what comes of the oldest row: the overlap policy is asked here and never again. A row that is `starting`
stays so until its run is there; the run is started under a key made of schedule and moment, so doing it twice, or by
two schedulers, makes one run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import sql

from wfe_store.pool import Connection, Database, fetch_all, fetch_one
from wfe_store.schedules import COLUMNS, Reckon, Schedule, Terms, moment, schedule_of

#: Firings of one schedule that happen at once after downtime, at most: the newest.
MOST_CAUGHT_UP = 10
#: Firings kept on record for each schedule; the overlap policy looks at no older ones.
KEPT = 100
#: Seconds the clock may seem to have gone back before firings are reckoned anew.
CLOCK_BACK_SECONDS = 60

#: Gives the newest firings of a span, both ends included: since, until, at most so many.
Newest = Callable[[datetime, datetime, int], list[datetime]]


@dataclass(frozen=True, slots=True)
class Judged:
    """What comes of a firing.

    Attributes:
        schedule: As it was when it was decided.
        at: The moment.
        cancel: Runs that must end first; then it is judged again.
    """

    schedule: Schedule
    at: datetime
    cancel: tuple[UUID, ...] = ()


_PICK = sql.SQL("SELECT {} FROM schedules WHERE id = %s FOR UPDATE SKIP LOCKED").format(COLUMNS)


class Firings:
    """Firings of the schedules of every owner.

    Args:
        now: The present moment in a transaction; Postgres's clock unless a test has another one.
    """

    def __init__(self, database: Database, now: Callable[[Connection], Awaitable[datetime]] = moment) -> None:
        self._database = database
        self._now = now

    async def pending(self, limit: int = 100) -> tuple[list[UUID], list[UUID]]:
        """Schedules whose moment has come, or whose clock went back; and schedules with firings to be decided on."""
        async with self._database.connection() as connection:
            now = await self._now(connection)
            due = await fetch_all(
                connection,
                "SELECT id FROM schedules WHERE next_at <= %(now)s"
                " OR (next_at IS NOT NULL AND reckoned_at > %(now)s + make_interval(secs => %(back)s))"
                " ORDER BY next_at LIMIT %(limit)s",
                {"now": now, "back": CLOCK_BACK_SECONDS, "limit": limit},
            )
            open_ = await fetch_all(
                connection,
                "SELECT DISTINCT schedule_id FROM schedule_firings WHERE status IN ('due', 'starting') LIMIT %s",
                (limit,),
            )
        return [row[0] for row in due], [row[0] for row in open_]

    async def reckon(self, schedule_id: UUID, cron: Callable[[Terms], tuple[Reckon, Newest]]) -> int:
        """Turn the moments of a schedule that have come into firings, and set its next one.

        Returns:
            Firings that are to happen. 0 also when somebody else is at it.
        """

        async def work(connection: Connection) -> int:
            row = await fetch_one(connection, _PICK, (schedule_id,))
            schedule = None if row is None else schedule_of(row)
            if schedule is None or schedule.next_at is None:
                return 0
            now = await self._now(connection)
            after, newest = cron(schedule.terms)
            happens: list[datetime] = []
            if schedule.next_at <= now:
                late = schedule.terms.catch_up_seconds
                found = newest(schedule.next_at, now, MOST_CAUGHT_UP)
                happens = [at for at in found if (now - at).total_seconds() <= late]
                if not happens or happens[0] > schedule.next_at:
                    until = f" and what followed until {happens[0]:%Y-%m-%dT%H:%M:%SZ}" if happens else ""
                    reason = f"it was more than {late} s late, or too many were late{until}"
                    await _insert(connection, schedule_id, [schedule.next_at], "missed", reason)
                await _insert(connection, schedule_id, happens, "due", "")
            await connection.execute(
                "UPDATE schedules SET next_at = %s, reckoned_at = %s WHERE id = %s AND next_at = %s AND revision = %s",
                (after(now), now, schedule_id, schedule.next_at, schedule.revision),
            )
            await connection.execute(
                "DELETE FROM schedule_firings WHERE schedule_id = %(id)s AND status NOT IN ('due', 'starting')"
                " AND at < (SELECT at FROM schedule_firings WHERE schedule_id = %(id)s"
                "           ORDER BY at DESC OFFSET %(kept)s LIMIT 1)",
                {"id": schedule_id, "kept": KEPT - 1},
            )
            return len(happens)

        return await self._database.transaction(work)

    async def judge(self, schedule_id: UUID) -> Judged | None:
        """Decide on the oldest firing of a schedule that is not decided on, by its overlap policy.

        Returns:
            What to start, or to cancel first; None when there is nothing to do now: it waits, was skipped, or somebody
            else is at it.
        """

        async def work(connection: Connection) -> Judged | None:
            row = await fetch_one(connection, _PICK, (schedule_id,))
            if row is None:
                return None
            schedule = schedule_of(row)
            open_ = await fetch_all(
                connection,
                "SELECT at, status FROM schedule_firings WHERE schedule_id = %s AND status IN ('due', 'starting')"
                " ORDER BY at",
                (schedule_id,),
            )
            if not open_:
                return None
            at, status = open_[0]
            if status == "starting":
                return Judged(schedule, at)
            policy = schedule.terms.overlap
            active = () if policy == "allow" else await _active(connection, schedule_id)
            if active and policy == "skip":
                await _conclude(connection, schedule_id, at, "due", "skipped", None, f"run {active[0]} has not ended")
                return None
            if active:
                # One waits; those behind it would never get their turn if runs take longer than a period.
                for later, _ in open_[1:]:
                    await _conclude(
                        connection, schedule_id, later, "due", "skipped", None, f"{at:%FT%TZ} waits already"
                    )
                return Judged(schedule, at, active) if policy == "cancel" else None
            await _conclude(connection, schedule_id, at, "due", "starting", None, "")
            return Judged(schedule, at)

        return await self._database.transaction(work)

    async def triggered(self, schedule_id: UUID, at: datetime, run: UUID) -> None:
        """A run was started by hand: it is on record, and for the overlap policy, like any other. Safe to repeat."""
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO schedule_firings (schedule_id, at, status, run_id, reason)"
                " SELECT id, %s, 'started', %s, 'triggered' FROM schedules WHERE id = %s ON CONFLICT DO NOTHING",
                (at, run, schedule_id),
            )

    async def started(self, schedule_id: UUID, at: datetime, run: UUID) -> None:
        """The run of a firing is there."""
        async with self._database.connection() as connection:
            await _conclude(connection, schedule_id, at, "starting", "started", run, "")

    async def failed(self, schedule_id: UUID, at: datetime, reason: str) -> None:
        """A firing starts no run."""
        async with self._database.connection() as connection:
            await _conclude(connection, schedule_id, at, "starting", "failed", None, reason)

    async def may_start(self, schedule: Schedule) -> bool:
        """Whether the principal behind a schedule is not shut out."""
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                "SELECT 1 FROM principals WHERE id = %s AND owner_id = %s AND disabled_at IS NULL",
                (schedule.starter, schedule.owner_id),
            )
        return row is not None


async def _active(connection: Connection, schedule_id: UUID) -> tuple[UUID, ...]:
    rows = await fetch_all(
        connection,
        "SELECT r.id FROM schedule_firings f JOIN runs r ON r.id = f.run_id"
        " WHERE f.schedule_id = %s AND f.status = 'started' AND r.status NOT IN ('completed', 'failed', 'cancelled')"
        " ORDER BY f.at",
        (schedule_id,),
    )
    return tuple(row[0] for row in rows)


async def _insert(connection: Connection, schedule_id: UUID, moments: list[datetime], status: str, reason: str) -> None:
    # A moment that has a row has had its turn, whatever the clock has done meanwhile.
    for at in moments:
        await connection.execute(
            "INSERT INTO schedule_firings (schedule_id, at, status, reason) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (schedule_id, at, status, reason),
        )


async def _conclude(
    connection: Connection, schedule_id: UUID, at: datetime, before: str, status: str, run: UUID | None, reason: str
) -> None:
    await connection.execute(
        "UPDATE schedule_firings SET status = %s, run_id = %s, reason = %s"
        " WHERE schedule_id = %s AND at = %s AND status = %s",
        (status, run, reason, schedule_id, at, before),
    )
