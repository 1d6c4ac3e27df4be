"""What a sender knows of the receivers it sends to: their keys, and how much it may send them at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from wfe_servicekit.seal import Sealer
from wfe_store.deliveries import Job
from wfe_store.webhooks import Webhook, Webhooks

from wfe_approvals.webhooks.signing import Signer

#: Seconds an answer may take before its receiver counts as slow.
SLOW_SECONDS = 1.0
#: Receivers remembered while nothing is under way to them.
MOST_IDLE = 10_000


class Endpoint:
    """A receiver, as this process sees it.

    Attributes:
        webhook: The subscription, at the version its jobs had; None before the first load.
        in_flight: Attempts under way.
        failing: The last attempt failed: one attempt at a time until one succeeds.
        slow: It failed, or took long.
    """

    __slots__ = ("failing", "in_flight", "signers", "slow", "webhook")

    def __init__(self) -> None:
        self.webhook: Webhook | None = None
        self.signers: list[tuple[Signer, datetime | None]] = []
        self.in_flight = 0
        self.failing = False
        self.slow = False

    def live_signers(self) -> list[Signer]:
        """Those whose key has not expired."""
        now = datetime.now(UTC)
        return [signer for signer, expires in self.signers if expires is None or expires > now]


class Endpoints:
    """All of them.

    Receivers that are slow or fail may take at most half of what can be under way at once, so however many they are,
    the others find room.

    Args:
        at_once: Attempts under way to one receiver, at most.
        in_all: To all of them.
    """

    def __init__(self, webhooks: Webhooks, sealer: Sealer | None, *, at_once: int, in_all: int) -> None:
        self._webhooks = webhooks
        self._sealer = sealer
        self._at_once = at_once
        self._in_all = in_all
        self._known: dict[UUID, Endpoint] = {}
        self._busy = 0
        self._busy_slow = 0

    @property
    def room(self) -> int:
        """Attempts that may be begun now, in all."""
        return self._in_all - self._busy

    def rooms(self) -> dict[UUID, int]:
        """Attempts that may be begun for each receiver whose room is not the usual one."""
        slow_left = self._in_all // 2 - self._busy_slow
        found = {}
        for webhook_id, endpoint in self._known.items():
            limit = 1 if endpoint.failing else self._at_once
            room = max(0, limit - endpoint.in_flight)
            if endpoint.slow:
                room = min(room, max(0, slow_left))
            if room != self._at_once:
                found[webhook_id] = room
        return found

    async def load(self, jobs: Sequence[Job]) -> None:
        """Make sure that the receivers of jobs are known as they are now.

        Raises:
            Unavailable: The store is down.
        """
        stale = set()
        for job in jobs:
            known = self._known.get(job.webhook_id)
            if known is None or known.webhook is None or known.webhook.version < job.version:
                stale.add(job.webhook_id)
        if not stale:
            return
        self._forget()
        loaded = await self._webhooks.load(list(stale))
        secrets = await self._webhooks.secrets(stale)
        for webhook_id, webhook in loaded.items():
            endpoint = self._known.setdefault(webhook_id, Endpoint())
            endpoint.webhook = webhook
            endpoint.signers = [
                (Signer(self.unseal(webhook_id, secret.id, secret.ciphertext)), secret.expires_at)
                for secret in secrets.get(webhook_id, ())
            ]

    def unseal(self, webhook_id: UUID, secret_id: UUID, ciphertext: bytes) -> str:
        """A key's text.

        Raises:
            RuntimeError: This process has no key to open it with.
        """
        if self._sealer is None:
            raise RuntimeError("WFE_SEAL_KEY_FILE is not set, and webhooks have secrets")
        return self._sealer.unseal(webhook_id, str(secret_id), ciphertext).decode()

    def begin(self, job: Job) -> Endpoint | None:
        """Take room for an attempt; None when the subscription is gone."""
        endpoint = self._known.get(job.webhook_id)
        if endpoint is None or endpoint.webhook is None:
            return None
        endpoint.in_flight += 1
        self._busy += 1
        self._busy_slow += endpoint.slow
        return endpoint

    def end(self, endpoint: Endpoint, began_slow: bool, *, works: bool, began: float) -> None:
        """Give the room back.

        Args:
            endpoint: Whose.
            began_slow: Whether it counted as slow when the attempt began.
            works: Whether the attempt succeeded.
            began: When, on the monotonic clock.
        """
        endpoint.in_flight -= 1
        self._busy -= 1
        self._busy_slow -= began_slow
        endpoint.failing = not works
        endpoint.slow = not works or time.monotonic() - began > SLOW_SECONDS

    def is_ordered(self, webhook_id: UUID) -> bool:
        """Whether events of one run go to it one after the other."""
        known = self._known.get(webhook_id)
        return known is not None and known.webhook is not None and known.webhook.ordered

    def _forget(self) -> None:
        if len(self._known) > MOST_IDLE:
            self._known = {key: one for key, one in self._known.items() if one.in_flight or one.slow}
