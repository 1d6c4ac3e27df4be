"""The receivers' process: takes webhooks on one port, and says on its standard output what it saw.

By its path a call goes to a receiver that is well (`/well/7`: answers at once), slow (`/slow/7`) or dead (`/dead/7`:
never answers). A line on standard input asks for a `Seen`, as a line of JSON; the line `reset` forgets everything.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import datetime
from typing import cast

import msgspec
import uvloop

_OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Seen(msgspec.Struct, kw_only=True):
    """What came in since the last reset.

    Attributes:
        calls: By kind of receiver.
        messages: Different ones, by kind; a message to two receivers is two.
        first_ms: Of the receivers that are well: milliseconds from the event to its first attempt, at p50, p99 and
            the most.
        span: Seconds between the first and the last call to them.
    """

    calls: dict[str, int] = {}
    messages: dict[str, int] = {}
    first_ms: dict[str, float] = {}
    span: float = 0.0


class State:
    """What was seen."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.calls: dict[str, int] = {}
        self.messages: dict[str, set[bytes]] = {}
        self.latencies: list[float] = []
        self.first = self.last = 0.0

    def note(self, path: bytes, message_id: bytes, body: bytes) -> str:
        """Note a call; gives the kind of its receiver."""
        now = time.time()
        kind = path.split(b"/")[1].decode()
        self.calls[kind] = self.calls.get(kind, 0) + 1
        known = self.messages.setdefault(kind, set())
        key = path + message_id
        if kind == "well":
            self.first = self.first or now
            self.last = now
            if key not in known:
                at = body.find(b'"time":"') + 8
                moment = datetime.fromisoformat(body[at : body.find(b'"', at)].decode())
                self.latencies.append(now - moment.timestamp())
        known.add(key)
        return kind

    def seen(self) -> Seen:
        """All of it."""
        ordered = sorted(self.latencies)

        def quantile(part: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 1) if ordered else 0.0

        return Seen(
            calls=self.calls,
            messages={kind: len(found) for kind, found in self.messages.items()},
            first_ms={"p50": quantile(0.5), "p99": quantile(0.99), "max": quantile(1.0)},
            span=self.last - self.first,
        )


class Receiver(asyncio.Protocol):
    """One connection, with one call at a time on it."""

    def __init__(self, state: State, slow_seconds: float) -> None:
        self._state = state
        self._slow_seconds = slow_seconds
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See asyncio.Protocol."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = self._buffer[:end].split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        whole = end + 4 + int(headers.get(b"content-length", b"0"))
        if len(self._buffer) < whole:
            return
        body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
        kind = self._state.note(lines[0].split(b" ")[1], headers.get(b"webhook-id", b""), body)
        if kind == "well":
            self._answer()
        elif kind == "slow":
            asyncio.get_running_loop().call_later(self._slow_seconds, self._answer)

    def _answer(self) -> None:
        if self._transport is not None:
            self._transport.write(_OK)


async def serve(slow_seconds: float) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    state = State()
    server = await loop.create_server(lambda: Receiver(state, slow_seconds), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "reset":
            state.reset()
        print(msgspec.json.encode(state.seen()).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(serve(float(sys.argv[1])))
