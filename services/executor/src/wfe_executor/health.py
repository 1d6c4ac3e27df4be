"""GET /healthz: whether a scheduler hears this executor. GET /livez: whether its event loop turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_HEAD_SECONDS = 5.0


class Health:
    """Answers /livez with 200, everything else with 200 while `healthy` says so, else with 503. No keep-alive, no TLS.

    Liveness must not follow the bus: an executor that is started again for a bus that is down has only lost its work.
    """

    def __init__(self, port: int, healthy: Callable[[], bool], host: str = "0.0.0.0") -> None:  # noqa: S104
        self._healthy = healthy
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; gives the port.

        Raises:
            OSError: The port is taken.
        """
        self._server = await asyncio.start_server(self._answer, self._host, self._port)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head_of_call = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
            good = head_of_call.split(b" ", 2)[1:2] == [b"/livez"] or self._healthy()
            status, body = ("200 OK", b"ok\n") if good else ("503 Service Unavailable", b"no scheduler answers\n")
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
