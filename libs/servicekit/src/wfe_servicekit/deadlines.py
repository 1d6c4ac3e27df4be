"""How long calls may take."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from wfe_servicekit.calls import Call

__all__ = ["DEADLINES", "DEFAULT_DEADLINE", "Deadlines", "shed"]

DEFAULT_DEADLINE = 60.0
DEADLINES: Mapping[str, float] = {
    "/wfe.api.v1.WorkflowService/GetWorkflow": 75.0,
    "/wfe.api.v1.WorkflowService/StartWorkflow": 75.0,
}
"""Seconds a unary method may take, where it is not the default. Streams may wait that long for their request."""


class Deadlines:
    """Cancels calls that take too long. One timer for all calls with the same span, not one for each.

    All have the same span, so they expire in the order they were added in and only the oldest has to be
    watched.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._calls: dict[Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, call: Call) -> None:
        """Begin to watch a call."""
        call.expires = self._loop.time() + self._span
        self._calls[call] = None
        if self._timer is None:
            self._timer = self._loop.call_at(call.expires, self._expire)

    def discard(self, call: Call) -> None:
        """It was answered."""
        self._calls.pop(call, None)

    def shed(self) -> None:
        """Give up every call: the process ends."""
        for call in self._calls:
            shed(call)
        self._calls.clear()

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._calls:
            call = next(iter(self._calls))
            if call.expires > now:
                self._timer = self._loop.call_at(call.expires, self._expire)
                return
            del self._calls[call]
            call.expired = True
            if call.task is not None:
                call.task.cancel()


def shed(call: Call) -> None:
    """Give up a call, because the process ends."""
    call.shed = True
    if call.task is not None:
        call.task.cancel()
