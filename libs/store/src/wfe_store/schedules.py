"""Schedules of owners: what starts runs by cron, and the record of the moments they were due at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID, uuid4

from psycopg import errors, sql
from wfe_engine.errors import AlreadyExists, NotFound, ResourceExhausted, StateConflict

from wfe_store.pool import Connection, Database, Row, fetch_all, fetch_one

#: Schedules an owner may have.
MOST_SCHEDULES = 1000

#: Gives the first firing after a moment; None when there is none.
Reckon = Callable[[datetime], datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a schedule says.

    Attributes:
        name: Unique within the owner.
        template_id: Of the template.
        version: Published version; None for the newest at each firing.
        input, labels: JSON text of what its runs are started with.
        cron, time_zone: When.
        overlap: skip, queue, cancel or allow.
        catch_up_seconds: How late a firing may be.
    """

    name: str
    template_id: UUID
    version: int | None
    input: str
    labels: str
    cron: str
    time_zone: str
    overlap: str
    catch_up_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule.

    Attributes:
        id, owner_id: Of the schedule.
        terms: What it says.
        revision: Rises with every change.
        next_at: Its next firing; None while it is paused, and when there is none.
        reckoned_at: The moment from which next_at was reckoned.
        paused_at: Since when it is paused.
        created_by, starter: Who made it, and who is behind its runs.
        created_at, updated_at: When.
    """

    id: UUID
    owner_id: UUID
    terms: Terms
    revision: int
    next_at: datetime | None
    reckoned_at: datetime
    paused_at: datetime | None
    created_by: UUID
    starter: UUID
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Firing:
    """One moment a schedule was due at.

    Attributes:
        at: The moment.
        status: due, starting, started, skipped, missed or failed.
        run_id: Its run, once it has started.
        reason: Why it has not.
    """

    at: datetime
    status: str
    run_id: UUID | None
    reason: str


_TERMS = "name, template_id, template_version, input, labels, cron, time_zone, overlap, catch_up_seconds"
#: Columns of a schedule, for `schedule_of`.
COLUMNS = sql.SQL(
    "id, owner_id, revision, next_at, reckoned_at, paused_at, created_by, starter, created_at, updated_at, {}"
).format(sql.SQL(_TERMS))
_NAMES = tuple(_TERMS.replace("template_version", "version").split(", "))


class Schedules:
    """Schedules, each call within one owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owner: UUID, principal: UUID, terms: Terms, reckon: Reckon) -> Schedule:
        """Make a schedule, active at once.

        Raises:
            AlreadyExists: The owner has one of that name.
            ResourceExhausted: The owner has too many.
        """

        async def work(connection: Connection) -> Schedule:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{owner}/schedules",))
            row = await fetch_one(connection, "SELECT count(*) FROM schedules WHERE owner_id = %s", (owner,))
            if row and row[0] >= MOST_SCHEDULES:
                raise ResourceExhausted(
                    f"there are {MOST_SCHEDULES} schedules already; delete one first", reason="TOO_MANY_SCHEDULES"
                )
            now = await moment(connection)
            made = await fetch_one(
                connection,
                sql.SQL(
                    "INSERT INTO schedules (id, owner_id, next_at, reckoned_at, created_by, starter, {})"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING {}"
                ).format(sql.SQL(_TERMS), COLUMNS),
                (uuid4(), owner, reckon(now), now, principal, principal, *_values(terms)),
            )
            assert made is not None
            return schedule_of(made)

        return await self._named(terms.name, work)

    async def update(
        self, owner: UUID, schedule: UUID, principal: UUID, terms: Terms, reckon: Reckon, *, expected: int | None
    ) -> Schedule:
        """Replace what a schedule says; its runs are this principal's from now on.

        Args:
            expected: Revision it must have now; None for any.

        Raises:
            NotFound: The owner has no such schedule.
            AlreadyExists: The owner has another one of that name.
            StateConflict: It has another revision.
        """

        async def work(connection: Connection) -> Schedule:
            present = await _locked(connection, owner, schedule)
            if expected is not None and expected != present.revision:
                raise StateConflict(
                    f"schedule {schedule} has revision {present.revision}, not {expected}",
                    reason="SCHEDULE_REVISION",
                    schedule_id=schedule,
                    revision=present.revision,
                )
            now = await moment(connection)
            names = ", ".join(f"{name} = %s" for name in _TERMS.split(", "))
            return await _changed(
                connection,
                schedule,
                f"{names}, starter = %s, next_at = %s, reckoned_at = %s",
                *_values(terms),
                principal,
                None if present.paused_at else reckon(now),
                now,
            )

        return await self._named(terms.name, work)

    async def pause(self, owner: UUID, schedule: UUID) -> Schedule:
        """Let no more firings happen; one that waits is dropped. Safe to repeat.

        Raises:
            NotFound: The owner has no such schedule.
        """

        async def work(connection: Connection) -> Schedule:
            present = await _locked(connection, owner, schedule)
            if present.paused_at is not None:
                return present
            await connection.execute(
                "UPDATE schedule_firings SET status = 'skipped', reason = 'the schedule was paused'"
                " WHERE schedule_id = %s AND status = 'due'",
                (schedule,),
            )
            return await _changed(connection, schedule, "next_at = NULL, paused_at = %s", await moment(connection))

        return await self._database.transaction(work)

    async def resume(self, owner: UUID, schedule: UUID, reckon: Callable[[Terms], Reckon]) -> Schedule:
        """Let firings happen again, from now on. Safe to repeat.

        Raises:
            NotFound: The owner has no such schedule.
        """

        async def work(connection: Connection) -> Schedule:
            present = await _locked(connection, owner, schedule)
            if present.paused_at is None:
                return present
            now = await moment(connection)
            return await _changed(
                connection,
                schedule,
                "next_at = %s, reckoned_at = %s, paused_at = NULL",
                reckon(present.terms)(now),
                now,
            )

        return await self._database.transaction(work)

    async def delete(self, owner: UUID, schedule: UUID) -> Schedule:
        """Remove a schedule and the record of its firings; gives what it was.

        Raises:
            NotFound: The owner has no such schedule.
        """
        async with self._database.connection() as connection:
            gone = await fetch_one(
                connection,
                sql.SQL("DELETE FROM schedules WHERE owner_id = %s AND id = %s RETURNING {}").format(COLUMNS),
                (owner, schedule),
            )
        return schedule_of(_there(gone, schedule))

    async def get(self, owner: UUID, schedule: UUID, *, firings: int = 0) -> tuple[Schedule, list[Firing]]:
        """One schedule, and so many of its newest firings, newest first.

        Raises:
            NotFound: The owner has no such schedule.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                sql.SQL("SELECT {} FROM schedules WHERE owner_id = %s AND id = %s").format(COLUMNS),
                (owner, schedule),
            )
            found = schedule_of(_there(row, schedule))
            rows = await fetch_all(
                connection,
                "SELECT at, status, run_id, reason FROM schedule_firings WHERE schedule_id = %s"
                " ORDER BY at DESC LIMIT %s",
                (schedule, firings),
            )
        return found, [Firing(*each) for each in rows]

    async def list(self, owner: UUID, *, name: str, limit: int, offset: int) -> tuple[list[Schedule], int]:
        """A page of the owner's schedules by name, or the one of that name, and how many there are."""
        async with self._database.connection() as connection:
            rows = await fetch_all(
                connection,
                sql.SQL("SELECT {} FROM schedules WHERE owner_id = %s AND (%s = '' OR name = %s) ORDER BY name").format(
                    COLUMNS
                ),
                (owner, name, name),
            )
        return [schedule_of(row) for row in rows[offset : offset + limit]], len(rows)

    async def _named(self, name: str, work: Callable[[Connection], Awaitable[Schedule]]) -> Schedule:
        try:
            return await self._database.transaction(work)
        except errors.UniqueViolation as fault:
            raise AlreadyExists(
                f"there is a schedule named {name} already", reason="SCHEDULE_NAME_TAKEN", name=name
            ) from fault


async def moment(connection: Connection) -> datetime:
    """The present moment, by the one clock everything is compared with."""
    row = await fetch_one(connection, "SELECT clock_timestamp()")
    assert row is not None
    found: datetime = row[0]
    return found


def schedule_of(row: Row) -> Schedule:
    """A schedule from its COLUMNS."""
    *first, name, template, version, given, labels, cron, zone, overlap, catch_up = row
    ident, owner, revision, next_at, reckoned_at, paused_at, created_by, starter, created_at, updated_at = first
    return Schedule(
        id=ident,
        owner_id=owner,
        terms=Terms(
            name=name,
            template_id=template,
            version=version,
            input=given,
            labels=labels,
            cron=cron,
            time_zone=zone,
            overlap=overlap,
            catch_up_seconds=catch_up,
        ),
        revision=revision,
        next_at=next_at,
        reckoned_at=reckoned_at,
        paused_at=paused_at,
        created_by=created_by,
        starter=starter,
        created_at=created_at,
        updated_at=updated_at,
    )


def _values(terms: Terms) -> list[object]:
    return [getattr(terms, name) for name in _NAMES]


def _there(row: Row | None, schedule: UUID) -> Row:
    if row is None:
        raise NotFound(f"there is no schedule {schedule}", schedule_id=schedule)
    return row


async def _locked(connection: Connection, owner: UUID, schedule: UUID) -> Schedule:
    row = await fetch_one(
        connection,
        sql.SQL("SELECT {} FROM schedules WHERE owner_id = %s AND id = %s FOR UPDATE").format(COLUMNS),
        (owner, schedule),
    )
    return schedule_of(_there(row, schedule))


async def _changed(connection: Connection, schedule: UUID, changes: LiteralString, *values: object) -> Schedule:
    row = await fetch_one(
        connection,
        sql.SQL(
            "UPDATE schedules SET {}, revision = revision + 1, updated_at = clock_timestamp()"
            " WHERE id = %s RETURNING {}"
        ).format(sql.SQL(changes), COLUMNS),
        (*values, schedule),
    )
    return schedule_of(_there(row, schedule))
