"""Health: alive is one thing, ready another.

`grpc.health.v1` answers for the service `""` while the process lives, whatever becomes of Postgres or NATS: a
supervisor that restarted everything for a slow database would only add to its troubles. The service `ready`
follows the pings: it goes away after a ping failed several times in a row and comes back after one that
succeeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio
from wfe_engine.errors import Unavailable

from wfe_servicekit.loops import PeriodicLoop

__all__ = ["READY", "Readiness"]

_log = structlog.get_logger("wfe.health")

READY = "ready"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(slots=True)
class _Part:
    ping: Callable[[], Awaitable[object]]
    timeout: float
    said: str = "not asked yet"
    failures: int = 0
    well: bool = False


class Readiness:
    """Whether the process can do its work, from pings of the parts it needs.

    Args:
        interval: Seconds between rounds of pings.
        failures_allowed: Failures of one ping in a row after which the process is not ready. Before the first
            success one failure suffices.
    """

    def __init__(self, *, interval: float = 2.0, failures_allowed: int = 3) -> None:
        self.servicer = health_aio.HealthServicer()
        self._parts: dict[str, _Part] = {}
        self._failures_allowed = failures_allowed
        self._closing = False
        self._reported: bool | None = None
        self._loop = PeriodicLoop(self.check, interval, "readiness")

    def add(self, name: str, ping: Callable[[], Awaitable[object]], *, timeout: float = 1.0) -> None:
        """Ask one more part.

        Args:
            name: For the answer, e.g. `store`.
            ping: Raises when the part is not well; what it returns does not matter.
            timeout: Seconds it may take.
        """
        self._parts[name] = _Part(ping, timeout)

    @property
    def ready(self) -> bool:
        """Whether every part is well and the process is not about to end."""
        return not self._closing and all(part.well for part in self._parts.values())

    def parts(self) -> dict[str, str]:
        """`ok`, or what is wrong, part by part; as `GetReadiness` shows it."""
        states = {name: "ok" if part.well else part.said for name, part in self._parts.items()}
        if self._closing:
            states["service"] = "shutting down"
        return states

    def require(self) -> dict[str, str]:
        """The parts, when all are well.

        Raises:
            Unavailable: Otherwise; its metadata has the parts that are not.
        """
        parts = self.parts()
        if not self.ready:
            bad = {name: said for name, said in parts.items() if said != "ok"}
            raise Unavailable(f"not ready: {', '.join(sorted(bad))}", reason="NOT_READY", **bad)
        return parts

    async def check(self) -> None:
        """One round of pings, all at the same time."""
        await asyncio.gather(*(self._ask(name, part) for name, part in self._parts.items()))
        await self._report()

    async def start(self) -> None:
        """The first round, then more in the background."""
        await self.check()
        self._loop.start()

    async def closing(self) -> None:
        """Not ready from now on, for good."""
        self._closing = True
        await self._report()

    async def stop(self) -> None:
        """End the background rounds."""
        await self._loop.stop()

    async def _ask(self, name: str, part: _Part) -> None:
        try:
            async with asyncio.timeout(part.timeout):
                await part.ping()
        except TimeoutError:
            self._failed(name, part, f"no answer within {part.timeout:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, the part is not well
            _log.debug("ping_failed", part=name, exc_info=True)
            # The class only: texts of drivers have addresses and users in them, and readiness is public.
            self._failed(name, part, type(error).__name__)
        else:
            if not part.well:
                _log.info("part_ready", part=name)
            part.well, part.failures, part.said = True, 0, "ok"

    def _failed(self, name: str, part: _Part, said: str) -> None:
        part.failures += 1
        part.said = said
        if part.well and part.failures >= self._failures_allowed:
            part.well = False
            _log.warning("part_not_ready", part=name, said=said)

    async def _report(self) -> None:
        ready = self.ready
        if ready != self._reported:
            self._reported = ready
            await self.servicer.set(READY, _SERVING if ready else _NOT_SERVING)
