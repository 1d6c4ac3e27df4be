"""Worker processes for sync handlers: a thread cannot be stopped, a process can.

A worker runs one handler at a time. When a handler is cancelled and does not return within 0.2 seconds, or
its process dies, the process (with all it started) is killed and another takes its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import structlog
from wfe_bus.messages import Failure

from wfe_executor.outputs import failure
from wfe_executor.wire import Beat, Cancel, Done, Frames, Start, Up, decode_from_worker, frame

#: A cancelled handler may return by itself for this long, in seconds; then its process is killed.
RETURN_SECONDS = 0.2

_LONGEST_BACKOFF = 5.0

_log = structlog.get_logger("wfe.executor.pool")


class Worker(asyncio.Protocol):
    """One worker process, as the executor sees it."""

    def __init__(self, ended: Callable[[Worker], None]) -> None:
        self.process: asyncio.subprocess.Process | None = None
        self.up = False
        self.jobs = 0
        self._ended = ended
        self._transport: asyncio.WriteTransport | None = None
        self._frames = Frames()
        self._job: asyncio.Future[Done] | None = None
        self._beat: Callable[[Beat], None] | None = None
        self._killer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are no subclasses

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        for body in self._frames.feed(data):
            message = decode_from_worker(body)
            if isinstance(message, Up):
                self.up = True
                self._ended(self)
            elif message.no != self.jobs or self._job is None:
                continue
            elif isinstance(message, Beat):
                if self._beat is not None:
                    self._beat(message)
            else:
                self._finish(message)
                self._ended(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.kill()

    def start(self, job: Start, beat: Callable[[Beat], None]) -> asyncio.Future[Done]:
        """Give an idle worker a job; the future always gets a result."""
        assert self._transport is not None
        self._beat = beat
        self._job = asyncio.get_running_loop().create_future()
        self._transport.write(frame(job))
        return self._job

    def stop(self) -> None:
        """Ask the handler to return, and kill the process if it does not."""
        if self._job is None or self._transport is None:
            return
        self._transport.write(frame(Cancel(self.jobs)))
        self._killer = asyncio.get_running_loop().call_later(RETURN_SECONDS, self.kill)

    def kill(self) -> None:
        """Kill the process and everything in its group, now."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def died(self, code: int) -> None:
        """The process is gone: end its job."""
        if self._transport is not None:
            self._transport.close()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        details = {"exit": signal.Signals(-code).name if code < 0 else code}
        why = failure("HANDLER_CRASHED", f"the handler's process ended with {how}", details=details)
        self._finish(Done(self.jobs, failure=why))

    def _finish(self, done: Done) -> None:
        if self._killer is not None:
            self._killer.cancel()
            self._killer = None
        job, self._job = self._job, None
        if job is not None and not job.done():
            job.set_result(done)


class Pool:
    """The worker processes of an executor.

    Args:
        size: How many.
        modules: What they import.
    """

    def __init__(self, size: int, modules: Sequence[str]) -> None:
        self._size = size
        self._modules = ",".join(modules)
        self._workers: set[Worker] = set()
        self._idle: deque[Worker] = deque()
        self._takers: deque[asyncio.Future[Worker]] = deque()
        self._watchers: set[asyncio.Task[None]] = set()
        self._deaths = 0
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(w.process.pid for w in self._workers if w.process and w.process.returncode is None)

    def start(self) -> None:
        """Start the processes; they are ready a little later."""
        while len(self._watchers) < self._size:
            task = asyncio.create_task(self._keep())
            self._watchers.add(task)

    async def close(self) -> None:
        """Kill all processes."""
        self._closed = True
        for task in self._watchers:
            task.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()

    async def run(self, make: Callable[[int], Start], beat: Callable[[Beat], None]) -> tuple[bytes | Failure, str]:
        """Run one job on the next free worker.

        Args:
            make: Makes the job from its number; called when a worker is free, so that clocks can start then.
            beat: Called for every heartbeat of the handler.

        Returns:
            What came out, and a traceback for the log (empty without one).

        Raises:
            asyncio.CancelledError: After the handler returned or its process was killed.
        """
        worker = await self._take()
        worker.jobs += 1
        job = worker.start(make(worker.jobs), beat)
        try:
            done = await asyncio.shield(job)
        except asyncio.CancelledError:
            worker.stop()
            await asyncio.wait([job], timeout=RETURN_SECONDS + 1)
            raise
        if done.failure is not None:
            return done.failure, done.trace
        return done.output or b"null", ""

    async def _take(self) -> Worker:
        while self._idle:
            worker = self._idle.popleft()
            if worker in self._workers:
                return worker
        taker: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._takers.append(taker)
        try:
            return await taker
        except asyncio.CancelledError:
            if taker.done() and not taker.cancelled():
                self._free(taker.result())
            raise

    def _free(self, worker: Worker) -> None:
        self._deaths = 0
        if worker not in self._workers:
            return
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(worker)
                return
        self._idle.append(worker)

    async def _keep(self) -> None:
        """Keep one worker running."""
        while not self._closed:
            worker = await self._spawn()
            assert worker.process is not None
            try:
                code = await worker.process.wait()
            except asyncio.CancelledError:
                worker.kill()
                await worker.process.wait()
                worker.died(-signal.SIGKILL)
                raise
            self._workers.discard(worker)
            # What the handler left running goes with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.process.pid, signal.SIGKILL)
            worker.died(code)
            self._deaths += 1
            if not worker.up:
                _log.error("a worker process ended while importing", code=code, modules=self._modules)
                await asyncio.sleep(min(0.1 * 2**self._deaths, _LONGEST_BACKOFF))

    async def _spawn(self) -> Worker:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "wfe_executor.worker", str(theirs.fileno()), self._modules,
                    pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
                    env=_environment(),
                )  # fmt: skip
            ours.setblocking(False)
            worker = Worker(self._free)
            worker.process = process
            loop: Any = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: worker, sock=ours)
        except BaseException:
            ours.close()  # a worker that was started sees it and ends
            raise
        self._workers.add(worker)
        return worker


def _environment() -> dict[str, str]:
    """The executor's environment without its way to the bus, which is no business of handlers."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WFE_NATS_")}
