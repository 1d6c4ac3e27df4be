"""Deliveries: taken by senders, ended by outcomes, listed and sent again by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select
from wfe_engine.errors import NotFound

from wfe_store.paging import Page, compiled, fetch_page
from wfe_store.pool import Connection, Database, fetch_all, fetch_one
from wfe_store.schema_webhooks import webhook_deliveries, webhook_messages

STATUSES = ("pending", "delivered", "failed", "filtered")
#: Attempts a delivery's log keeps.
MOST_LOGGED = 20


@dataclass(frozen=True, slots=True)
class Job:
    """A delivery a sender took, and has until its lease is over.

    Attributes:
        id: Of the delivery.
        claim: Number of the taking; an outcome under an older one changes nothing.
        webhook_id, version: Subscription, and the version it has now.
        attempts: Made so far.
        unfiltered: Its filter has not been evaluated.
        run_id: Run it tells of; None for none.
        message_id: The webhook-id header.
        body: JSON text.
        age: Seconds since it was made; None when it is no first attempt.
        traceparent: Trace context of that run; empty for none.
    """

    id: UUID
    claim: int
    webhook_id: UUID
    version: int
    attempts: int
    unfiltered: bool
    run_id: UUID | None
    message_id: str
    body: str
    age: float | None = None
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """How many deliveries a sender can take.

    Attributes:
        rooms: Of each subscription it knows.
        known: Of those together.
        new: Of all others together; of each of them one.
    """

    rooms: Mapping[UUID, int]
    known: int
    new: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt.

    Attributes:
        job: The delivery.
        status: delivered, failed, filtered, or pending for another attempt.
        delay: Seconds until that.
        began: Unix seconds; None when nothing was sent.
        entry: JSON text for the log; empty when nothing was sent.
    """

    job: Job
    status: str
    delay: float = 0.0
    began: float | None = None
    entry: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery, for people.

    Attributes:
        id, webhook_id, message_id, run_id: See the store's columns.
        type: Of the event.
        status: One of STATUSES.
        attempts: Made since it was made or sent again.
        created_at, first_at, ended_at: Moments; None while it has not come to that.
        next_at: When the next attempt is due; of a pending one.
        log: JSON texts of its attempts, oldest first; empty in lists.
        body: What is sent; empty in lists.
    """

    id: UUID
    webhook_id: UUID
    message_id: str
    run_id: UUID | None
    status: str
    attempts: int
    created_at: datetime
    first_at: datetime | None
    ended_at: datetime | None
    next_at: datetime
    type: str
    log: tuple[str, ...] = ()
    body: str = ""


# Taking and ending wait for no flush to disk: every delivery would wait with them. What a crash of the server takes
# back was sent and is sent again under the same id, as after any crash between sending and recording.
UNFLUSHED = "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'"
# The subscriptions with something pending are found by skipping through the index, so what it costs is one look for
# each of them, however much waits for it.
_DUE = """
    CROSS JOIN LATERAL (
        SELECT x.id FROM webhook_deliveries x
        WHERE x.webhook_id = w.id AND x.status = 'pending' AND NOT x.held AND x.next_at <= now()
        ORDER BY x.next_at LIMIT {} FOR UPDATE SKIP LOCKED
    ) d
"""
_TAKE = f"""
WITH RECURSIVE q (webhook_id) AS (
    (SELECT webhook_id FROM webhook_deliveries WHERE status = 'pending' AND NOT held ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.webhook_id FROM webhook_deliveries d WHERE d.status = 'pending' AND NOT d.held
        AND d.webhook_id > q.webhook_id ORDER BY d.webhook_id LIMIT 1)
    FROM q WHERE q.webhook_id IS NOT NULL
), w AS MATERIALIZED (
    SELECT w.id, w.version, k.room FROM q
    JOIN webhooks w ON w.id = q.webhook_id AND w.disabled_at IS NULL AND coalesce(w.paused_until <= now(), true)
    LEFT JOIN unnest(%(webhooks)s::uuid[], %(rooms)s::int[]) AS k (webhook_id, room) ON k.webhook_id = w.id
), known AS MATERIALIZED (
    SELECT d.id, w.version FROM w {_DUE.format("w.room")} WHERE w.room > 0 LIMIT %(known)s
), new AS MATERIALIZED (
    SELECT d.id, w.version FROM w {_DUE.format("1")} WHERE w.room IS NULL LIMIT %(new)s
)
UPDATE webhook_deliveries t SET claim = t.claim + 1, next_at = now() + make_interval(secs => %(lease)s)
FROM (SELECT * FROM known UNION ALL SELECT * FROM new) p, webhook_messages m
WHERE t.id = p.id AND m.id = t.message_id AND t.status = 'pending' AND {UNFLUSHED}
RETURNING t.id, t.claim, t.webhook_id, p.version, t.attempts, t.unfiltered, t.run_id, t.message_id, m.body,
    CASE WHEN t.first_at IS NULL THEN extract(epoch FROM clock_timestamp() - t.created_at)::float8 END,
    coalesce((SELECT r.traceparent FROM run_traces r WHERE r.run_id = t.run_id), '')
"""  # noqa: S608 - no input in it
_END = f"""
UPDATE webhook_deliveries t SET status = d.status, attempts = t.attempts + CASE WHEN d.entry = '' THEN 0 ELSE 1 END,
    log = CASE WHEN d.entry = '' THEN t.log ELSE (t.log || d.entry)[greatest(1, cardinality(t.log) + 2 - %s):] END,
    next_at = now() + make_interval(secs => d.delay), first_at = coalesce(t.first_at, to_timestamp(d.began)),
    unfiltered = t.unfiltered AND d.entry = '',
    ended_at = CASE WHEN d.status <> 'pending' THEN now() END
FROM unnest(%s::uuid[], %s::int[], %s::text[], %s::float8[], %s::float8[], %s::text[])
    AS d (id, claim, status, delay, began, entry)
WHERE t.id = d.id AND t.claim = d.claim AND t.status = 'pending' AND {UNFLUSHED}
RETURNING t.id
"""  # noqa: S608 - no input in it
_d, _m = webhook_deliveries.c, webhook_messages.c
_LISTED = select(
    _d.id, _d.webhook_id, _d.message_id, _d.run_id, _d.status, _d.attempts, _d.created_at, _d.first_at, _d.ended_at,
    _d.next_at, _m.type,
).select_from(webhook_deliveries.join(webhook_messages, _m.id == _d.message_id))  # fmt: skip


class Deliveries:
    """The deliveries of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, room: Room, *, lease: float) -> list[Job]:
        """Take due deliveries for sending, as far as there is room.

        What another sender is taking at this moment is passed over. When the lease is over and no outcome came, it is
        due again.

        Args:
            room: How many.
            lease: Seconds.
        """
        values = {
            "webhooks": list(room.rooms), "rooms": list(room.rooms.values()), "known": room.known, "new": room.new,
            "lease": lease,
        }  # fmt: skip
        async with self._database.connection() as connection:
            return [Job(*row) for row in await fetch_all(connection, _TAKE, values)]

    async def end(self, outcomes: Sequence[Outcome]) -> set[UUID]:
        """Record outcomes, in one statement; gives the deliveries that were still the sender's."""
        columns = zip(*((o.job.id, o.job.claim, o.status, o.delay, o.began, o.entry) for o in outcomes), strict=True)
        async with self._database.connection() as connection:
            rows = await fetch_all(connection, _END, (MOST_LOGGED, *map(list, columns)))
        return {delivery for (delivery,) in rows}

    async def note(
        self, *, works: Sequence[UUID], fails: Sequence[UUID], pauses: Mapping[UUID, float], patience: timedelta
    ) -> list[UUID]:
        """Note of subscriptions that they work, fail, or are to be left alone for some seconds.

        Returns:
            Those that failed now, and for longer than `patience` without a success between.
        """
        async with self._database.connection() as connection:
            if works:
                await connection.execute(
                    "UPDATE webhooks SET failing_since = NULL WHERE id = ANY(%s) AND failing_since IS NOT NULL",
                    (list(works),),
                )
            if pauses:
                await connection.execute(
                    "UPDATE webhooks w SET paused_until = now() + make_interval(secs => d.seconds)"
                    " FROM unnest(%s::uuid[], %s::float8[]) AS d (id, seconds) WHERE w.id = d.id"
                    " AND coalesce(w.paused_until < now() + make_interval(secs => d.seconds), true)",
                    (list(pauses), list(pauses.values())),
                )
            if not fails:
                return []
            await connection.execute(
                "UPDATE webhooks SET failing_since = clock_timestamp() WHERE id = ANY(%s)"
                " AND failing_since IS NULL AND disabled_at IS NULL",
                (list(fails),),
            )
            rows = await fetch_all(
                connection,
                "SELECT id FROM webhooks WHERE id = ANY(%s) AND disabled_at IS NULL"
                " AND failing_since < clock_timestamp() - %s",
                (list(fails), patience),
            )
        return [webhook_id for (webhook_id,) in rows]

    async def end_disabled(self, *, limit: int) -> int:
        """End pending deliveries of disabled subscriptions as failed; they can be sent again. Gives how many."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                "UPDATE webhook_deliveries SET status = 'failed', ended_at = now(), claim = claim + 1 WHERE id IN ("
                " SELECT d.id FROM webhooks w JOIN webhook_deliveries d ON d.webhook_id = w.id AND d.status = 'pending'"
                " WHERE w.disabled_at IS NOT NULL LIMIT %s FOR UPDATE OF d SKIP LOCKED) AND status = 'pending'",
                (limit,),
            )
        return cursor.rowcount

    async def get(self, owner_id: UUID, webhook_id: UUID, delivery_id: UUID) -> Delivery:
        """One delivery, with its attempts and what is sent.

        Raises:
            NotFound: The owner's subscription has no such one.
        """
        statement = _LISTED.add_columns(_d.log, _m.body).where(
            _d.owner_id == owner_id, _d.webhook_id == webhook_id, _d.id == delivery_id
        )
        async with self._database.connection() as connection:
            row = await fetch_one(connection, *compiled(statement))
        if row is None:
            raise _missing(delivery_id)
        *plain, log, body = row
        return replace(Delivery(*plain), log=tuple(log), body=body)

    async def list(
        self, owner_id: UUID, webhook_id: UUID, *, status: str | None, limit: int, offset: int
    ) -> Page[Delivery]:
        """A subscription's deliveries, newest first, without attempts and bodies."""
        statement: Select[Any] = _LISTED.where(_d.owner_id == owner_id, _d.webhook_id == webhook_id)
        if status is not None:
            statement = statement.where(_d.status == status)
        statement = statement.order_by(_d.created_at.desc(), _d.id.desc())
        async with self._database.connection() as connection:
            return await fetch_page(connection, statement, Delivery, limit=limit, offset=offset)

    async def of_message(self, owner_id: UUID, webhook_id: UUID, message_id: str) -> Delivery:
        """The delivery of a message to a subscription, with its attempts.

        Raises:
            NotFound: There is none.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                "SELECT id FROM webhook_deliveries WHERE owner_id = %s AND webhook_id = %s AND message_id = %s",
                (owner_id, webhook_id, message_id),
            )
        if row is None:
            raise _missing(message_id)
        return await self.get(owner_id, webhook_id, row[0])

    async def again(
        self, owner_id: UUID, webhook_id: UUID, *, delivery_id: UUID | None, since: datetime | None,
        statuses: Sequence[str],
    ) -> Sequence[tuple[UUID, UUID | None]]:  # fmt: skip
        """Make deliveries pending again, with a fresh schedule; an attempt under way counts no more.

        Those of an ordered subscription are held: release their runs after.

        Args:
            owner_id, webhook_id: Of which subscription.
            delivery_id: One; None for all since `since` with one of the statuses.
            since: When they were made, at the earliest.
            statuses: Which of them.

        Returns:
            (subscription, run) of each.

        Raises:
            NotFound: The subscription has no such delivery.
        """
        wanted = "d.id = %(delivery)s" if delivery_id else "d.created_at >= %(since)s AND d.status = ANY(%(statuses)s)"
        values = {
            "owner": owner_id, "webhook": webhook_id, "delivery": delivery_id, "since": since,
            "statuses": list(statuses),
        }  # fmt: skip

        async def work(connection: Connection) -> Sequence[tuple[UUID, UUID | None]]:
            rows = await fetch_all(
                connection,
                "UPDATE webhook_deliveries d SET status = 'pending', attempts = 0, claim = d.claim + 1,"  # noqa: S608
                " next_at = now(), ended_at = NULL, held = w.ordered AND d.run_id IS NOT NULL FROM webhooks w"
                " WHERE w.id = d.webhook_id AND d.owner_id = %(owner)s AND d.webhook_id = %(webhook)s"
                f" AND {wanted} RETURNING d.webhook_id, d.run_id",
                values,
            )
            return [(webhook, run) for webhook, run in rows]

        found = await self._database.transaction(work)
        if delivery_id and not found:
            raise _missing(delivery_id)
        return found

    async def prune(self, age: timedelta, *, limit: int) -> int:
        """Remove deliveries made longer ago, and messages without any; gives how many rows."""
        async with self._database.connection() as connection:
            removed = 0
            for table in ("webhook_deliveries", "webhook_messages"):
                cursor = await connection.execute(
                    f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE created_at"  # noqa: S608
                    " < clock_timestamp() - %s ORDER BY created_at LIMIT %s)",
                    (age, limit),
                )
                removed += cursor.rowcount
        return removed


def _missing(delivery_id: object) -> NotFound:
    return NotFound(f"there is no delivery {delivery_id}", delivery_id=delivery_id)
