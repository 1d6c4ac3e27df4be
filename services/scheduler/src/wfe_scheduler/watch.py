"""Who watches which run, on this scheduler and on others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from uuid import UUID

#: A watcher looks by itself after this long: a lost nudge costs this much latency.
FALLBACK_SECONDS = 1.5
#: How long other schedulers remember an interest; it is said again well before.
INTEREST_SECONDS = 30.0


class Nudges:
    """Says when a run may have new events."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def nudge(self) -> None:
        """Something is new."""
        self._event.set()

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - a bound on waiting is its purpose
        """Wait until something may be new; False when the time ran out first.

        Returns early, and True, after FALLBACK_SECONDS: nudges can be lost.
        """
        bound = min(timeout, FALLBACK_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), bound)
            self._event.clear()
            return True
        return timeout > FALLBACK_SECONDS


class Watchers:
    """Watchers by run.

    Args:
        announce: Tells the other schedulers that a run is watched here.
    """

    def __init__(self, announce: Callable[[UUID], None]) -> None:
        self._announce = announce
        self._local: dict[UUID, set[Nudges]] = {}
        self._remote: dict[UUID, dict[str, float]] = {}

    @asynccontextmanager
    async def watch(self, run: UUID) -> AsyncIterator[Nudges]:
        """Nudges for a run while the block lasts."""
        nudges = Nudges()
        first = run not in self._local
        self._local.setdefault(run, set()).add(nudges)
        if first:
            self._announce(run)
        try:
            yield nudges
        finally:
            here = self._local[run]
            here.discard(nudges)
            if not here:
                del self._local[run]

    def local_runs(self) -> list[UUID]:
        """Runs watched here."""
        return list(self._local)

    def remember(self, scheduler: str, runs: list[UUID], now: float) -> None:
        """Another scheduler has watchers of these runs."""
        for run in runs:
            self._remote.setdefault(run, {})[scheduler] = now + INTEREST_SECONDS

    def nudge(self, run: UUID) -> None:
        """A run has new events: wake those who watch it here."""
        for nudges in self._local.get(run, ()):
            nudges.nudge()

    def elsewhere(self, run: UUID, now: float) -> list[str]:
        """Other schedulers whose clients watch a run."""
        known = self._remote.get(run)
        if not known:
            return []
        live = {scheduler: until for scheduler, until in known.items() if until > now}
        if live:
            self._remote[run] = live
        else:
            del self._remote[run]
        return list(live)

    def forget_old(self, now: float) -> None:
        """Forget interests nobody has repeated."""
        for run in list(self._remote):
            self.elsewhere(run, now)
