"""Processes for expressions that may take long; each evaluation in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
from wfe_engine import plan
from wfe_engine.errors import ResourceExhausted, Unavailable

from wfe_language.expressions.evaluator import ExpressionError, project
from wfe_language.expressions.worker import Answer, Request, frame

#: Bytes of bindings handed to a worker.
MOST_BINDINGS = 3 * 1024 * 1024
_START_SECONDS = 30.0
#: Seconds an evaluation waits for a free worker.
_QUEUE_SECONDS = 30.0
#: Seconds between attempts to start a worker in place of another.
_AGAIN_SECONDS = 1.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answer).decode


class ExpressionPool:
    """Evaluates in a fixed number of worker processes; one that takes too long is killed and replaced.

    Use as an async context manager, or call `start` and `close`.

    Args:
        size: Worker processes.
        cpu_seconds: CPU time one evaluation may take; then it has failed, and would fail again.
        wall_seconds: Time after which a worker is given up although it did not use that CPU time (the machine
            is overloaded or the process stopped): the evaluation is tried once more, then Unavailable.
        memory: Bytes of address space of a worker.
        most_waiting: Evaluations that may wait for a worker.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        cpu_seconds: float = 0.1,
        wall_seconds: float = 5.0,
        memory: int = 1024**3,
        most_waiting: int = 1000,
    ) -> None:
        self._size = size
        self._cpu_seconds = cpu_seconds
        self._wall_seconds = wall_seconds
        self._memory = memory
        self._most_waiting = most_waiting
        self._waiting = 0
        self._idle: asyncio.LifoQueue[asyncio.subprocess.Process] = asyncio.LifoQueue()
        self._all: set[asyncio.subprocess.Process] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> ExpressionPool:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Starts the workers; returns when all are ready, after about half a second."""
        await asyncio.gather(*(self._add() for _ in range(self._size)))

    async def close(self) -> None:
        """Ends the workers; evaluations that run fail as Unavailable. Safe to repeat."""
        self._closed = True
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        for worker in list(self._all):
            await self._end(worker)

    async def evaluate(self, expression: plan.Cel, bindings: Mapping[str, Any]) -> Any:
        """What `CelEvaluator.evaluate` gives, in bounded time and memory.

        Raises:
            ExpressionError: It fails, takes too long or needs too much memory; it would again.
            ResourceExhausted: Too many wait already; safe to try again.
            Unavailable: The machine gave the workers no time, or the pool is closed; safe to try again.
        """
        try:
            body = _encode(Request(expression, project(expression, bindings)))
        except OverflowError:
            raise ExpressionError("It refers to an integer of more than 64 bits.", expression.source) from None
        except RecursionError:
            raise ExpressionError("It refers to values that are nested too deep.", expression.source) from None
        if len(body) > MOST_BINDINGS:
            message = f"It refers to {len(body)} bytes of values, more than {MOST_BINDINGS}."
            raise ExpressionError(message, expression.source)
        if self._waiting >= self._most_waiting:
            raise ResourceExhausted("Too many expressions wait to be evaluated.", reason="EXPRESSIONS_BUSY")
        self._waiting += 1
        try:
            for _ in range(2):
                with contextlib.suppress(TimeoutError):
                    return await self._once(expression, body)
        finally:
            self._waiting -= 1
        raise Unavailable("No expression worker answered in time.", reason="EXPRESSIONS_SLOW")

    async def _once(self, expression: plan.Cel, body: bytes) -> Any:
        if self._closed:
            raise Unavailable("The expression workers are stopped.", reason="EXPRESSIONS_STOPPED")
        async with asyncio.timeout(_QUEUE_SECONDS):
            worker = await self._idle.get()
        whole = False
        try:
            async with asyncio.timeout(self._wall_seconds):
                answer = _decode(await self._ask(worker, body))
            whole = True
        except (asyncio.IncompleteReadError, ConnectionError):
            raise self._died(expression, await worker.wait()) from None
        finally:
            if whole:
                self._idle.put_nowait(worker)
            else:
                await self._replace(worker)
        if answer.error:
            raise ExpressionError(answer.error, expression.source)
        return answer.value

    def _died(self, expression: plan.Cel, code: int) -> Exception:
        if code == -signal.SIGPROF:
            message = f"It takes more than {self._cpu_seconds * 1000:g} ms."
            return ExpressionError(message, expression.source)
        if self._closed:
            return Unavailable("The expression workers are stopped.", reason="EXPRESSIONS_STOPPED")
        return ExpressionError("Its evaluation ended the worker: it takes too much memory.", expression.source)

    @staticmethod
    async def _ask(worker: asyncio.subprocess.Process, body: bytes) -> bytes:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(frame(body))
        await worker.stdin.drain()
        return await _frame_of(worker.stdout)

    async def _add(self) -> None:
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-m", "wfe_language.expressions.worker", str(self._cpu_seconds), str(self._memory)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
        self._all.add(worker)
        assert worker.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _frame_of(worker.stdout)
        except BaseException:
            await self._end(worker)
            raise
        self._idle.put_nowait(worker)

    async def _replace(self, worker: asyncio.subprocess.Process) -> None:
        await self._end(worker)
        if not self._closed:
            task = asyncio.create_task(self._add_again())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _add_again(self) -> None:
        """Starts a worker, however often it takes: a pool that shrank for good would stop runs for good."""
        while not self._closed:
            try:
                await self._add()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return

    async def _end(self, worker: asyncio.subprocess.Process) -> None:
        self._all.discard(worker)
        if worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
        if worker.stdin is not None:
            worker.stdin.close()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await worker.stdin.wait_closed()
        await worker.wait()


async def _frame_of(stream: asyncio.StreamReader) -> bytes:
    head = await stream.readexactly(4)
    return await stream.readexactly(int.from_bytes(head))
