"""What the simulated processes run on: an event loop whose time jumps, clocks, and processes that stall and die."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine
from typing import Any

#: The process whose code runs.
present: contextvars.ContextVar[Process | None] = contextvars.ContextVar("present", default=None)


class Stuck(Exception):
    """Nothing will ever happen again."""


class SimLoop(asyncio.BaseEventLoop):
    """An event loop without I/O: when nothing is ready, it is the moment of the next timer at once."""

    def __init__(self) -> None:
        super().__init__()
        self._moment = 1_000.0
        self._selector = self
        self._clock_resolution = 1e-9
        self.set_exception_handler(self._fault)
        self.faults: list[str] = []

    def _fault(self, _loop: Any, context: dict[str, Any]) -> None:
        if "never retrieved" in context["message"] or "destroyed but" in context["message"]:
            return
        self.faults.append(f"{context['message']}: {context.get('exception')!r}")

    def time(self) -> float:
        return self._moment

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck
        self._moment += max(0.0, timeout)
        return []

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class SimTime:
    """The module `time` as the processes of a machine see it; its own clock may be wrong and may jump."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.wrong = 0.0

    def monotonic(self) -> float:
        return self._loop.time()

    def time(self) -> float:
        return 1_700_000_000.0 + self._loop.time() + self.wrong

    def time_ns(self) -> int:
        return int(self.time() * 1e9)


class Process:
    """One process of the engine. Once dead nothing that its code still does reaches anybody.

    Attributes:
        name: Unique.
        dead: It was killed.
        stalled_until: It was stopped; whatever leaves or reaches it waits until then.
    """

    def __init__(self, name: str, rng: random.Random, loop: SimLoop) -> None:
        self.name = name
        self.rng = rng
        self.loop = loop
        self.dead = False
        self.stalled_until = 0.0

    def enter(self, work: Callable[[], Any]) -> Any:
        """Run something as this process: tasks and timers it begins belong to it."""
        context = contextvars.copy_context()
        return context.run(self._run, work)

    def _run(self, work: Callable[[], Any]) -> Any:
        present.set(self)
        return work()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        """Begin a task of this process."""
        return self.enter(lambda: self.loop.create_task(work()))

    async def pass_through(self, longest: float = 0.02) -> None:
        """Something on its way out of or into the process: takes a while, and for ever when it dies meanwhile."""
        await self.alive()
        await asyncio.sleep(self.rng.random() ** 3 * longest)
        await self.alive()

    async def alive(self) -> None:
        """Wait while the process is stopped; for ever when it is dead."""
        while not self.dead and self.stalled_until > self.loop.time():
            await asyncio.sleep(self.stalled_until - self.loop.time())
        if self.dead:
            await self.loop.create_future()
