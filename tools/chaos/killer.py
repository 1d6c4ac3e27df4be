"""Breaks parts of a running engine, as a seed says, and mends them again."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

from wfe_stack.faults import StackFault

from tools.chaos.bed import Bed
from tools.chaos.recovery import Recovery

Fault = Callable[[], Awaitable[None]]


class Killer:
    """One fault after the other, now and then two at once.

    Args:
        bed: What to break.
        recovery: Measures what comes back, after faults that nothing else disturbs.
        seed: Of what is chosen.
        lease_seconds: Of executors; a stopped process is stopped for longer.
        pause: Seconds between faults, at most.

    Attributes:
        kills: Processes killed, stopped or ended, and connections cut, by kind.
    """

    def __init__(self, bed: Bed, recovery: Recovery, *, seed: int, lease_seconds: float, pause: float) -> None:
        self._bed = bed
        self._recovery = recovery
        self._chance = random.Random(f"{seed}-killer")
        self._lease = lease_seconds
        self._pause = pause
        self._broken: set[str] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self.kills: Counter[str] = Counter()

    @property
    def killed(self) -> int:
        """Processes that were killed, stopped or ended so far."""
        return sum(count for kind, count in self.kills.items() if not kind.startswith("proxy"))

    async def run(self, stop: asyncio.Event) -> None:
        """Break things until told to stop; then everything is mended.

        Raises:
            StackFault: Something did not come back.
        """
        number = 0
        while not stop.is_set():
            number += 1
            if number % 6 == 0:
                await self._settled()
                await self._alone()
            else:
                task = asyncio.create_task(self._break())
                self._under_way.add(task)
                while len([task for task in self._under_way if not task.done()]) >= 2:
                    await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
                    self._collect()
                self._collect()
            try:
                await asyncio.wait_for(stop.wait(), self._chance.uniform(0, self._pause))
            except TimeoutError:
                continue
        await self._settled()

    def _collect(self) -> None:
        for task in [task for task in self._under_way if task.done()]:
            self._under_way.discard(task)
            task.result()

    async def _settled(self) -> None:
        """Wait until nothing is broken."""
        while self._under_way:
            await asyncio.wait(self._under_way)
            self._collect()
        for proxy in (self._bed.clients, self._bed.store, self._bed.bus):
            proxy.calm()
        await self._bed.stack.ready(120)

    # ---- alone, to be measured

    async def _alone(self) -> None:
        """A fault of those whose recovery is measured, with nothing else broken until all is well again."""
        kind = self._chance.choice(["executor", "executor", "nats", "postgres"])
        bed = self._bed
        if kind == "executor":
            part = self._pick("executor")
            held = await self._recovery.held(bed.stack.pids[part])
            await bed.stack.kill(part)
            self._count("executor", "SIGKILL")
            watching = asyncio.create_task(self._recovery.executor_killed(held, self._lease))
            await bed.stack.restart(part, ready=False)
            await watching
        elif kind == "nats":
            await bed.stack.kill("nats")
            self._count("nats", "SIGKILL, data deleted")
            await bed.stack.restart("nats", ready=False)
            await self._recovery.bus_back()
        else:
            await bed.postgres.kill()
            self._count("postgres", "SIGKILL")
            await bed.postgres.start()
            await self._recovery.store_back()
        await bed.stack.ready(120)

    # ---- two at once

    async def _break(self) -> None:
        chance = self._chance
        menu: list[tuple[int, Fault]] = [
            (6, lambda: self._process(self._pick("executor"))),
            (5, lambda: self._process(self._pick("scheduler"))),
            (2, lambda: self._process("approvals")),
            (1, lambda: self._process("gateway")),
            (2, self._nats),
            (3, self._postgres),
            (4, self._proxy),
        ]
        (fault,) = chance.choices([fault for _, fault in menu], [weight for weight, _ in menu])
        await fault()

    async def _process(self, part: str) -> None:
        if part in self._broken or part not in self._bed.stack.pids:
            return
        self._broken.add(part)
        kind = part.partition("-")[0]
        how = self._chance.choice(["SIGKILL", "SIGSTOP", "SIGTERM", "SIGKILL twice"])
        again = self._chance.uniform(0.1, 0.8)
        down = self._chance.uniform(0, 1)
        try:
            if how == "SIGSTOP":
                self._count(kind, "SIGSTOP")
                self._bed.stack.signal(part, signal.SIGSTOP)
                try:
                    await asyncio.sleep(self._lease + self._chance.uniform(0.5, 2))
                finally:
                    self._bed.stack.signal(part, signal.SIGCONT)
                return
            if how == "SIGTERM":
                self._count(kind, "SIGTERM")
                await self._bed.stack.terminate(part)
            else:
                self._count(kind, "SIGKILL")
                await self._bed.stack.kill(part)
            await asyncio.sleep(down)
            if how == "SIGKILL twice":
                starting = asyncio.create_task(self._bed.stack.restart(part, ready=False))
                await asyncio.sleep(again)
                self._count(kind, "SIGKILL while starting")
                await self._bed.stack.kill(part)
                await asyncio.gather(starting, return_exceptions=True)
            await self._restart(part)
        finally:
            self._broken.discard(part)

    async def _restart(self, part: str) -> None:
        # A part that is started while the store or the bus is away may give up; an orchestrator starts it again.
        for _ in range(20):
            try:
                await self._bed.stack.restart(part, ready=False)
                return
            except StackFault:
                await asyncio.sleep(0.5)
        await self._bed.stack.restart(part, ready=False)

    async def _nats(self) -> None:
        if "nats" in self._broken:
            return
        self._broken.add("nats")
        try:
            self._count("nats", "SIGKILL, data deleted")
            await self._bed.stack.kill("nats")
            await asyncio.sleep(self._chance.uniform(0, 2))
            await self._bed.stack.restart("nats", ready=False)
        finally:
            self._broken.discard("nats")

    async def _postgres(self) -> None:
        if "postgres" in self._broken:
            return
        self._broken.add("postgres")
        how = self._chance.choice(["crash", "crash", "immediate", "recovery"])
        down, again = self._chance.uniform(0, 1), self._chance.uniform(0.05, 0.4)
        try:
            self._count("postgres", "immediate shutdown" if how == "immediate" else "SIGKILL")
            await self._bed.postgres.kill(signal.SIGQUIT if how == "immediate" else signal.SIGKILL)
            await asyncio.sleep(down)
            if how == "recovery":
                starting = asyncio.create_task(self._bed.postgres.start())
                await asyncio.sleep(again)
                self._count("postgres", "SIGKILL while recovering")
                self._bed.postgres.signal(signal.SIGKILL)
                await asyncio.gather(starting, return_exceptions=True)
                await self._bed.postgres.kill()
            await self._bed.postgres.start()
        finally:
            self._broken.discard("postgres")

    async def _proxy(self) -> None:
        bed = self._bed
        name = self._chance.choice(["clients", "store", "bus"])
        proxy = {"clients": bed.clients, "store": bed.store, "bus": bed.bus}[name]
        how = self._chance.choice(["cuts", "delays", "loses answers" if name != "bus" else "cuts"])
        self._count(f"proxy of {name}", how)
        if how == "cuts":
            proxy.cut()
        elif how == "delays":
            proxy.delay = self._chance.uniform(0.02, 0.3)
            await asyncio.sleep(self._chance.uniform(0.5, 3))
            proxy.delay = 0.0
        else:
            proxy.lose(self._chance.randint(1, 5))

    def _pick(self, kind: str) -> str:
        """A part of a kind that runs."""
        running = sorted(part for part in self._bed.stack.pids if part.partition("-")[0] == kind)
        free = [part for part in running if part not in self._broken]
        return self._chance.choice(free or running or [kind])

    def _count(self, kind: str, how: str) -> None:
        self.kills[f"{kind}: {how}"] += 1
