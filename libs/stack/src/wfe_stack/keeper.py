"""Keeps one part running: starts it, waits until it is up, and starts it again when it ends by itself."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from wfe_stack.faults import PartFault
from wfe_stack.guard import Guard
from wfe_stack.parts import Part
from wfe_stack.process import Process

#: Seconds a part may take until it accepts connections.
UP_SECONDS = 30.0
#: Seconds before the first new start; doubles with every end in a row.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
#: A part without a port counts as up again after so long.
SETTLED_SECONDS = 2.0
#: Ends in a row, without being up between, after which there is no further start.
TRIES = 6


class Keeper:
    """One part and its present process.

    Args:
        part: What to run.
        logs: Folder of the logs.
        guard: Ends the process should this one die.
        say: Tells people, in one line each, what happens to the part by itself.
        lost: Called once, with the reason, when the part cannot be kept running.
    """

    def __init__(
        self,
        part: Part,
        logs: Path,
        guard: Guard,
        say: Callable[[str], None],
        lost: Callable[[PartFault], None],
    ) -> None:
        self.part = part
        self.process: Process | None = None
        self._log = logs / f"{part.name}.log"
        self._guard = guard
        self._say = say
        self._lost = lost
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the process; `up` waits until it is there.

        Raises:
            PartFault: The program cannot be run.
        """
        self.process = Process(self.part.name, self.part.arguments, self.part.environment, self._log, self._guard)

    async def up(self) -> None:
        """Wait until the part accepts connections; a part without a port is up once its process runs.

        Raises:
            PartFault: It ended before, or does not listen in time.
        """
        process = self._running()
        deadline = time.monotonic() + UP_SECONDS
        while self.part.port is not None and not await _accepts(self.part.host, self.part.port):
            self.check()
            if time.monotonic() > deadline:
                raise PartFault(f"{self.part.name} does not listen after {UP_SECONDS:g} s (log: {process.log})")
            await asyncio.sleep(0.02)
        self.check()

    def check(self) -> None:
        """Whether the process runs.

        Raises:
            PartFault: It has ended.
        """
        process = self._running()
        if process.returncode is not None:
            raise PartFault(f"{self.part.name} {process.outcome()} (log: {process.log})")

    def keep(self) -> None:
        """From now on start the part again whenever it ends by itself."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name=f"keep {self.part.name}")

    async def let_go(self) -> None:
        """Keep it running no longer; the process stays as it is."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def stop(self) -> None:
        """End the part and keep it ended. Safe to repeat."""
        await self.let_go()
        if self.process is not None:
            await self.process.stop(self.part.stop_seconds)

    async def kill(self) -> None:
        """Kill the part, with everything it started, and keep it down."""
        await self.let_go()
        if self.process is not None:
            self.process.kill()
            await self.process.wait()

    def signal(self, what: signal.Signals) -> None:
        """Send the process a signal, and leave what follows to the keeper."""
        self._running().send(what)

    def _running(self) -> Process:
        if self.process is None:
            raise PartFault(f"{self.part.name} was never started")
        return self.process

    async def _keep(self) -> None:
        failures = 0
        while True:
            process = self._running()
            await process.wait()
            failures += 1
            if failures > TRIES:
                self._lost(PartFault(f"{self.part.name} {process.outcome()} (log: {self._log})"))
                return
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1))
            self._say(f"{self.part.name} {process.outcome()}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            if await self._start_again():
                failures = 0
                self._say(f"{self.part.name} is up again")

    async def _start_again(self) -> bool:
        """Whether the part came up; if not, its process has ended."""
        try:
            self.start()
            await self.up()
        except PartFault:
            await self._running().stop(self.part.stop_seconds)
            return False
        if self.part.port is None:
            # Nothing tells that it works but that it stays.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._running().wait(), SETTLED_SECONDS)
                return False
        return True


async def _accepts(host: str, port: int) -> bool:
    # A listener on every address is asked at loopback.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setblocking(False)
        try:
            await asyncio.wait_for(loop.sock_connect(probe, (host, port)), 1.0)
        except (OSError, TimeoutError):
            return False
    return True
