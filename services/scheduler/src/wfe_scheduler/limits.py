"""What is let in: as much as the scheduler keeps up with, and of each owner no more than its share.

Refused is what people and clients ask for, with when to try again. What executors report, timers and decisions of gates
always get in: they end work.
"""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import structlog
from wfe_engine.errors import ResourceExhausted, Unavailable
from wfe_store.counts import count_open
from wfe_store.pool import Database

from wfe_scheduler.cycle import Cycle

_log = structlog.get_logger("wfe.scheduler.limits")
#: Open runs are counted again when the starts here since the last count could, with as many on so many schedulers, have
#: used up what was left.
_SCHEDULERS = 8
#: A count is made again no sooner than after so many times as long as it took, and after so many seconds.
_REST, _REST_SECONDS = 20, 1.0
#: Seconds until the next count when one failed.
_FAILED_SECONDS = 60.0
#: Owners remembered, at most.
_OWNERS = 10_000


class _Owner:
    """An owner's starts on this scheduler, and its open runs."""

    __slots__ = ("counted", "next_count", "since", "tokens", "updated")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.updated = now
        self.counted: int | None = None
        self.since = 0
        self.next_count = 0.0


class Admission:
    """Lets commands and starts in, or refuses them.

    Args:
        cycle: Whose backlog counts.
        database: For counting open runs.
        most_waiting: Commands that may wait to be decided.
        most_seconds: How long the oldest of them may have waited.
        most_of_run: Commands that may wait for their own run.
        open_runs: Runs of one owner that have not ended, about; 0 for no limit.
        starts: Starts of one owner on this scheduler in a second, as many at once; 0 for no limit.
    """

    def __init__(
        self,
        cycle: Cycle,
        database: Database,
        *,
        most_waiting: int = 20_000,
        most_seconds: float = 2.0,
        most_of_run: int = 1_000,
        open_runs: int = 0,
        starts: int = 0,
    ) -> None:
        self._cycle = cycle
        self._database = database
        self._most_waiting = most_waiting
        self._most_seconds = most_seconds
        self._most_of_run = most_of_run
        self._open_runs = open_runs
        self._starts = starts
        self._owners: dict[UUID, _Owner] = {}
        self._counting = asyncio.Lock()

    def command(self, run: UUID | None = None) -> None:
        """Let a command in, of a run that is there already when one is named.

        Raises:
            ResourceExhausted: The scheduler is behind, or this run is.
        """
        if self._cycle.depth > self._most_waiting or self._cycle.lag > self._most_seconds:
            raise ResourceExhausted("the scheduler is behind; try again", reason="OVERLOADED", retry_after=1.0)
        # They are decided one after the other, and only their own run waits for that.
        if run is not None and self._cycle.behind(run) >= self._most_of_run:
            raise ResourceExhausted(
                f"{self._most_of_run} commands of this run wait; try again",
                reason="OVERLOADED",
                retry_after=1.0,
                workflow_id=str(run),
            )

    async def start(self, owner: UUID) -> None:
        """Let a start of an owner in.

        Raises:
            ResourceExhausted: The owner starts too many in a second, or has too many runs open.
        """
        self.command()
        now = time.monotonic()
        known = self._owners.get(owner)
        if known is None:
            if len(self._owners) >= _OWNERS:
                self._owners.clear()
            known = self._owners[owner] = _Owner(float(self._starts), now)
        if self._starts:
            self._take(known, now)
        if self._open_runs:
            await self._has_room(owner, known)
        known.since += 1

    def _take(self, known: _Owner, now: float) -> None:
        known.tokens = min(float(self._starts), known.tokens + (now - known.updated) * self._starts)
        known.updated = now
        if known.tokens < 1:
            raise ResourceExhausted(
                f"this owner may start {self._starts} runs in a second; try again",
                reason="TOO_MANY_STARTS",
                retry_after=1.0,
                limit=self._starts,
            )
        known.tokens -= 1

    async def _has_room(self, owner: UUID, known: _Owner) -> None:
        if self._must_count(known):
            async with self._counting:
                if self._must_count(known):
                    await self._count(owner, known)
        if (known.counted or 0) + known.since >= self._open_runs:
            raise ResourceExhausted(
                f"this owner has {self._open_runs} runs that have not ended; let some end",
                reason="TOO_MANY_OPEN_RUNS",
                retry_after=5.0,
                limit=self._open_runs,
            )

    def _must_count(self, known: _Owner) -> bool:
        if known.counted is None:
            return known.next_count <= time.monotonic()
        room = self._open_runs - known.counted
        return known.since >= max(1, room // _SCHEDULERS) and known.next_count <= time.monotonic()

    async def _count(self, owner: UUID, known: _Owner) -> None:
        began, since = time.monotonic(), known.since
        try:
            async with self._database.connection() as connection:
                known.counted = await count_open(connection, owner, self._open_runs)
        except Unavailable as fault:
            # Whoever starts is told by the store itself, if it is down.
            known.next_count = began + _FAILED_SECONDS
            _log.warning("open runs not counted", owner=str(owner), fault=str(fault))
            return
        took = time.monotonic() - began
        known.since -= since
        known.next_count = began + took + max(_REST_SECONDS, _REST * took)
