"""The executor: built by hand, in order, and closed in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import secrets
import signal
import sys
from collections.abc import Sequence

import structlog
from wfe_egress import Guard, guarded_session
from wfe_sdk import Registry, registry
from wfe_servicekit.lifecycle import settle_memory
from wfe_servicekit.settings import ConfigFault, refuse
from wfe_servicekit.telemetry.start import observe

from wfe_executor.calls import Calls
from wfe_executor.clock import StoreClock
from wfe_executor.config import Settings
from wfe_executor.health import Health
from wfe_executor.link import Link
from wfe_executor.mcp import Mcp
from wfe_executor.observe import observed, read_gauges
from wfe_executor.pool import Pool
from wfe_executor.pulse import Pulse
from wfe_executor.reports import Reporter
from wfe_executor.runner import Runner
from wfe_executor.slots import Slots

#: Seconds that outcomes may wait for a scheduler's answer at the end.
REPORT_SECONDS = 10.0

_log = structlog.get_logger("wfe.executor")


def load_handlers(modules: Sequence[str]) -> Registry:
    """Import the handler modules; every one that fails is named, and the process ends with status 2."""
    faults = []
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - whatever a module does when imported
            faults.append(f"WFE_HANDLERS ({module}): cannot be imported: {type(error).__name__}: {error}")
    if faults:
        refuse(*faults)
    return registry


class Executor:
    """Everything one executor process is made of. Needs a running loop.

    Args:
        settings: See `Settings`.
        handlers: The handlers it offers.
    """

    def __init__(self, settings: Settings, handlers: Registry) -> None:
        self.settings = settings
        # New at every start: what was leased to an earlier process of the same name is not ours. One token of
        # a NATS subject, whatever the host is called.
        host = re.sub(r"[^A-Za-z0-9_-]+", "-", settings.executor_name).strip("-")[:60] or "executor"
        self.id = f"{host}-{secrets.token_hex(6)}"
        self.clock = StoreClock()
        self.link = Link(settings, self.id)
        self.pool = Pool(settings.executor_processes, settings.modules)
        self.session = guarded_session(
            Guard(allow=settings.egress_allow, https_only=settings.egress_https_only),
            limit=settings.executor_slots,
        )
        self.mcp = Mcp(self.session, settings.commands)
        runner = Runner(self.link, Calls(handlers, self.pool), self.session, self.mcp)
        self.slots = Slots(
            settings.executor_slots,
            self.clock,
            run=observed(runner.run),
            report=lambda attempt: self.reporter.add(attempt),
            grown=lambda: self.pulse.claim_soon(),
        )
        self.reporter = Reporter(
            self.link,
            settings.queues,
            room=self.slots.offer,
            settled=self.slots.settled,
            accept=self.slots.accept,
            stirred=lambda: self.pulse.claim_soon(),
        )
        self.pulse = Pulse(
            self.link,
            self.slots,
            self.clock,
            period=settings.heartbeat_seconds,
            name=f"{settings.executor_name}/{os.getpid()}",
            queues=settings.queues,
            handlers=handlers.names(),
        )
        found = (handlers.get(name) for name in handlers.names())
        self._needs_pool = any(one is not None and not one.is_async for one in found)
        port = settings.health_port
        read_gauges(settings.executor_slots, lambda: self.slots.running, lambda: self.pulse.healthy)
        self._health = Health(port, lambda: self.pulse.healthy) if port else None

    async def start(self) -> None:
        """Connect and claim; waits for the bus as long as it takes."""
        self.link.listen(
            self.slots.accept,
            lambda stop: self.slots.lose(stop.leases, stop.reason),
            self.pulse.nudge,
        )
        if self._health is not None:
            await self._health.start()
        if self._needs_pool:
            self.pool.start()
        await self.link.open()
        self.pulse.start()
        _log.info("executor started", executor=self.id, slots=self.settings.executor_slots)

    async def drain(self) -> None:
        """Take nothing new, finish or give back what is held, and wait for the answers."""
        _log.info("executor stops", executor=self.id, running=self.slots.running)
        await self.pulse.stop()
        await self.slots.drain(self.settings.drain_seconds)
        try:
            await asyncio.wait_for(self.reporter.idle(), REPORT_SECONDS)
        except TimeoutError:
            _log.warning("some reports were never answered; their leases will run out")

    async def close(self) -> bool:
        """Let go of everything; whether every handler ended."""
        await self.pulse.close()
        await self.reporter.close()
        ended = await self.slots.close()
        await self.pool.close()
        await self.link.close()
        await self.mcp.close()
        await self.session.close()
        if self._health is not None:
            await self._health.close()
        return ended


async def serve(settings: Settings) -> int:
    """Run an executor until SIGTERM or SIGINT; a second signal ends the process at once.

    Returns:
        The exit status: 0.
    """
    stop = asyncio.Event()

    def stopped() -> None:
        if stop.is_set():
            os._exit(1)  # workers see the socket close and end as well
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped)
    try:
        end_telemetry = await observe("executor", settings)
    except ConfigFault as fault:
        refuse(*fault.faults)
    executor = Executor(settings, load_handlers(settings.modules))
    starting = asyncio.create_task(executor.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            settle_memory()
            await stopping
            await executor.drain()
    finally:
        for task in (starting, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if not await executor.close():
            # A handler ignores its cancellation, and the loop would wait for it for ever.
            _log.warning("a handler does not end; leaving without it")
            await end_telemetry()
            sys.stdout.flush()
            os._exit(0)
        await end_telemetry()
    return 0
