"""From the outbox to deliveries: every event of it becomes one for each subscription that wants it, exactly once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from wfe_store.deliveries import UNFLUSHED
from wfe_store.pool import Connection, Database, fetch_all, fetch_one
from wfe_store.schema_webhooks import webhooks
from wfe_store.webhooks import Webhook, _webhook

#: Names the lock in pg_locks: one process at a time makes deliveries, so one run's come in order.
_LOCK = 0x57_46_45_02
_COLUMNS = ", ".join(column.name for column in webhooks.c)


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, and the run it happened to.

    Attributes:
        owner_id, run_id, seq: Which.
        at: When.
        type, actor, reason: As in the run's log.
        data: JSON text.
        template_id, template_name, template_version: Of the run.
        labels: JSON text of an object.
    """

    owner_id: UUID
    run_id: UUID
    seq: int
    at: datetime
    type: str
    actor: str
    reason: str
    data: str
    template_id: UUID
    template_name: str
    template_version: int
    labels: str


@dataclass(frozen=True, slots=True)
class Message:
    """What is told.

    Attributes:
        id: The same over all attempts, and for all subscriptions.
        type: Of the event.
        body: JSON text, sent as it is.
        run_id, seq: Event it tells of; None and 0 when it is none of a run.
    """

    id: str
    type: str
    body: str
    run_id: UUID | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Addressed:
    """A message with its addressees.

    Attributes:
        message: What.
        to: Whom.
        unfiltered: Those of them whose filter is left to the sender, because it may take long.
    """

    message: Message
    to: Sequence[Webhook]
    unfiltered: Collection[UUID] = ()


#: Makes messages of what happened, for those of the subscriptions given that want them. Must be quick and repeatable.
Address = Callable[[Sequence[Happened], Sequence[Webhook]], Sequence[Addressed]]


class Feed:
    """Makes deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def turn(self, address: Address, *, limit: int) -> int:
        """Turn the oldest entries of the outbox into deliveries, in one transaction.

        Returns:
            How many entries; 0 also while another process is at it.
        """
        done = 0
        held: set[tuple[UUID, UUID]] = set()

        async def work(connection: Connection) -> None:
            nonlocal done, held
            done, held = 0, set()
            # Without a flush of its own: what a crash of the server takes back is made again, with the same ids.
            lock = await fetch_one(connection, f"SELECT pg_try_advisory_xact_lock(%s) AND {UNFLUSHED}", (_LOCK,))
            if lock is None or not lock[0]:
                return
            entries = await fetch_all(
                connection,
                "SELECT id, owner_id, run_id, first_seq, last_seq FROM webhook_outbox ORDER BY id LIMIT %s",
                (limit,),
            )
            if not entries:
                return
            ids, owners, runs, firsts, lasts = (list(column) for column in zip(*entries, strict=True))
            subscriptions = await _subscriptions(connection, owners)
            if subscriptions:
                happened = await fetch_all(
                    connection,
                    "SELECT r.owner_id, e.run_id, e.seq, e.at, e.type, e.actor, e.reason, e.data, r.template_id,"
                    " r.template_name, r.template_version, r.labels"
                    " FROM unnest(%s::bigint[], %s::uuid[], %s::int[], %s::int[]) AS d (id, run_id, first, last)"
                    " JOIN runs r ON r.id = d.run_id"
                    " JOIN events e ON e.run_id = d.run_id AND e.seq BETWEEN d.first AND d.last"
                    " ORDER BY d.id, e.seq",
                    (ids, runs, firsts, lasts),
                )
                found = address([Happened(*row) for row in happened], subscriptions)
                held = await _insert(connection, found)
            await connection.execute("DELETE FROM webhook_outbox WHERE id = ANY(%s)", (ids,))
            done = len(entries)

        await self._database.transaction(work)
        await self.release(held)
        return done

    async def tell(self, messages: Sequence[Message], to: Webhook) -> None:
        """Make deliveries of messages to one subscription, whatever types it wants."""

        async def work(connection: Connection) -> None:
            await _insert(connection, [Addressed(message, [to]) for message in messages])

        await self._database.transaction(work)

    async def disable(
        self, webhook_id: UUID, reason: str, address: Callable[[Webhook, Sequence[Webhook]], Addressed]
    ) -> bool:
        """Tell a subscription nothing any more, and tell the owner's others of it; whether it was still told.

        Args:
            webhook_id: Which.
            reason: gone or failing.
            address: Makes the message about it, for those of the others that want it.
        """

        async def work(connection: Connection) -> bool:
            row = await fetch_one(
                connection,
                "UPDATE webhooks SET disabled_at = clock_timestamp(), disabled_reason = %s, version = version + 1"  # noqa: S608
                f" WHERE id = %s AND disabled_at IS NULL RETURNING {_COLUMNS}",
                (reason, webhook_id),
            )
            if row is None:
                return False
            gone = _webhook(*row)
            others = await _subscriptions(connection, [gone.owner_id])
            await _insert(connection, [address(gone, others)])
            return True

        return await self._database.transaction(work)

    async def release(self, runs: Collection[tuple[UUID, UUID]]) -> None:
        """Let the earliest pending delivery of each go, by (subscription, run), if it is held. Safe to repeat.

        Must come after the commit of whatever ended the one before it, or held this one: of two such commits the later
        one's release sees both.
        """
        if not runs:
            return
        ordered = sorted(runs)
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE webhook_deliveries d SET held = false, next_at = now()"
                " FROM unnest(%s::uuid[], %s::uuid[]) AS k (webhook_id, run_id)"
                " WHERE d.webhook_id = k.webhook_id AND d.run_id = k.run_id AND d.status = 'pending' AND d.held"
                " AND d.seq = (SELECT min(m.seq) FROM webhook_deliveries m WHERE m.webhook_id = k.webhook_id"
                " AND m.run_id = k.run_id AND m.status = 'pending')",
                ([webhook for webhook, _ in ordered], [run for _, run in ordered]),
            )

    async def release_forgotten(self) -> None:
        """Let deliveries go that are held for nothing, because a process ended between a commit and its release."""
        async with self._database.connection() as connection:
            rows = await fetch_all(
                connection,
                "SELECT h.webhook_id, h.run_id FROM (SELECT DISTINCT webhook_id, run_id FROM webhook_deliveries"
                " WHERE status = 'pending' AND held) h WHERE NOT EXISTS (SELECT 1 FROM webhook_deliveries m"
                " WHERE m.webhook_id = h.webhook_id AND m.run_id = h.run_id AND m.status = 'pending' AND NOT m.held)"
                " LIMIT 1000",
            )
        await self.release({(webhook_id, run_id) for webhook_id, run_id in rows})


async def _subscriptions(connection: Connection, owners: Collection[UUID]) -> list[Webhook]:
    rows = await fetch_all(
        connection,
        f"SELECT {_COLUMNS} FROM webhooks WHERE owner_id = ANY(%s) AND disabled_at IS NULL"  # noqa: S608
        " AND active_from IS NOT NULL ORDER BY created_at, id",
        (list(set(owners)),),
    )
    return [_webhook(*row) for row in rows]


async def _insert(connection: Connection, found: Sequence[Addressed]) -> set[tuple[UUID, UUID]]:
    """Add messages and their deliveries; gives what was held, by (subscription, run)."""
    found = [one for one in found if one.to]
    if not found:
        return set()
    ordered = [(w.id, one.message.run_id) for one in found for w in one.to if w.ordered and one.message.run_id]
    waiting: set[tuple[UUID, UUID | None]] = set()
    if ordered:
        rows = await fetch_all(
            connection,
            "SELECT DISTINCT d.webhook_id, d.run_id FROM unnest(%s::uuid[], %s::uuid[]) AS k (webhook_id, run_id)"
            " JOIN webhook_deliveries d ON d.webhook_id = k.webhook_id AND d.run_id = k.run_id"
            " AND d.status = 'pending'",
            ([webhook for webhook, _ in ordered], [run for _, run in ordered]),
        )
        waiting = {(webhook, run) for webhook, run in rows}
    messages = [one.message for one in found]
    owner_of = {one.message.id: one.to[0].owner_id for one in found}
    await connection.execute(
        "INSERT INTO webhook_messages (id, owner_id, type, run_id, seq, body)"
        " SELECT * FROM unnest(%s::text[], %s::uuid[], %s::text[], %s::uuid[], %s::int[], %s::text[])"
        " ON CONFLICT (id) DO NOTHING",
        (
            [m.id for m in messages], [owner_of[m.id] for m in messages], [m.type for m in messages],
            [m.run_id for m in messages], [m.seq for m in messages], [m.body for m in messages],
        ),
    )  # fmt: skip
    held: set[tuple[UUID, UUID]] = set()
    rows = []
    for one in found:
        message = one.message
        for webhook in one.to:
            key = (webhook.id, message.run_id)
            holds = webhook.ordered and message.run_id is not None and key in waiting
            if holds and message.run_id is not None:
                held.add((webhook.id, message.run_id))
            if webhook.ordered:
                waiting.add(key)
            rows.append(
                (
                    webhook.owner_id, webhook.id, message.id, message.run_id, message.seq, holds,
                    webhook.id in one.unfiltered,
                )
            )  # fmt: skip
    await connection.execute(
        "INSERT INTO webhook_deliveries (id, owner_id, webhook_id, message_id, run_id, seq, held, unfiltered, next_at)"
        " SELECT gen_random_uuid(), d.*, now() FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::uuid[], %s::int[],"
        " %s::bool[], %s::bool[]) AS d ON CONFLICT (webhook_id, message_id) DO NOTHING",
        [list(column) for column in zip(*rows, strict=True)],
    )
    return held
