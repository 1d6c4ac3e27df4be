"""`make soak`: half an hour of full load; whether any process grows meanwhile, and what reads take.

Chains of ten steps, 100 in flight, without a pause. A second client reads all the while, as people and consoles do.
Prints a line of JSON for each sample and one for the whole; the exit status is 1 when a service grew.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import shutil
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from wfe_stack.faults import StackFault
from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings, sample_folder
from wfe_stack.stack import Stack

from tools.bench.engine import bench_on
from tools.bench.meter import Processes
from tools.bench.workloads import WORKLOADS, Bench, dump, milliseconds

_W3 = next(workload for workload in WORKLOADS if workload.name == "W3")
#: Seconds between two reads.
_READ_SECONDS = 0.1
#: What a service may grow from the first third to the last, in parts of what it had and in MiB: allocators round up.
_GROWTH, _GROWTH_MB = 0.05, 8.0
_SERVICES = ("scheduler", "approvals", "executor", "gateway", "nats")


def main() -> int:
    """Run the command line; the exit status is 1 when a service grew, or the engine or a run failed."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=…", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="length (30)")
    parser.add_argument("--samples", type=int, default=60, help="samples of memory (60)")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="data folder; emptied")
    options = parser.parse_args()
    try:
        return asyncio.run(_soak(options))
    except (StackFault, RuntimeError) as fault:
        sys.stderr.write(f"bench: {fault}\n")
        return 1


async def _soak(options: argparse.Namespace) -> int:
    shutil.rmtree(options.folder, ignore_errors=True)
    settings = StackSettings(folder=options.folder, samples=sample_folder(), log_level="warning", restarts=False)
    async with (
        Stack(settings) as stack,
        bench_on(stack, wait_quiet=False) as bench,
        Rest(stack.url, stack.keys["sam"]) as rest,
    ):
        await bench.warm_up()
        ends = time.monotonic() + options.minutes * 60
        loading = asyncio.create_task(_load(bench, ends))
        reads: dict[str, list[float]] = {}
        reading = asyncio.create_task(_read(rest, ends, reads))
        samples = await _sample(Processes(stack.pids), ends, options.minutes * 60 / options.samples)
        steps = await loading
        await reading
    grown = _grown(samples)
    report = {
        "minutes": options.minutes,
        "steps": sum(steps),
        "steps_per_s": round(sum(steps) / options.minutes / 60, 1),
        "grown_mb": grown,
        "reads": {
            name: {
                "n": len(latencies),
                "p50_ms": milliseconds(latencies, 0.5),
                "p99_ms": milliseconds(latencies, 0.99),
            }
            for name, latencies in reads.items()
        },
    }
    print(dump(report), flush=True)
    first = _third(samples, 0)
    too_much = {
        role: mb for role, mb in grown.items() if role in _SERVICES and mb > max(_GROWTH_MB, _GROWTH * first[role])
    }
    if too_much:
        sys.stderr.write(f"bench: memory grew: {too_much}\n")
    return 1 if too_much else 0


async def _load(bench: Bench, ends: float) -> list[int]:
    """Steps of each round."""
    some = replace(_W3, count=2_000)
    steps = []
    while time.monotonic() < ends:
        await bench.measure(some, 1)
        steps.append(some.count * some.steps)
    return steps


async def _read(rest: Rest, ends: float, reads: dict[str, list[float]]) -> None:
    """Go round the reads of the API until the end."""
    newest = (await rest.get("/api/v1/workflows", limit=1))["workflows"][0]["id"]
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("get", f"/api/v1/workflows/{newest}", {}),
        ("list", "/api/v1/workflows", {"limit": 20}),
        ("list_running", "/api/v1/workflows", {"limit": 20, "status": "running"}),
        ("events", f"/api/v1/workflows/{newest}/events", {}),
        ("approvals", "/api/v1/approvals", {"limit": 20}),
        ("templates", "/api/v1/templates", {"limit": 20}),
    )
    for name, path, query in itertools.cycle(calls):
        if time.monotonic() >= ends:
            return
        began = time.perf_counter()
        await rest.get(path, **query)
        reads.setdefault(name, []).append(time.perf_counter() - began)
        await asyncio.sleep(_READ_SECONDS)


async def _sample(processes: Processes, ends: float, every: float) -> list[dict[str, float]]:
    samples = []
    while (left := ends - time.monotonic()) > 0:
        await asyncio.sleep(min(every, left))
        samples.append(processes.pss_mb())
        print(dump({"pss_mb": samples[-1]}), flush=True)
    return samples


def _third(samples: list[dict[str, float]], which: int) -> dict[str, float]:
    length = max(1, len(samples) // 3)
    part = samples[:length] if which == 0 else samples[-length:]
    return {role: round(statistics.median(sample[role] for sample in part), 1) for role in samples[0]}


def _grown(samples: list[dict[str, float]]) -> dict[str, float]:
    """MiB from the median of the first third to that of the last, by role."""
    first, last = _third(samples, 0), _third(samples, 2)
    return {role: round(last[role] - first[role], 1) for role in first}


if __name__ == "__main__":
    sys.exit(main())
