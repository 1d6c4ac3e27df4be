"""Time as a value that is passed in, so that tests can move it.

`SystemClock` is the machine's clock, `SampledClock` is another clock (the run store's) carried on by the
machine's monotonic clock, `FakeClock` stands still until it is told to move.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "FakeClock", "SampledClock", "SystemClock"]


class Clock(Protocol):
    """What every part that needs the time is given."""

    def now(self) -> datetime:
        """The moment it is, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The moment it is, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()


class SampledClock:
    """Another machine's clock, sampled now and then and carried on by the monotonic clock in between.

    `now` never goes back: after a sample that lies behind, it stands still until the sampled clock has caught
    up. A sample is placed in the middle of the call that took it, so it is off by at most half the round
    trip.

    Args:
        sample: Asks the other clock; gives an aware datetime.
    """

    def __init__(self, sample: Callable[[], Awaitable[datetime]]) -> None:
        self._sample = sample
        self._base: datetime | None = None
        self._at = 0.0
        self._floor = datetime.min.replace(tzinfo=UTC)

    async def sync(self) -> timedelta:
        """Take a sample.

        Returns:
            The round trip; the clock is off by at most half of it.

        Raises:
            Whatever `sample` raises; the clock then goes on from the sample before.
        """
        before = time.monotonic()
        base = await self._sample()
        after = time.monotonic()
        self._base, self._at = base.astimezone(UTC), (before + after) / 2
        return timedelta(seconds=after - before)

    def now(self) -> datetime:
        """The other clock's moment, aware, in UTC.

        Raises:
            RuntimeError: `sync` was never called.
        """
        if self._base is None:
            raise RuntimeError("SampledClock.now before the first sync")
        moment = self._base + timedelta(seconds=time.monotonic() - self._at)
        if moment < self._floor:
            return self._floor
        self._floor = moment
        return moment

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()


class FakeClock:
    """Stands still until `advance`; for tests."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """The moment it was set to."""
        return self._now

    def monotonic(self) -> float:
        """Seconds; moves with `advance` only."""
        return self._monotonic

    def advance(self, span: timedelta | float) -> None:
        """Move on by a timedelta or by seconds; not backwards.

        Raises:
            ValueError: The span is negative.
        """
        span = span if isinstance(span, timedelta) else timedelta(seconds=span)
        if span < timedelta(0):
            raise ValueError("time does not go back")
        self._now += span
        self._monotonic += span.total_seconds()
