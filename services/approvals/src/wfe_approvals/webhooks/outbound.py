"""Everything that tells other systems, put together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from wfe_egress import Guard, guarded_session
from wfe_engine.errors import StateConflict
from wfe_servicekit.lifecycle import Stack
from wfe_servicekit.loops import PeriodicLoop
from wfe_store.deliveries import Deliveries
from wfe_store.pool import Database
from wfe_store.sealing import Cipher, bound_to_webhook
from wfe_store.webhook_feed import Feed
from wfe_store.webhooks import Webhooks, WebhookSecret

from wfe_approvals.config import ApprovalsSettings
from wfe_approvals.webhooks.courier import Courier
from wfe_approvals.webhooks.endpoints import Endpoints
from wfe_approvals.webhooks.pool import Pool
from wfe_approvals.webhooks.resolver import PooledResolver
from wfe_approvals.webhooks.signing import Fresh
from wfe_approvals.webhooks.wanted import Wanted

#: Entries of the outbox that are turned into deliveries in one transaction; few, as sending stands still meanwhile.
ENTRIES = 50
#: Rows one statement of the sweep changes at most.
SWEPT = 2_000
SWEEP_SECONDS, HELD_SECONDS, PRUNE_SECONDS = 5.0, 30.0, 600.0


@dataclass(frozen=True, slots=True)
class Outbound:
    """What the use cases about webhooks need.

    Attributes:
        webhooks, deliveries, feed: Of the store.
        courier: Sends; to be nudged when something became due.
        guard: Decides which URLs may be called.
        sealer: Seals secrets; None without a key.
    """

    webhooks: Webhooks
    deliveries: Deliveries
    feed: Feed
    courier: Courier
    guard: Guard
    sealer: Cipher | None

    def seal(self, webhook_id: UUID, fresh: Fresh) -> WebhookSecret:
        """A fresh key as it is kept.

        Raises:
            StateConflict: NO_SEAL_KEY.
        """
        secret_id = uuid4()
        sealer = needed(self.sealer)
        return WebhookSecret(
            secret_id,
            fresh.kind,
            sealer.seal(bound_to_webhook(webhook_id.bytes, secret_id.bytes), fresh.secret.encode()),
            fresh.public_key,
        )

    async def fan_out(self, wanted: Wanted) -> bool:
        """Make deliveries of the oldest entries of the outbox; whether there may be more."""
        done = await self.feed.turn(wanted.address, limit=ENTRIES)
        if done:
            self.courier.nudged.set()
        return done == ENTRIES

    async def sweep(self) -> bool:
        """Mend what processes that ended left half done; whether there may be more to do."""
        await self.webhooks.activate_all()
        return await self.deliveries.end_disabled(limit=SWEPT) == SWEPT


def needed(sealer: Cipher | None) -> Cipher:
    """The sealer.

    Raises:
        StateConflict: NO_SEAL_KEY: there is none.
    """
    if sealer is None:
        raise StateConflict("webhooks have secrets, and this service has no WFE_SEAL_KEY_FILE", reason="NO_SEAL_KEY")
    return sealer


async def start_outbound(
    stack: Stack, settings: ApprovalsSettings, database: Database, sealer: Cipher | None, pool: Pool
) -> Outbound:
    """Build it, and begin to send; the stack ends it."""
    webhooks, deliveries, feed = Webhooks(database), Deliveries(database), Feed(database)
    guard = Guard(allow=settings.egress_allow, https_only=not settings.webhook_http)
    session = guarded_session(guard, resolver=PooledResolver(), limit=settings.webhook_in_all)
    stack.push(session.close, "webhook connections")
    wanted = Wanted()
    courier = Courier(
        deliveries,
        feed,
        Endpoints(webhooks, sealer, at_once=settings.webhook_at_once, in_all=settings.webhook_in_all),
        session,
        pool,
        wanted,
        schedule=settings.webhook_schedule,
        attempt_seconds=settings.webhook_attempt_seconds,
        patience=timedelta(days=settings.webhook_patience_days),
    )
    outbound = Outbound(webhooks, deliveries, feed, courier, guard, sealer)
    age = timedelta(days=settings.webhook_retention_days)

    async def fan_out() -> bool:
        return await outbound.fan_out(wanted)

    async def prune() -> bool:
        return await deliveries.prune(age, limit=SWEPT) >= SWEPT

    async def drain() -> None:
        # Attempts under way end by themselves; who does not wait for them sends them again when their lease is over.
        try:
            async with asyncio.timeout(settings.shutdown_grace_seconds):
                await courier.drain()
        except TimeoutError:
            await courier.flush()

    stack.push(drain, "deliveries under way")
    stack.spawn(courier.record(), "outcomes of deliveries")
    stack.spawn(courier.run(settings.webhook_poll_seconds), "deliveries")
    stack.loop(PeriodicLoop(fan_out, settings.webhook_poll_seconds, "webhooks.feed"))
    stack.loop(PeriodicLoop(outbound.sweep, SWEEP_SECONDS, "webhooks.sweep"))
    stack.loop(PeriodicLoop(feed.release_forgotten, HELD_SECONDS, "webhooks.held"))
    stack.loop(PeriodicLoop(prune, PRUNE_SECONDS, "webhooks.prune"))
    return outbound
