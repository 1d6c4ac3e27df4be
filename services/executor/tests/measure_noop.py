"""CPU of the executor for one async step that does nothing: starts nats-server, an executor and a fake scheduler.

Usage: python services/executor/tests/measure_noop.py [steps] [in flight] [seconds of a cycle; 0 answers at once]
The fake scheduler answers a report with as many new leases as it had outcomes, in cycles of a few milliseconds as
group commit would. Prints µs of CPU per step, steps per second and outcomes per report.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import uvloop
from executor_fakes import Nats
from wfe_bus import messages, subjects
from wfe_bus.connection import connect, settle
from wfe_bus.messages import Claim, Heartbeat, HeartbeatAnswer, Lease, Leases, Report, Reported


class Load:
    """Hands out leases in answer to reports, until there were enough."""

    def __init__(self, steps: int, flight: int, cycle: float) -> None:
        self.steps, self.flight, self.cycle = steps, flight, cycle
        self.sent = self.done = self.reports = 0
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.finished = asyncio.Event()
        self._numbers = itertools.count(1)
        self._waiting: list[tuple[Any, int]] = []
        self._request = msgspec.json.encode({"handler": "echo", "input": {"text": "hello", "n": 1}})

    def leases(self, count: int) -> Leases:
        count = min(count, self.steps - self.sent)
        self.sent += count
        made = tuple(
            Lease(
                run=next(self._numbers).to_bytes(16, "big"), no=1, fence=1, path="step", kind="call", attempt=1,
                request=self._request, max_attempts=3, idempotency_key="k" * 40, attempt_timeout=30.0, owner="o" * 36,
            )
            for _ in range(count)
        )  # fmt: skip
        return Leases(scheduler="s", leases=made, now=time.time())

    async def report(self, message: Any) -> None:
        outcomes = len(_report(message.data).outcomes)
        self.reports += 1
        self.done += outcomes
        self._waiting.append((message, outcomes))
        if not self.cycle:
            await self.answer()

    async def answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message, outcomes in waiting:
            await message.respond(messages.encode(Reported(leases=self.leases(outcomes))))
        if self.done >= self.steps:
            self.finished.set()

    async def cycles(self) -> None:
        while not self.finished.is_set():
            await asyncio.sleep(self.cycle)
            await self.answer()


_report = messages.decoder(Report).decode


async def main(steps: int, flight: int, cycle: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bus = Nats(Path(folder))
        bus.start()
        env = os.environ | {
            "WFE_NATS_URL": bus.url, "WFE_NATS_USER": "executor", "WFE_NATS_PASSWORD": "secret",
            "WFE_HANDLERS": "bench_handlers", "WFE_EXECUTOR_SLOTS": "256", "PYTHONPATH": folder,
        }  # fmt: skip
        (Path(folder) / "bench_handlers.py").write_text(
            "from wfe_sdk import handler\n@handler('echo')\nasync def echo(value): return value\n"
        )
        load = Load(steps, flight, cycle)
        client = await connect(bus.url, role="scheduler", name="s", user="scheduler", password="secret")

        async def beat(message: Any) -> None:
            heard = messages.decoder(Heartbeat).decode(message.data)
            if not load.ready.done():
                load.ready.set_result(heard.executor)
            await message.respond(messages.encode(HeartbeatAnswer(lost=(), lease_seconds=15, now=time.time())))

        async def claim(message: Any) -> None:
            messages.decoder(Claim).decode(message.data)

        await client.subscribe(subjects.HEARTBEAT, cb=beat)
        await client.subscribe(subjects.CLAIM, cb=claim)
        await client.subscribe(subjects.report_to("s"), cb=load.report)
        await settle(client)
        process = subprocess.Popen([sys.executable, "-m", "wfe_executor.main"], env=env, stdout=subprocess.DEVNULL)
        executor = await load.ready
        watched = psutil.Process(process.pid)
        await asyncio.sleep(0.2)
        before, began = watched.cpu_times(), time.perf_counter()
        cycles = asyncio.create_task(load.cycles()) if cycle else None
        await client.publish(subjects.leases_for(executor), messages.encode(load.leases(flight)))
        await load.finished.wait()
        spent, after = time.perf_counter() - began, watched.cpu_times()
        cpu = (after.user - before.user) + (after.system - before.system)
        sys.stdout.write(
            f"{cpu / steps * 1e6:.1f} µs CPU a step ({(after.system - before.system) / steps * 1e6:.1f} of it system), "
            f"{steps / spent:.0f} steps/s, {load.done / load.reports:.1f} outcomes a report\n"
        )
        if cycles is not None:
            await cycles
        process.terminate()
        process.wait()
        await client.close()
        bus.stop()


if __name__ == "__main__":
    arguments = sys.argv[1:] + ["100000", "100", "0.003"][len(sys.argv) - 1 :]
    uvloop.run(main(int(arguments[0]), int(arguments[1]), float(arguments[2])))
