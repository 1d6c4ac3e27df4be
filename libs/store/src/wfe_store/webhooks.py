"""Subscriptions to events: who is told what, and the keys it is signed with.

Every statement for a caller names the owner: another owner's subscription is a missing one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from wfe_engine.errors import NotFound, ResourceExhausted, StateConflict

from wfe_store.paging import Page, compiled, fetch_page
from wfe_store.pool import Connection, Database, fetch_all, fetch_one
from wfe_store.schema_webhooks import webhooks

#: Seconds a scheduler may go by a reading of `subscribed_owners`.
GOOD_SECONDS = 1.5
#: How far a scheduler's clock, which dates events, may be from the store's, either way.
CLOCK_SECONDS = 0.25
#: From so many seconds after its commit a subscription's events are sure to be told: no scheduler goes by an older
#: reading, also when its clock is ahead. To whom it matters that the next event is told, it is said CLOCK_SECONDS
#: later: one whose clock is behind dates it before that moment.
SURE_SECONDS = GOOD_SECONDS + CLOCK_SECONDS
#: Subscriptions of one owner.
MOST_WEBHOOKS = 1_000


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription.

    Attributes:
        id: Of the subscription.
        owner_id: Whose events.
        name: For people.
        url: Where they go.
        event_types: Names of types, or prefixes with * at their end.
        filter: CEL over `event`; empty takes all.
        ordered: Events of one run go one after the other.
        version: Raised by every change senders must see.
        active_from: Events from here on are told; None for a moment after it was made or enabled.
        failing_since: First failure after the last success; None while it works.
        paused_until: The receiver asked to be left alone until then.
        disabled_at: None while it is told.
        disabled_reason: asked, gone or failing; empty while it is told.
        created_by: Principal.
        created_at: When it was made.
    """

    id: UUID
    owner_id: UUID
    name: str
    url: str
    event_types: tuple[str, ...]
    filter: str
    ordered: bool
    version: int
    active_from: datetime | None
    failing_since: datetime | None
    paused_until: datetime | None
    disabled_at: datetime | None
    disabled_reason: str
    created_by: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A key deliveries are signed with.

    Attributes:
        id: Of the key; what it is sealed for, besides the subscription.
        kind: v1 (HMAC-SHA256) or v1a (ed25519).
        ciphertext: The key, sealed.
        public_key: Of v1a, as text; empty otherwise.
        expires_at: When a predecessor stops being used; None for the newest.
    """

    id: UUID
    kind: str
    ciphertext: bytes
    public_key: str
    expires_at: datetime | None = None


async def subscribed_owners(connection: Connection) -> frozenset[UUID]:
    """The owners with subscriptions that are not disabled."""
    rows = await fetch_all(connection, "SELECT DISTINCT owner_id FROM webhooks WHERE disabled_at IS NULL")
    return frozenset(owner_id for (owner_id,) in rows)


_WEBHOOKS = select(*webhooks.c)
_ACTIVATE = """UPDATE webhooks w SET active_from = clock_timestamp() + CASE WHEN EXISTS (
        SELECT 1 FROM webhooks o WHERE o.owner_id = w.owner_id AND o.disabled_at IS NULL
            AND o.active_from <= clock_timestamp())
    THEN interval '0' ELSE make_interval(secs => %s) END
    WHERE w.disabled_at IS NULL AND w.active_from IS NULL"""


class Webhooks:
    """The subscriptions of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, made: Webhook, secret: WebhookSecret) -> Webhook:
        """Add a subscription with its key; gives it with `active_from`.

        Raises:
            ResourceExhausted: The owner has too many.
        """

        async def work(connection: Connection) -> None:
            row = await fetch_one(connection, "SELECT count(*) FROM webhooks WHERE owner_id = %s", (made.owner_id,))
            if row is not None and row[0] >= MOST_WEBHOOKS:
                raise ResourceExhausted(
                    f"there are {MOST_WEBHOOKS} webhooks already; delete some", reason="TOO_MANY_WEBHOOKS"
                )
            await connection.execute(
                "INSERT INTO webhooks (id, owner_id, name, url, event_types, filter, ordered, created_by)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    made.id, made.owner_id, made.name, made.url, list(made.event_types), made.filter, made.ordered,
                    made.created_by,
                ),
            )  # fmt: skip
            await _add_secret(connection, made.id, secret)

        await self._database.transaction(work)
        return await self._activated(made.owner_id, made.id)

    async def get(self, owner_id: UUID, webhook_id: UUID) -> Webhook:
        """One subscription.

        Raises:
            NotFound: The owner has no such one.
        """
        statement = _WEBHOOKS.where(webhooks.c.owner_id == owner_id, webhooks.c.id == webhook_id)
        async with self._database.connection() as connection:
            row = await fetch_one(connection, *compiled(statement))
        if row is None:
            raise _missing(webhook_id)
        return _webhook(*row)

    async def list(self, owner_id: UUID, *, limit: int, offset: int) -> Page[Webhook]:
        """The owner's subscriptions, oldest first."""
        statement = _WEBHOOKS.where(webhooks.c.owner_id == owner_id).order_by(webhooks.c.created_at, webhooks.c.id)
        async with self._database.connection() as connection:
            return await fetch_page(connection, statement, _webhook, limit=limit, offset=offset)

    async def delete(self, owner_id: UUID, webhook_id: UUID) -> Webhook:
        """Remove a subscription with its deliveries; gives it as it was.

        Raises:
            NotFound: The owner has no such one.
        """
        found = await self.get(owner_id, webhook_id)

        async def work(connection: Connection) -> None:
            await connection.execute("DELETE FROM webhooks WHERE id = %s AND owner_id = %s", (webhook_id, owner_id))

        await self._database.transaction(work)
        return found

    async def enable(self, owner_id: UUID, webhook_id: UUID) -> Webhook:
        """Tell it again, of events from now on; no change when it is enabled.

        Raises:
            NotFound: The owner has no such one.
        """
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE webhooks SET disabled_at = NULL, disabled_reason = '', failing_since = NULL,"
                " paused_until = NULL, active_from = NULL, version = version + 1"
                " WHERE id = %s AND owner_id = %s AND disabled_at IS NOT NULL",
                (webhook_id, owner_id),
            )
        return await self._activated(owner_id, webhook_id)

    async def disable(self, owner_id: UUID, webhook_id: UUID) -> Webhook:
        """Tell it nothing any more; no change when it is disabled already.

        Raises:
            NotFound: The owner has no such one.
        """
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE webhooks SET disabled_at = clock_timestamp(), disabled_reason = 'asked', version = version + 1"
                " WHERE id = %s AND owner_id = %s AND disabled_at IS NULL",
                (webhook_id, owner_id),
            )
        return await self.get(owner_id, webhook_id)

    async def activate_all(self) -> None:
        """Set the moment from which subscriptions count whose maker did not live to do it."""
        async with self._database.connection() as connection:
            await connection.execute(_ACTIVATE, (SURE_SECONDS,))

    async def _activated(self, owner_id: UUID, webhook_id: UUID) -> Webhook:
        # After the commit, in a statement of its own: the moment must be later than the subscription can be read.
        async with self._database.connection() as connection:
            await connection.execute(
                f"{_ACTIVATE} AND w.id = %s AND w.owner_id = %s", (SURE_SECONDS, webhook_id, owner_id)
            )
        return await self.get(owner_id, webhook_id)

    async def rotate(self, owner_id: UUID, webhook_id: UUID, secret: WebhookSecret, *, overlap: timedelta) -> Webhook:
        """Add a key; its predecessor signs too for the overlap, older ones no more.

        Raises:
            NotFound: The owner has no such one.
        """

        async def work(connection: Connection) -> None:
            row = await fetch_one(
                connection,
                "UPDATE webhooks SET version = version + 1 WHERE id = %s AND owner_id = %s RETURNING id",
                (webhook_id, owner_id),
            )
            if row is None:
                raise _missing(webhook_id)
            await connection.execute(
                "DELETE FROM webhook_secrets WHERE webhook_id = %s AND expires_at IS NOT NULL", (webhook_id,)
            )
            await connection.execute(
                "UPDATE webhook_secrets SET expires_at = clock_timestamp() + %s WHERE webhook_id = %s",
                (overlap, webhook_id),
            )
            await _add_secret(connection, webhook_id, secret)

        await self._database.transaction(work)
        return await self.get(owner_id, webhook_id)

    async def secrets(self, webhook_ids: Iterable[UUID]) -> dict[UUID, Sequence[WebhookSecret]]:
        """The keys of subscriptions that have not expired, newest first."""
        async with self._database.connection() as connection:
            rows = await fetch_all(
                connection,
                "SELECT webhook_id, id, kind, ciphertext, public_key, expires_at FROM webhook_secrets"
                " WHERE webhook_id = ANY(%s) AND coalesce(expires_at > clock_timestamp(), true)"
                " ORDER BY created_at DESC, id",
                (list(webhook_ids),),
            )
        found: dict[UUID, Any] = {}
        for webhook_id, *parts in rows:
            found.setdefault(webhook_id, []).append(WebhookSecret(*parts))
        return found

    async def load(self, webhook_ids: Sequence[UUID]) -> dict[UUID, Webhook]:
        """Subscriptions of any owner, for senders."""
        async with self._database.connection() as connection:
            rows = await fetch_all(connection, *compiled(_WEBHOOKS.where(webhooks.c.id.in_(webhook_ids))))
        return {row[0]: _webhook(*row) for row in rows}


def enabled(webhook: Webhook) -> Webhook:
    """The subscription, if it is told.

    Raises:
        StateConflict: WEBHOOK_DISABLED.
    """
    if webhook.disabled_at is not None:
        raise StateConflict(
            "the webhook is disabled; enable it first",
            reason="WEBHOOK_DISABLED",
            webhook_id=webhook.id,
            disabled_reason=webhook.disabled_reason,
        )
    return webhook


async def _add_secret(connection: Connection, webhook_id: UUID, secret: WebhookSecret) -> None:
    await connection.execute(
        "INSERT INTO webhook_secrets (webhook_id, id, kind, ciphertext, public_key) VALUES (%s, %s, %s, %s, %s)",
        (webhook_id, secret.id, secret.kind, secret.ciphertext, secret.public_key),
    )


def _webhook(*row: object) -> Webhook:
    columns = list(row)
    columns[4] = tuple(columns[4])  # type: ignore[arg-type]
    return Webhook(*columns)  # type: ignore[arg-type]


def _missing(webhook_id: UUID) -> NotFound:
    return NotFound(f"there is no webhook {webhook_id}", webhook_id=webhook_id)
