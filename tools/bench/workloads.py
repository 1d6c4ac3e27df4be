"""The workloads, and one line of JSON for each.

| name | what |
|---|---|
| W1 | a run of one step, one run after another |
| W2 | a chain of ten steps, one run after another |
| W3 | 500 chains of ten steps, 100 in flight |
| W3x2000 | the same with 2000 |
| W4 | 20 fans of a hundred steps and their join, 4 in flight |
| W5 | 2000 starts, 64 in flight, each durably accepted; then all waited for |
| W5-grpc | the same over gRPC, straight at a scheduler |
| W6 | an executor killed with 200 runs in flight, see `tools.bench.recovery` |
| W7 | 2000 runs parked at a signal, then all signalled, 64 at once |
| W8 | 5 foreaches of a thousand steps, a hundred at once, one run after another; to be at least 80 % of W3's steps/s |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from tools.bench.client import Measured, Order
from tools.bench.meter import Meter, Processes, quiet

PEER = "wfe"

#: Seconds parked runs stand before their memory is taken.
SETTLE_SECONDS = 5.0
#: Of W3's steps/s that a foreach of a thousand is to reach.
LEAST_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload.

    Attributes:
        name: As the peers' lines have it.
        template: Name of the sample it runs.
        steps: Steps of one run.
        count: How many runs.
        at_once: How many at the same time.
        do: run; start: all starts first; park: start, let them park, then signal them.
        over: rest or grpc.
        once: Measured once, however many repetitions there are.
    """

    name: str
    template: str
    steps: int
    count: int
    at_once: int
    do: Literal["run", "start", "park"] = "run"
    over: Literal["rest", "grpc"] = "rest"
    once: bool = False


WORKLOADS = (
    Workload("W1", "one", 1, 200, 1),
    Workload("W2", "chain-10", 10, 100, 1),
    Workload("W3", "chain-10", 10, 500, 100),
    Workload("W3x2000", "chain-10", 10, 2000, 100, once=True),
    Workload("W4", "fan-100", 100, 20, 4),
    Workload("W5", "one", 1, 2000, 64, do="start"),
    Workload("W5-grpc", "one", 1, 2000, 64, do="start", over="grpc"),
    Workload("W7", "parked", 2, 2000, 64, do="park", once=True),
    Workload("W8", "foreach-1000", 1000, 5, 1),
)


class Bench:
    """Carries out workloads with a client process.

    Args:
        client: Its process.
        processes: What is measured.
        folder: Data folder, for the disk below it.
        templates: Ids by name.
        parked: Says how many runs wait for a signal.
        peer: Name of what is measured.
        wait_quiet: Whether to wait for an idle machine before each.
    """

    def __init__(
        self,
        client: asyncio.subprocess.Process,
        processes: Processes,
        folder: Path,
        templates: dict[str, str],
        parked: Callable[[], Awaitable[int]],
        *,
        peer: str = PEER,
        wait_quiet: bool,
    ) -> None:
        self._client = client
        self._processes = processes
        self._folder = folder
        self._templates = templates
        self._parked = parked
        self._peer = peer
        self._wait_quiet = wait_quiet

    async def warm_up(self) -> None:
        """Make everything that is made once: connections, plans, caches."""
        await self._order(Order(do="run", template_id=self._templates["chain-10"], count=20, at_once=1))
        await self._order(Order(do="run", template_id=self._templates["chain-10"], count=100, at_once=50))
        await self._order(Order(do="start", template_id=self._templates["one"], count=100, at_once=50))

    async def measure(self, workload: Workload, rep: int) -> dict[str, Any]:
        """Carry a workload out, and return its line."""
        if self._wait_quiet:
            await quiet(self._processes)
        more: dict[str, Any] = {}
        if workload.do == "park":
            more = await self._park(workload)
        order = Order(
            do="signal" if workload.do == "park" else workload.do,
            template_id=self._templates[workload.template],
            count=workload.count,
            at_once=workload.at_once,
            over=workload.over,
        )
        with self.meter() as meter:
            measured = await self._order(order)
        return line(self._peer, workload, rep, meter, measured) | more

    def meter(self) -> Meter:
        """Measures while its block runs."""
        return Meter(self._processes, self._folder)

    async def park(self, workload: Workload) -> Measured:
        """Start the runs of a workload and leave them."""
        template = self._templates[workload.template]
        return await self._order(Order(do="park", template_id=template, count=workload.count, at_once=workload.at_once))

    async def wait(self, workload: Workload) -> Measured:
        """Wait for the ends of the runs that were left."""
        template = self._templates[workload.template]
        return await self._order(Order(do="wait", template_id=template, count=0, at_once=workload.count))

    async def _park(self, workload: Workload) -> dict[str, Any]:
        """Start runs, wait until all of them wait, and tell what that took."""
        before = self._processes.pss_mb()
        with self.meter() as meter:
            await self.park(workload)
            while await self._parked() < workload.count:  # noqa: ASYNC110 - the store tells no one
                await asyncio.sleep(0.1)
        await asyncio.sleep(SETTLE_SECONDS)
        used = sum(self._processes.cpu().values())
        await asyncio.sleep(2.0)
        after = self._processes.pss_mb()
        grown = sum(after[role] - before[role] for role in after if role not in ("client", "harness", "postgres"))
        return {
            "parked": await self._parked(),
            "park_s": round(meter.wall, 2),
            "park_cpu_s": round(meter.cpu, 2),
            "idle_cpu_frac": round((sum(self._processes.cpu().values()) - used) / 2.0, 3),
            "parked_pss_mb": after,
            "service_kb_per_parked_run": round(grown * 1024 / workload.count, 2),
        }

    async def _order(self, order: Order) -> Measured:
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(msgspec.json.encode(order) + b"\n")
        await self._client.stdin.drain()
        answer = await self._client.stdout.readline()
        if not answer:
            raise RuntimeError("the client ended; what it said is above")
        return msgspec.json.decode(answer, type=Measured)


def line(peer: str, workload: Workload, rep: int, meter: Meter, measured: Measured) -> dict[str, Any]:
    """The line of one measurement: the peers' fields, and ours after them."""
    steps = workload.count * workload.steps
    wall = measured.wall
    found: dict[str, Any] = {
        "peer": peer,
        "workload": workload.name,
        "n": workload.count,
        "concurrency": workload.at_once,
        "rep": rep,
        "wall_s": round(wall, 3),
        "runs_per_s": round(workload.count / wall, 2),
        "steps_per_s": round(steps / wall, 1),
        "p50_ms": milliseconds(measured.latencies, 0.5),
        "p99_ms": milliseconds(measured.latencies, 0.99),
        "cpu_seconds": round(meter.cpu, 2),
        "cpu_by": meter.cpu_by,
        "peak_rss_mb": round(meter.peak_mb, 1),
        "peak_rss_by": meter.peak_by,
        "disk_flushes": meter.flushes,
        "foreign_cores": meter.foreign_cores,
        "steal_cores": meter.steal_cores,
        "cpu_ms_per_step": round(meter.cpu / steps * 1000, 3),
        "client_cores": round(measured.cpu / wall, 3),
    }
    if workload.do == "start":
        found["starts_per_s"] = round(workload.count / measured.start_wall, 1)
        found["start_wall_s"] = round(measured.start_wall, 3)
        found["all_complete_s"] = round(wall, 3)
    return found


def milliseconds(latencies: Sequence[float], part: float) -> float:
    """A quantile, in milliseconds."""
    ordered = sorted(latencies)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 2)


def markdown(lines: Sequence[dict[str, Any]]) -> str:
    """The lines as a table, for the documentation."""
    columns = "workload,n (in flight),rep,runs/s,steps/s,starts/s,p50 ms,p99 ms,CPU ms/step,cores of the client"
    rows = [f"| {columns.replace(',', ' | ')} |", "|---" * 10 + "|"]
    rows += [
        f"| {each['workload']} | {each['n']} ({each['concurrency']}) | {each['rep']} | {each['runs_per_s']} "
        f"| {each['steps_per_s']} | {each.get('starts_per_s', '')} | {each['p50_ms']} | {each['p99_ms']} "
        f"| {each['cpu_ms_per_step']} | {each['client_cores']} |"
        for each in lines
    ]
    return "\n".join(rows) + "\n"


def share(lines: Sequence[dict[str, Any]]) -> str:
    """What W8 reaches of W3's steps/s, of the medians; empty when one of them was not measured."""
    speeds = {name: sorted(each["steps_per_s"] for each in lines if each["workload"] == name) for name in ("W3", "W8")}
    if not all(speeds.values()):
        return ""
    chain, fan = (found[len(found) // 2] for found in speeds.values())
    verdict = "as it should be" if fan >= LEAST_SHARE * chain else f"BELOW {LEAST_SHARE:.0%}"
    return f"W8 reaches {fan / chain:.0%} of W3's steps/s: {verdict}\n"


def dump(value: dict[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(value)
