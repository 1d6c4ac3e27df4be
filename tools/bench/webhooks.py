"""`make bench-webhooks`: events to receivers of which some are dead or slow, and the most deliveries a second.

Starts a fresh engine and prints a line of JSON for each of two workloads:

- `webhooks-paced`: events at a steady rate of the runs of 50 owners, each of whom has one receiver. 10 are dead (5
  refuse connections, 5 never answer), 10 answer after 5 seconds, 30 at once. Says when those saw each event's first
  attempt, and how many events they did not see at all.
- `webhooks-most`: every event to each of 30 receivers that are well, as fast as they can be told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from wfe_stack.rest import Rest
from wfe_stack.seed import seed
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_store.identity import SeedPrincipal

from tools.bench.meter import Meter, Processes
from tools.bench.receivers import Seen
from tools.bench.workloads import dump

RECEIVERS, DEAD, SLOW = 50, 10, 10
SLOW_SECONDS = 5.0
TEMPLATE = "name: one\nsteps:\n  - id: step\n    call: {handler: echo}\n"
ADMINISTRATOR = SeedPrincipal("root", roles=("admin",))
#: Receivers of the second workload.
WELL = 30
#: Seconds after the last event until what has not come counts as missing.
PATIENCE = 120.0


class Receivers:
    """The receivers' process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    @classmethod
    async def start(cls) -> Receivers:
        """Start it."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.bench.receivers", str(SLOW_SECONDS)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        return cls(process, int(await process.stdout.readline()))

    async def ask(self, line: str = "") -> Seen:
        """What it saw; with `reset`, forget it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()
        return msgspec.json.decode(await self.process.stdout.readline(), type=Seen)

    async def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()


def kind_of(number: int) -> str:
    """What a receiver of the first workload is like."""
    return "dead" if number < DEAD else "slow" if number < DEAD + SLOW else "well"


class Owner(msgspec.Struct):
    """An owner: an administrator of it, and its template."""

    rest: Rest
    template: str


class Bench:
    """An engine, receivers, and owners who start runs."""

    def __init__(self, stack: Stack, receivers: Receivers, owners: Sequence[Owner]) -> None:
        self._receivers = receivers
        self._owners = owners
        self._folder = stack.settings.folder
        self._processes = Processes({**stack.pids, "receivers": receivers.process.pid, "client": os.getpid()})
        self.events = 0

    async def prepare(self) -> None:
        """Count the events of one run."""
        owner = self._owners[0]
        run = await owner.rest.start({"template_id": owner.template})
        await owner.rest.wait_ended(run["id"])
        self.events = (await owner.rest.get(f"/api/v1/workflows/{run['id']}/events"))["total"]

    async def subscribe(self, owner: Owner, path: str) -> None:
        """Subscribe a receiver to everything of an owner."""
        url = path if path.startswith("http") else f"{self._receivers.url}{path}"
        await owner.rest.post("/api/v1/webhooks", {"url": url, "event_types": ["*"]})

    async def unsubscribe_all(self) -> None:
        """Remove every webhook."""
        for owner in self._owners:
            for webhook in (await owner.rest.get("/api/v1/webhooks", limit=200))["webhooks"]:
                await owner.rest.delete(f"/api/v1/webhooks/{webhook['id']}")

    async def paced(self, deliveries: int, rate: float) -> dict[str, Any]:
        """Events at a steady rate, each to one receiver."""
        refusing = socket.socket()  # Nobody listens, and nobody else gets the port.
        refusing.bind(("127.0.0.1", 0))
        paths = [f"/{kind_of(number)}/{number}" for number in range(RECEIVERS)]
        for number in range(0, DEAD, 2):
            paths[number] = f"http://127.0.0.1:{refusing.getsockname()[1]}{paths[number]}"
        # At once: each waits until its owner's events are sure to be told.
        await asyncio.gather(*(self.subscribe(*each) for each in zip(self._owners, paths, strict=True)))
        await self._receivers.ask("reset")
        runs = max(RECEIVERS, deliveries // self.events)
        well = sum(self.events for run in range(runs) if kind_of(run % RECEIVERS) == "well")
        with Meter(self._processes, self._folder) as meter:
            wall = await self._start(runs, rate / self.events, self._owners)
            seen = await self._until(well)
        refusing.close()
        await self.unsubscribe_all()
        return {
            "workload": "webhooks-paced",
            "deliveries": runs * self.events,
            "receivers": RECEIVERS,
            "dead": DEAD,
            "slow": SLOW,
            "events_per_s": round(runs * self.events / wall, 1),
            "well_events": well,
            "well_missing": well - seen.messages.get("well", 0),
            "well_calls": seen.calls.get("well", 0),
            "first_attempt_ms": seen.first_ms,
            "calls": seen.calls,
            "cpu_seconds": round(meter.cpu, 1),
            "cpu_by": meter.cpu_by,
            "foreign_cores": meter.foreign_cores,
        }

    async def most(self, deliveries: int) -> dict[str, Any]:
        """As many as can be, to receivers that are well."""
        for number in range(WELL):
            await self.subscribe(self._owners[0], f"/well/{number}")
        await self._receivers.ask("reset")
        runs = max(1, deliveries // (self.events * WELL))
        wanted = runs * self.events * WELL
        with Meter(self._processes, self._folder) as meter:
            await self._start(runs, 1_000.0, self._owners[:1])
            seen = await self._until(wanted)
        await self.unsubscribe_all()
        return {
            "workload": "webhooks-most",
            "deliveries": wanted,
            "receivers": WELL,
            "missing": wanted - seen.messages.get("well", 0),
            "deliveries_per_s": round(seen.calls.get("well", 0) / seen.span, 1),
            "span_s": round(seen.span, 2),
            "cpu_seconds": round(meter.cpu, 1),
            "cpu_by": meter.cpu_by,
            "foreign_cores": meter.foreign_cores,
        }

    async def _start(self, runs: int, per_second: float, owners: Sequence[Owner]) -> float:
        """Start runs of the owners in turn, at that rate; seconds it took."""
        began = time.monotonic()
        open_calls = asyncio.Semaphore(32)
        tasks = []

        async def one(owner: Owner) -> None:
            try:
                await owner.rest.post("/api/v1/workflows", {"template_id": owner.template})
            finally:
                open_calls.release()

        for number in range(runs):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            await open_calls.acquire()
            tasks.append(asyncio.create_task(one(owners[number % len(owners)])))
        await asyncio.gather(*tasks)
        return time.monotonic() - began

    async def _until(self, messages: int) -> Seen:
        """What the receivers saw, once those that are well saw so many messages, or no more come."""
        last, changed = -1, time.monotonic()
        while True:
            seen = await self._receivers.ask()
            there = seen.messages.get("well", 0)
            if there != last:
                last, changed = there, time.monotonic()
            if there >= messages or time.monotonic() - changed > PATIENCE:
                return seen
            await asyncio.sleep(0.5)


async def _bench(options: argparse.Namespace) -> None:
    shutil.rmtree(options.folder, ignore_errors=True)
    settings = StackSettings(
        folder=options.folder,
        approvals=options.approvals,
        log_level="warning",
        restarts=False,
        environment={"WFE_EGRESS_ALLOW": "127.0.0.1", "WFE_WEBHOOK_HTTP": "true"},
    )
    async with Stack(settings) as stack, AsyncExitStack() as closing:
        owners = [await _owner(stack, closing, number) for number in range(RECEIVERS)]
        receivers = await Receivers.start()
        try:
            bench = Bench(stack, receivers, owners)
            await bench.prepare()
            if options.only != "most":
                print(dump(await bench.paced(options.deliveries, options.rate)), flush=True)
            if options.only != "paced":
                print(dump(await bench.most(options.most)), flush=True)
        finally:
            await receivers.stop()


async def _owner(stack: Stack, closing: AsyncExitStack, number: int) -> Owner:
    """A fresh owner, with its template published."""
    path = stack.settings.folder / f"owner-{number}.json"
    keys = await seed(stack.database_url, path, owner=f"owner-{number}", people=(ADMINISTRATOR,))
    rest = await closing.enter_async_context(Rest(stack.url, keys[ADMINISTRATOR.name]))
    template = await rest.post("/api/v1/templates", {"source": TEMPLATE})
    await rest.post(f"/api/v1/templates/{template['id']}/publish")
    return Owner(rest, template["id"])


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="make bench-webhooks ARGS=…", description=__doc__.partition("\n")[0])
    parser.add_argument("--deliveries", type=int, default=100_000, help="of the first workload (100,000)")
    parser.add_argument("--rate", type=float, default=200.0, help="its events a second (200)")
    parser.add_argument("--most", type=int, default=30_000, help="deliveries of the second workload (30,000)")
    parser.add_argument("--only", choices=("paced", "most"))
    parser.add_argument("--approvals", type=int, default=1, help="approvals services (1)")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-webhooks"), help="data folder; emptied")
    asyncio.run(_bench(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
