"""`make bench`: start a fresh engine, run the workloads, print a line of JSON for each."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from wfe_stack.faults import StackFault
from wfe_stack.settings import StackSettings, sample_folder
from wfe_stack.stack import Stack

from tools.bench.engine import bench_on
from tools.bench.meter import Processes
from tools.bench.recovery import W6, recover
from tools.bench.workloads import PEER, WORKLOADS, Workload, dump, markdown, share

#: Seconds the engine stands idle before its memory is taken.
IDLE_SECONDS = 5.0


def main() -> int:
    """Run the command line; the exit status is 1 when the engine or a run failed."""
    names = ", ".join(workload.name for workload in (*WORKLOADS, W6))
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--only", help=f"workloads with commas: {names}")
    parser.add_argument("--reps", type=int, default=3, help="repetitions of each (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="part of each workload's runs, e.g. 0.1")
    parser.add_argument("--schedulers", type=int, default=1)
    parser.add_argument("--executors", type=int, default=1)
    parser.add_argument("--metrics", action="store_true", help="serve every process's metrics, and look at the store")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="data folder; emptied")
    parser.add_argument("--no-quiet", action="store_true", help="do not wait for an idle machine")
    parser.add_argument("--out", type=Path, help="file to append the lines to as well")
    options = parser.parse_args()
    known = {workload.name: workload for workload in (*WORKLOADS, W6)}
    wanted = options.only.split(",") if options.only else list(known)
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"there is no workload {', '.join(unknown)}; there are {names}")
    try:
        asyncio.run(_bench([known[name] for name in wanted], options))
    except (StackFault, RuntimeError) as fault:
        sys.stderr.write(f"bench: {fault}\n")
        return 1
    return 0


async def _bench(workloads: list[Workload], options: argparse.Namespace) -> None:
    shutil.rmtree(options.folder, ignore_errors=True)
    settings = StackSettings(
        folder=options.folder,
        schedulers=options.schedulers,
        executors=options.executors,
        metrics=options.metrics,
        samples=sample_folder(),
        log_level="warning",
        restarts=False,
    )
    lines: list[dict[str, Any]] = []

    def emit(found: dict[str, Any]) -> None:
        print(dump(found), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(dump(found) + "\n")

    ordinary = [workload for workload in workloads if workload is not W6]
    if ordinary:
        async with Stack(settings) as stack:
            emit(await _idle(stack))
            async with bench_on(stack, wait_quiet=not options.no_quiet) as bench:
                await bench.warm_up()
                for rep in range(1, options.reps + 1):
                    for workload in ordinary:
                        if workload.once and rep > 1:
                            continue
                        lines.append(await bench.measure(_scaled(workload, options.scale), rep))
                        emit(lines[-1])
    if W6 in workloads:
        shutil.rmtree(options.folder, ignore_errors=True)
        lines.append(await recover(settings))
        emit(lines[-1])
    sys.stderr.write("\n" + markdown(lines))
    sys.stderr.write(share(lines))


async def _idle(stack: Stack) -> dict[str, Any]:
    """Memory and processor time of the engine while nothing happens."""
    processes = Processes(stack.pids)
    used = sum(processes.cpu().values())
    await asyncio.sleep(IDLE_SECONDS)
    rss, pss = processes.rss_mb(), processes.pss_mb()
    return {
        "peer": PEER,
        "ready_s": round(stack.started_seconds, 2),
        "idle_cores": round((sum(processes.cpu().values()) - used) / IDLE_SECONDS, 3),
        "baseline_rss_mb": rss,
        "baseline_pss_mb": pss,
        "rss_mb": round(sum(rss.values()), 1),
        "pss_mb": round(sum(pss.values()), 1),
    }


def _scaled(workload: Workload, scale: float) -> Workload:
    return replace(workload, count=max(workload.at_once, round(workload.count * scale)))


if __name__ == "__main__":
    sys.exit(main())
