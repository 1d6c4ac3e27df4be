"""Requests with large values: read in a process of their own, a few at a time.

Turning millions of small protobuf values into JSON takes Python seconds, in which a service would do nothing else. So
a request above SMALL_BYTES is handed to a process that gives back the request without its large values, and these as
JSON. One that is hostile costs a process that ends, and one of few places.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import msgspec
from wfe_engine.errors import InvalidInput, ResourceExhausted, Violation

from wfe_servicekit.calls import Call

__all__ = ["LARGE_REQUEST_BYTES", "SMALL_BYTES", "Answer", "Large", "LargeRequests", "Order", "frame"]

#: Requests up to here are read in place.
SMALL_BYTES = 1 << 20
#: The largest request. As a protobuf a small number takes 11 bytes where JSON takes two.
LARGE_REQUEST_BYTES = 32 << 20

_RETRY_AFTER = 2.0


@dataclass(frozen=True, slots=True)
class Large:
    """A method that takes large values.

    Attributes:
        module, message: Where its request's class is.
        fields: Names of the fields, with dots, that hold a Struct or a Value.
        admit: Looks at the bytes of a request before anything is done for it; raises to refuse it.
    """

    module: str
    message: str
    fields: tuple[str, ...]
    admit: Callable[[bytes], None] | None = None


class Order(msgspec.Struct, frozen=True):
    """What the process is to do."""

    module: str
    message: str
    fields: tuple[str, ...]
    request: bytes


class Answer(msgspec.Struct, frozen=True):
    """The request without its large values, these by field as JSON bytes, and what is wrong with them."""

    request: bytes = b""
    values: dict[str, bytes] = {}
    faults: list[tuple[str, str]] = []


class LargeRequests:
    """Reads large requests. `start` makes the process; without it, the first request does.

    Args:
        methods: Methods that take large values, by full name.
        at_once: Calls with large requests under way at the same time.
        most_waiting: Calls that may wait for that; more are refused.
    """

    def __init__(self, methods: Mapping[str, Large], *, at_once: int = 2, most_waiting: int = 8) -> None:
        self.methods = methods
        self._places = asyncio.Semaphore(at_once)
        self._most_waiting = most_waiting
        self._waiting = 0
        self._reading = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Make the process. Before gRPC serves: its threads do not go well with making processes."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-m", "wfe_servicekit.large_reader"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def close(self) -> None:
        """End the process. Safe to repeat."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()

    async def serve(
        self,
        large: Large,
        raw: bytes,
        call: Call,
        parse: Callable[[bytes], Any],
        behaviour: Callable[[Any], Awaitable[Any]],
    ) -> Any:
        """What a method answers to a large request.

        Raises:
            ResourceExhausted: Too many of them are under way.
            InvalidInput: A value is not one that can be kept; names every violation.
        """
        if large.admit is not None:
            large.admit(raw)
        if self._waiting >= self._most_waiting:
            raise ResourceExhausted(
                "too many calls with large values are under way", reason="TOO_MANY_LARGE", retry_after=_RETRY_AFTER
            )
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            answer = await self._read(Order(large.module, large.message, large.fields, raw))
            if answer.faults:
                raise InvalidInput([Violation(field, message) for field, message in answer.faults])
            call.large = answer.values
            return await behaviour(parse(answer.request))
        finally:
            self._places.release()

    async def _read(self, order: Order) -> Answer:
        async with self._reading:
            if self._process is None or self._process.returncode is not None:
                await self.close()
                await self.start()
            process = self._process
            assert process is not None
            assert process.stdin is not None
            assert process.stdout is not None
            whole = False
            try:
                process.stdin.write(frame(msgspec.msgpack.encode(order)))
                await process.stdin.drain()
                size = int.from_bytes(await process.stdout.readexactly(4))
                answer = msgspec.msgpack.decode(await process.stdout.readexactly(size), type=Answer)
                whole = True
            except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
                # It took too long or too much; uvloop raises RuntimeError for a pipe that is gone.
                message = "is more than can be read: it has too many values, or is no message of the method"
                raise InvalidInput(message) from None
            finally:
                if not whole:
                    # Half an answer may be on its way: the next one needs another process.
                    await self.close()
            return answer


def frame(body: bytes) -> bytes:
    """A body with its length before it."""
    return len(body).to_bytes(4) + body
