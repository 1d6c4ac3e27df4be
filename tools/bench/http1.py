"""A small HTTP/1.1 client: one call at a time on each kept connection, and as little work per call as Python allows.

The machine that is measured also runs the client, so every millisecond of the client is missing to the engine.
"""

from __future__ import annotations

import asyncio
from typing import cast


class HttpFault(Exception):
    """The server answered with an error, or closed the connection in the middle of an answer."""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self._head = 0  # length of the head, once it is complete
        self._length = -1
        self._status = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(HttpFault(f"the connection was closed: {exc or 'no reason given'}"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._head:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = end + 4
            head = bytes(self._buffer[:end]).lower()
            self._status = int(head[9:12])
            at = head.find(b"\r\ncontent-length:")
            self._length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else -1
        if self._length >= 0:
            if len(self._buffer) >= self._head + self._length:
                self._finish(bytes(self._buffer[self._head : self._head + self._length]))
        elif self._buffer.endswith(b"0\r\n\r\n"):
            self._finish(_unchunked(bytes(self._buffer[self._head :])))

    def _finish(self, body: bytes) -> None:
        status, self._head = self._status, 0
        self._buffer.clear()
        assert self._answer is not None
        if not self._answer.done():
            self._answer.set_result((status, body))

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def call(self, request: bytes) -> tuple[int, bytes]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Http:
    """Kept connections to one server, as many as calls were ever made at the same time.

    Args:
        host: Address of the server.
        port: Its port.
        key: API key of the caller.
    """

    def __init__(self, host: str, port: int, key: str) -> None:
        self._host, self._port = host, port
        self._common = f"Host: {host}:{port}\r\nAuthorization: Bearer {key}\r\n".encode()
        self._free: list[_Connection] = []

    async def get(self, path: str) -> bytes:
        """GET; the answer's body."""
        return await self._call(b"GET " + path.encode() + b" HTTP/1.1\r\n" + self._common + b"\r\n")

    async def post(self, path: str, body: bytes, key: str = "") -> bytes:
        """POST JSON, with an idempotency key unless that is empty; the answer's body."""
        once = f"Idempotency-Key: {key}\r\n" if key else ""
        head = f"Content-Type: application/json\r\n{once}Content-Length: {len(body)}\r\n\r\n"
        return await self._call(b"POST " + path.encode() + b" HTTP/1.1\r\n" + self._common + head.encode() + body)

    async def _call(self, request: bytes) -> bytes:
        connection = self._free.pop() if self._free else None
        if connection is None or not connection.is_open:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        status, body = await connection.call(request)
        self._free.append(connection)
        if status >= 400:
            raise HttpFault(f"HTTP {status}: {body[:500].decode(errors='replace')}")
        return body

    def close(self) -> None:
        """Close every connection."""
        for connection in self._free:
            connection.close()
        self._free.clear()


def _unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if not length:
            break
        body += data[:length]
        data = data[length + 2 :]
    return body
