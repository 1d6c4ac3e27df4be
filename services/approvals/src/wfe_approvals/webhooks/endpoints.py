"""What a sender knows of the receivers it sends to: their keys, and how much it may send them at once."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count, islice
from uuid import UUID

import structlog
from wfe_store.deliveries import Job, Room
from wfe_store.sealing import Cipher, Unreadable, bound_to_webhook
from wfe_store.webhooks import Webhook, Webhooks, WebhookSecret

from wfe_approvals.webhooks.signing import Signer

#: Seconds an answer may take before its receiver counts as slow.
SLOW_SECONDS = 1.0
#: Seconds after which it is recorded again that a receiver works.
NOTED_SECONDS = 15.0
#: Receivers remembered while nothing is under way to them.
MOST_IDLE = 10_000

_log = structlog.get_logger("wfe.webhooks")


class Endpoint:
    """A receiver, as this process sees it.

    Attributes:
        webhook: The subscription, at the version its jobs had; None before the first load.
        signers: One for each key, and when it expires.
        under_way: When the attempts under way began, oldest first, by number.
        failing: The last attempt failed, or none was made yet: one at a time until one succeeds.
        slow: It is failing, or the last answer took long.
        noted: When it was last recorded that it works, on the monotonic clock; None after a failure.
    """

    __slots__ = ("failing", "noted", "signers", "slow", "under_way", "webhook")

    def __init__(self) -> None:
        self.webhook: Webhook | None = None
        self.signers: list[tuple[Signer, datetime | None]] = []
        self.under_way: dict[int, float] = {}
        self.failing = True
        self.slow = True
        self.noted: float | None = None

    def live_signers(self) -> list[Signer]:
        """Those whose key has not expired."""
        now = datetime.now(UTC)
        return [signer for signer, expires in self.signers if expires is None or expires > now]

    def is_slow(self, now: float) -> bool:
        """Whether it is slow, or is just being so."""
        return self.slow or any(now - began > SLOW_SECONDS for began in islice(self.under_way.values(), 1))


class Endpoints:
    """All of them.

    Receivers that are new, slow or fail may take at most half of what can be under way at once, so however many they
    are, the others find room.

    Args:
        at_once: Attempts under way to one receiver, at most.
        in_all: To all of them.
    """

    def __init__(self, webhooks: Webhooks, sealer: Cipher | None, *, at_once: int, in_all: int) -> None:
        self._webhooks = webhooks
        self._sealer = sealer
        self._at_once = at_once
        self._in_all = in_all
        self._known: dict[UUID, Endpoint] = {}
        self._numbers = count()
        self._busy = 0

    def room(self) -> Room:
        """What may be begun now."""
        now = time.monotonic()
        slow = [(key, one) for key, one in self._known.items() if one.is_slow(now)]
        of_slow = {key for key, _ in slow}
        left = self._in_all // 2 - sum(len(one.under_way) for _, one in slow)
        rooms = {
            key: max(0, self._at_once - len(one.under_way)) for key, one in self._known.items() if key not in of_slow
        }
        random.shuffle(slow)
        for key, one in slow:
            limit = 1 if one.failing else self._at_once
            rooms[key] = max(0, min(limit - len(one.under_way), left))
            left -= rooms[key]
        return Room(rooms=rooms, known=self._in_all - self._busy, new=max(0, min(left, self._in_all - self._busy)))

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
            endpoint.signers = self._signers(webhook_id, secrets.get(webhook_id, ()))

    def _signers(self, webhook_id: UUID, secrets: Sequence[WebhookSecret]) -> list[tuple[Signer, datetime | None]]:
        """Those of the keys that can be opened; one that cannot must not keep others' deliveries from being sent."""
        found = []
        for secret in secrets:
            try:
                if self._sealer is None:
                    raise ValueError("WFE_SEAL_KEY_FILE is not set")
                text = self._sealer.open(
                    bound_to_webhook(webhook_id.bytes, secret.id.bytes), secret.ciphertext
                ).decode()
                found.append((Signer(text), secret.expires_at))
            except (Unreadable, ValueError) as fault:
                _log.error("secret_not_opened", webhook=str(webhook_id), fault=str(fault) or type(fault).__name__)
        return found

    def begin(self, job: Job) -> tuple[Endpoint, int] | None:
        """Take room for an attempt, and number it; None when the subscription is gone."""
        endpoint = self._known.get(job.webhook_id)
        if endpoint is None or endpoint.webhook is None:
            return None
        number = next(self._numbers)
        endpoint.under_way[number] = time.monotonic()
        self._busy += 1
        return endpoint, number

    def end(self, endpoint: Endpoint, number: int, *, works: bool, took: float) -> None:
        """Give the room of an attempt back.

        Args:
            endpoint: Whose.
            number: Of the attempt.
            works: Whether it succeeded.
            took: Seconds until the answer.
        """
        del endpoint.under_way[number]
        self._busy -= 1
        endpoint.failing = not works
        if not works:
            endpoint.noted = None
        endpoint.slow = not works or took > SLOW_SECONDS

    def is_news(self, webhook_id: UUID) -> bool:
        """Whether a success of it must be recorded: after a failure, and now and then, as others may see it fail."""
        known, now = self._known.get(webhook_id), time.monotonic()
        if known is not None and known.noted is not None and now - known.noted < NOTED_SECONDS:
            return False
        if known is not None:
            known.noted = now
        return True

    def is_ordered(self, webhook_id: UUID) -> bool:
        """Whether events of one run go to it one after the other."""
        known = self._known.get(webhook_id)
        return known is not None and known.webhook is not None and known.webhook.ordered

    def _forget(self) -> None:
        if len(self._known) > MOST_IDLE:
            self._known = {key: one for key, one in self._known.items() if one.under_way}
