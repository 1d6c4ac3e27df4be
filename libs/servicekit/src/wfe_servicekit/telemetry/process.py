"""Metrics every process has, and the port they are read from."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable

import structlog
from aiohttp import web

from wfe_servicekit.settings import ConfigFault, ProcessSettings
from wfe_servicekit.telemetry.metrics import CONTENT_TYPE, Counter, Gauge, Histogram, render

__all__ = ["CALLS", "CALL_SECONDS", "MetricsServer", "watch_loop"]

#: Seconds between two looks at the event loop.
LOOK_SECONDS = 0.25

CALLS = Counter("wfe_calls_total", "gRPC calls answered, by method and gRPC status code.", ("method", "code"))
CALL_SECONDS = Histogram(
    "wfe_call_seconds", "Time from a gRPC call's arrival to its answer; not of streams.", ("method",)
)
LOOP_LAG = Histogram(
    "wfe_loop_lag_seconds", "How late the event loop ran what was due: time something else held it, 4 looks a second."
)
CPU = Gauge("wfe_cpu_seconds", "Processor time the process has used since its start.")
MEMORY = Gauge("wfe_memory_peak_bytes", "Most memory the process has had resident.")
STARTED = Gauge("wfe_start_time_seconds", "When the process started, in Unix time.")

CPU.read(lambda: {(): sum(resource.getrusage(resource.RUSAGE_SELF)[:2])})
MEMORY.read(lambda: {(): resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0})
STARTED.set(time.time())

_log = structlog.get_logger("wfe.metrics")


def watch_loop() -> Callable[[], None]:
    """Observe the event loop's lag until the returned function is called."""
    loop = asyncio.get_running_loop()
    due = loop.time() + LOOK_SECONDS
    handle: asyncio.TimerHandle

    def look() -> None:
        nonlocal due, handle
        now = loop.time()
        LOOP_LAG.observe(max(0.0, now - due))
        due = now + LOOK_SECONDS
        handle = loop.call_at(due, look)

    handle = loop.call_at(due, look)
    return lambda: handle.cancel()


class MetricsServer:
    """`GET /metrics` on a port of its own, so that it can be kept from the public.

    Attributes:
        port: The port it listens on; 0 before `start`.
    """

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings = settings
        self._runner: web.AppRunner | None = None
        self._unwatch: Callable[[], None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen, if the settings name a port.

        Raises:
            ConfigFault: The port cannot be listened on.
        """
        wanted = self._settings.metrics_port
        if wanted is None:
            return
        self._unwatch = watch_loop()
        app = web.Application()
        app.router.add_get("/metrics", _answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        host = self._settings.metrics_host
        try:
            await web.TCPSite(self._runner, host, wanted).start()
        except OSError as error:
            await self.close()
            raise ConfigFault(f"WFE_METRICS_PORT: cannot listen on {host}:{wanted}: is it in use?") from error
        self.port = self._runner.addresses[0][1]
        _log.info("metrics", host=host, port=self.port)

    async def close(self) -> None:
        """Stop listening. Safe to repeat."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def _answer(_request: web.Request) -> web.Response:
    return web.Response(body=render(), headers={"content-type": CONTENT_TYPE})
