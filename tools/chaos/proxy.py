"""A proxy for TCP and Unix sockets that cuts, delays, and loses the answer to something that was done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

#: A TCP port of the loopback interface, or the path of a Unix socket.
Address = int | Path
_CHUNK = 1 << 16


class Proxy:
    """Passes bytes on between its own address and another.

    Args:
        target: Where to; asked at every connection, None while there is nothing.
        done: What an answer to something that was done holds, told the first bytes of the client; `lose` drops
            such answers. Nothing is dropped when it gives nothing.

    Attributes:
        done: As given.
        delay: Seconds every piece is held up, in both directions.
        lost: Answers that were dropped.
        cuts: Connections that were cut.
        heard: What passed, a buffer for each way of each connection; None to keep nothing.
    """

    def __init__(self, target: Callable[[], Address | None], done: Callable[[bytes], bytes]) -> None:
        self._target = target
        self.done = done
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.WriteTransport] = set()
        self._to_lose = 0
        self.port = 0
        self.delay = 0.0
        self.lost = 0
        self.cuts = 0
        self.heard: list[bytearray] | None = None

    async def listen(self, path: Path | None = None) -> None:
        """Listen at the path of a Unix socket, or at a free port of the loopback interface."""
        if path is not None:
            self._server = await asyncio.start_unix_server(self._accept, path)
            await asyncio.to_thread(path.chmod, 0o666)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Cut every connection, without a goodbye."""
        for transport in list(self._transports):
            self.cuts += 1
            transport.abort()

    def lose(self, answers: int) -> None:
        """Drop so many of the next answers, and cut their connections: what was asked for is done all the same."""
        self._to_lose += answers

    def calm(self) -> None:
        """Pass on everything at once again."""
        self.delay = 0.0
        self._to_lose = 0

    async def close(self) -> None:
        """Cut everything and listen no longer."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._transports.add(writer.transport)
        try:
            await self._pass_on(reader, writer)
        finally:
            self._tasks.discard(task)
            self._transports.discard(writer.transport)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = self._target()
        if target is None:
            return
        try:
            there, back = await _connect(target)
        except OSError:
            return
        self._transports.add(back.transport)
        first: list[bytes] = []
        ways: list[Awaitable[None]] = [self._there(reader, back, first), self._back(there, writer, first)]
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._transports.discard(back.transport)
            back.transport.abort()

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: list[bytes]) -> None:
        kept = self._keep()
        with contextlib.suppress(OSError):
            while piece := await reader.read(_CHUNK):
                if not first:
                    first.append(piece)
                kept += piece if self.heard is not None else b""
                await self._send(writer, piece)

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: list[bytes]) -> None:
        kept = self._keep()
        with contextlib.suppress(OSError):
            while piece := await reader.read(_CHUNK):
                kept += piece if self.heard is not None else b""
                if self._to_lose and first and (done := self.done(first[0])) and done in piece:
                    self._to_lose -= 1
                    self.lost += 1
                    return
                await self._send(writer, piece)

    def _keep(self) -> bytearray:
        kept = bytearray()
        if self.heard is not None:
            self.heard.append(kept)
        return kept

    async def _send(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        writer.write(piece)
        await writer.drain()


async def _connect(target: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, Path):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection("127.0.0.1", target)
