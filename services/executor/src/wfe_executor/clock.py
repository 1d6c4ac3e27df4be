"""The run store's clock, as far as an executor can know it."""

from __future__ import annotations

import time


class StoreClock:
    """Carries the run store's clock on by the monotonic clock, from what the schedulers' messages say.

    A message says what the clock was when it was sent, so every sample lies behind by the way it took; the
    best one within a minute counts. Before the first sample it is this machine's clock.
    """

    RENEW_SECONDS = 60.0

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._sampled = float("-inf")

    def observe(self, now: float) -> None:
        """Take a sample: the run store's Unix time in a message that just arrived."""
        at = time.monotonic()
        offset = now - at
        if offset > self._offset or at > self._sampled + self.RENEW_SECONDS:
            self._offset = offset
            self._sampled = at

    def now(self) -> float:
        """Unix time by the run store's clock, in seconds."""
        return time.monotonic() + self._offset

    def monotonic_at(self, moment: float) -> float:
        """When, by this process's monotonic clock, a moment of the run store's clock is."""
        return moment - self._offset
