"""Counting the awaits of a process, and ending it at one of them."""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
from collections.abc import Coroutine
from typing import Any

present: contextvars.ContextVar[Awaits | None] = contextvars.ContextVar("present", default=None)


#: Work of dead processes: kept, as even its `finally` must not run.
_GRAVE: list[Any] = []


class Injected(ConnectionResetError):
    """What an await fails with."""


class Awaits:
    """The awaits of one process's tasks, in the order they come to wait.

    Attributes:
        count: So far, while armed.
        dead: None of its code runs any more.
    """

    def __init__(self) -> None:
        self.count = 0
        self.dead = False
        self.tasks: list[asyncio.Task[Any]] = []
        self._armed = False
        self._at = -1
        self._how = ""
        self.struck = asyncio.Event()

    def arm(self, at: int, how: str) -> None:
        """Count from now on.

        Args:
            at: Number of the await that is the last one, from 0; -1 for none.
            how: fail or kill.
        """
        self._armed, self._at, self._how = True, at, how

    def disarm(self) -> None:
        """Count no more."""
        self._armed = False

    def strikes(self) -> str:
        """What happens at this await: nothing, fail or kill."""
        if not self._armed:
            return ""
        number, self.count = self.count, self.count + 1
        if number != self._at:
            return ""
        self._armed = False
        if self._how == "kill":
            self.dead = True
        self.struck.set()
        return self._how

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin a task of this process."""
        token = present.set(self)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            present.reset(token)


class _Counted(collections.abc.Coroutine[Any, Any, Any]):
    """A task's coroutine; every time it comes to wait is an await of its process."""

    def __init__(self, awaits: Awaits, work: Any) -> None:
        self._awaits, self._work = awaits, work

    def send(self, value: Any) -> Any:
        if self._awaits.dead:
            return self._never()
        return self._waits(self._work.send(value))

    def throw(self, *fault: Any) -> Any:
        if self._awaits.dead:
            _GRAVE.append(self._work)
            raise fault[0]
        return self._waits(self._work.throw(*fault))

    def _waits(self, future: Any) -> Any:
        how = self._awaits.strikes()
        if how == "fail":
            if future is not None:
                # As if whatever is waited for had broken: nobody takes its result any more.
                future._asyncio_future_blocking = False
                future.add_done_callback(lambda done: done.cancelled() or done.exception())
            return self._waits(self._work.throw(Injected("the connection was reset")))
        if how == "kill":
            if future is not None:
                future._asyncio_future_blocking = False
            return self._never()
        return future

    @staticmethod
    def _never() -> Any:
        future = asyncio.get_running_loop().create_future()
        future._asyncio_future_blocking = True
        return future

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Any:
        return self


def factory(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
    """Makes tasks whose awaits are counted when a process begins them."""
    awaits = present.get()
    if awaits is None:
        return asyncio.Task(work, loop=loop, **more)
    task = asyncio.Task(_Counted(awaits, work), loop=loop, **more)
    awaits.tasks.append(task)
    return task
