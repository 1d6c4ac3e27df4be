"""The life of a process: build, serve, end in order.

```python
async def main(stack: Stack) -> None:
    settings = load(SchedulerSettings)
    configure("scheduler", settings.log_level, settings.log_format)
    store = await stack.enter(open_store(settings))
    stack.loop(PeriodicLoop(sweeper.run_once, 1.0, "sweeper"))
    server = build_server(settings, …, readiness=readiness)
    await server.start()
    stack.serve(server, drain=settings.drain_seconds, grace=settings.shutdown_grace_seconds)


if __name__ == "__main__":
    run(main)
```

`main` builds everything and returns; the process then serves until SIGTERM or SIGINT, or until something it
cannot do without has failed. The end: readiness goes away, calls are still served for `drain` seconds
(balancers learn of it late), the server stops within `grace`, and what was opened is closed in reverse order.
A second signal ends at once.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

import structlog
import uvloop

from wfe_servicekit.loops import PeriodicLoop
from wfe_servicekit.settings import ConfigFault, refuse

__all__ = ["Serves", "Stack", "run", "settle_memory"]

_log = structlog.get_logger("wfe.process")
_CLOSER_SECONDS = 15.0

T = TypeVar("T")


class Serves(Protocol):
    """What `Stack.serve` needs; `RunningServer` has it."""

    readiness: Any

    async def stop(self, grace: float | None = None) -> None:
        """Stop within `grace` seconds."""
        ...


class Stack:
    """What a process has opened, and how it is closed. Belongs to one event loop."""

    def __init__(self) -> None:
        self._closers: list[tuple[str, Callable[[], Awaitable[object]]]] = []
        self._servers: list[tuple[Serves, float, float | None]] = []
        self._stopping = asyncio.Event()
        self.failure: BaseException | None = None

    async def enter(self, resource: AbstractAsyncContextManager[T], name: str = "") -> T:
        """Open a resource; it is closed in its turn. What it raises on opening goes on."""
        value = await resource.__aenter__()

        async def close() -> None:
            await resource.__aexit__(None, None, None)

        self._closers.append((name or type(resource).__name__, close))
        return value

    def push(self, close: Callable[[], Any], name: str = "") -> None:
        """Call this, sync or async, in its turn when the process ends. A failure is logged."""

        async def call() -> None:
            result = close()
            if inspect.isawaitable(result):
                await result

        self._closers.append((name or getattr(close, "__qualname__", "closer"), call))

    def loop(self, loop: PeriodicLoop) -> PeriodicLoop:
        """Start a loop; it is stopped in its turn."""
        loop.start()
        self.push(loop.stop, f"loop {loop.name}")
        return loop

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[object]:
        """Run something the process cannot do without: if it ends with an error, so does the process."""
        task: asyncio.Task[object] = asyncio.create_task(work, name=name)

        def ended(task: asyncio.Task[object]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("task_failed", task=name, exc_info=error)
                self.fail(error)

        async def close() -> None:
            task.cancel()
            await asyncio.wait({task})

        task.add_done_callback(ended)
        self._closers.append((f"task {name}", close))
        return task

    def serve(self, server: Serves, *, drain: float = 0.0, grace: float | None = None) -> None:
        """Stop this server first when the process ends, before anything is closed.

        Args:
            server: Already started.
            drain: Seconds to go on serving after readiness went away.
            grace: Seconds calls under way may take after that; None for the server's own setting.
        """
        self._servers.append((server, drain, grace))

    def stop(self) -> None:
        """Begin the end of the process."""
        self._stopping.set()

    def fail(self, error: BaseException) -> None:
        """Begin the end of the process, with status 1."""
        if self.failure is None:
            self.failure = error
        self._stopping.set()

    async def until_stopped(self) -> None:
        """Until the end of the process begins."""
        await self._stopping.wait()

    async def close(self) -> None:
        """Stop the servers, then close everything in reverse order. Safe to repeat."""
        servers, self._servers = self._servers, []
        for server, _, _ in servers:
            await server.readiness.closing()
        if drain := max((drain for _, drain, _ in servers), default=0.0):
            await asyncio.sleep(drain)
        if servers:
            await asyncio.gather(*(server.stop(grace) for server, _, grace in servers), return_exceptions=True)
        while self._closers:
            name, close = self._closers.pop()
            try:
                async with asyncio.timeout(_CLOSER_SECONDS):
                    await close()
            except TimeoutError:
                _log.error("close_timed_out", resource=name, seconds=_CLOSER_SECONDS)
            except Exception:  # noqa: BLE001 - what is left has to be closed as well
                _log.exception("close_failed", resource=name)


async def live(main: Callable[[Stack], Awaitable[None]], *, handle_signals: bool = True) -> int:
    """One life: `main`, wait for the end, close. Returns the exit status."""
    stack = Stack()
    if handle_signals:
        _handle_signals(stack)
    building = asyncio.ensure_future(main(stack))
    stopped = asyncio.ensure_future(stack.until_stopped())
    try:
        await asyncio.wait({building, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not building.done():
            # A signal during the start.
            building.cancel()
            await asyncio.wait({building})
        if not building.cancelled() and (error := building.exception()) is not None:
            if isinstance(error, ConfigFault | SystemExit | KeyboardInterrupt):
                raise error
            _log.error("start_failed", exc_info=error)
            return 1
        settle_memory()
        await stopped
        _log.info("stopping", failed=stack.failure is not None)
    finally:
        stopped.cancel()
        await stack.close()
    return 0 if stack.failure is None else 1


def settle_memory() -> None:
    """Collect garbage seldom: what a service keeps is large and stays; what it makes dies by its reference counts."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(25_000, 20, 20)


def _handle_signals(stack: Stack) -> None:
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stack._stopping.is_set():
            os._exit(128 + number)
        _log.info("signal", name=number.name)
        stack.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def run(main: Callable[[Stack], Awaitable[None]]) -> None:
    """Run a process on uvloop, then exit: 0 after a signal, 1 after a failure, 2 for bad configuration.

    Raises:
        SystemExit: Always.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(live(main))
    except ConfigFault as error:
        refuse(*error.faults)
    sys.stdout.flush()
    raise SystemExit(status)
