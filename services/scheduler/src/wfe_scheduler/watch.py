"""Who watches which run, on this scheduler and on others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

#: A watcher looks by itself after this long: a lost nudge costs this much latency.
FALLBACK_SECONDS = 1.5
#: How long other schedulers remember an interest; it is said again well before.
INTEREST_SECONDS = 30.0


class Nudges:
    """Says when a run may have new events.

    Args:
        ends: Whether only the run's end is of interest.

    Attributes:
        ended: Whether the run's end was committed here while this was waited on.
    """

    __slots__ = ("_new", "_waiting", "ended", "ends")

    def __init__(self, *, ends: bool = False) -> None:
        self.ends = ends
        self.ended = False
        self._new = False
        self._waiting: asyncio.Future[None] | None = None

    def nudge(self) -> None:
        """Something is new."""
        self._new = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - a bound on waiting is its purpose
        """Wait until something may be new; False when the time ran out first.

        Returns early, and True, after FALLBACK_SECONDS: nudges can be lost.
        """
        if not self._new:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            timer = loop.call_later(min(timeout, FALLBACK_SECONDS), self._wake)
            try:
                await self._waiting
            finally:
                timer.cancel()
                self._waiting = None
        new, self._new = self._new, False
        return new or timeout > FALLBACK_SECONDS


class Watchers:
    """Watchers by run.

    Args:
        announce: Tells the other schedulers that runs are watched here.
    """

    def __init__(self, announce: Callable[[list[UUID]], None]) -> None:
        self._announce = announce
        self._unsaid: list[UUID] = []
        self._local: dict[UUID, set[Nudges]] = {}
        self._remote: dict[UUID, dict[str, float]] = {}

    @contextmanager
    def watch(self, run: UUID, *, ends: bool = False) -> Iterator[Nudges]:
        """Nudges for a run while the block lasts; only for its end with `ends`."""
        nudges = Nudges(ends=ends)
        here = self._local.get(run)
        if here is None:
            here = self._local[run] = set()
            self._unsaid.append(run)
            if len(self._unsaid) == 1:
                asyncio.get_running_loop().call_soon(self._say)
        here.add(nudges)
        try:
            yield nudges
        finally:
            here.discard(nudges)
            if not here:
                del self._local[run]

    def _say(self) -> None:
        runs, self._unsaid = self._unsaid, []
        self._announce(runs)

    def local_runs(self) -> list[UUID]:
        """Runs watched here."""
        return list(self._local)

    def remember(self, scheduler: str, runs: list[UUID], now: float) -> None:
        """Another scheduler has watchers of these runs."""
        for run in runs:
            self._remote.setdefault(run, {})[scheduler] = now + INTEREST_SECONDS

    def nudge(self, run: UUID, *, ended: bool) -> None:
        """A run has new events, and has ended or not: wake those who watch it here for that."""
        for nudges in self._local.get(run, ()):
            if ended:
                nudges.ended = True
            if ended or not nudges.ends:
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
