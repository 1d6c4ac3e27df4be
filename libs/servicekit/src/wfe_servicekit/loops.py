"""A loop is a `run_once` that does one bounded batch, plus this: interval, jitter, errors, wake-up, stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

__all__ = ["PeriodicLoop"]

_log = structlog.get_logger("wfe.loop")
_LONGEST_PAUSE_AFTER_ERRORS = 30.0


class PeriodicLoop:
    """Calls `run_once` again and again, with a pause between, until it is stopped.

    `run_once` gives True when there is more to do at once; anything else (None, a count) means the pause
    follows. What it raises is logged and survived; after errors in a row the pause doubles, up to 30 s or the
    interval, whichever is longer. Two calls never overlap. `nudge` ends a pause early; nudges during a call
    lead to exactly one further call.

    Args:
        run_once: One bounded batch; must be cancellable.
        interval: Seconds between the end of one call and the start of the next.
        name: For logs, e.g. `timers.due`.
        jitter: Part of the interval the pause may be shorter or longer by, so that replicas do not march in
            step.
    """

    def __init__(
        self, run_once: Callable[[], Awaitable[object]], interval: float, name: str, *, jitter: float = 0.1
    ) -> None:
        self._run_once = run_once
        self._interval = interval
        self._jitter = jitter
        self.name = name
        self.runs = 0
        self.errors = 0
        self._errors_in_a_row = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first call comes at once. Starting a loop that runs changes nothing."""
        if self._task is None or self._task.done():
            self._stopping = False
            self._task = asyncio.create_task(self._run(), name=f"loop {self.name}")

    def nudge(self) -> None:
        """End the pause now. Safe to call as often as one likes; from the loop's own thread only."""
        self._wake.set()

    async def stop(self, grace: float = 5.0) -> None:
        """End the loop: a call under way may finish within `grace` seconds, then it is cancelled."""
        self._stopping = True
        self._wake.set()
        task, self._task = self._task, None
        if task is None:
            return
        done, _ = await asyncio.wait({task}, timeout=grace)
        if not done:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            more = await self._call()
            if more:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _call(self) -> bool:
        try:
            more = await self._run_once()
        except Exception:  # noqa: BLE001 - the next call may succeed
            self.errors += 1
            self._errors_in_a_row += 1
            _log.exception("loop_failed", loop=self.name, errors_in_a_row=self._errors_in_a_row)
            return False
        finally:
            self.runs += 1
        self._errors_in_a_row = 0
        return more is True

    def _pause(self) -> float:
        pause = self._interval
        if self._errors_in_a_row > 1:
            longest = max(_LONGEST_PAUSE_AFTER_ERRORS, self._interval)
            pause = min(pause * 2 ** min(self._errors_in_a_row - 1, 20), longest)
        return pause * random.uniform(1 - self._jitter, 1 + self._jitter)
