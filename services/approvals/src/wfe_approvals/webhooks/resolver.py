"""Names looked up in threads of their own, one look-up at a time for each name.

The loop's own few threads would be taken by receivers whose name servers do not answer, and everybody else's
look-ups would wait behind them.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

#: Names that may be looked up at the same time. Threads are made when needed.
THREADS = 64


class PooledResolver(AbstractResolver):
    """The system's resolver."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dns")
        self._asking: dict[tuple[str, int, int], asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See AbstractResolver.

        Raises:
            OSError: The name could not be resolved.
        """
        key = (host, port, int(family))
        asking = self._asking.get(key)
        if asking is None:
            loop = asyncio.get_running_loop()
            asking = self._asking[key] = loop.run_in_executor(self._threads, _look_up, host, port, family)
            asking.add_done_callback(lambda done: self._done(key, done))
        # Shared: one caller that gives up must not end it for the others.
        return await asyncio.shield(asking)

    def _done(self, key: tuple[str, int, int], done: asyncio.Future[list[ResolveResult]]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # it may be nobody's by now

    async def close(self) -> None:
        """Start no look-ups any more; those under way are left to themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = []
    for kind, _, proto, _, address in socket.getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    ):
        found.append(
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
        )
    return found
