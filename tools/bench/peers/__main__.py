"""`make bench-peers`: this engine and its peers in turn, on this machine, and the ratios between them."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from wfe_stack.settings import StackSettings, sample_folder
from wfe_stack.stack import Stack

from tools.bench.engine import bench_on
from tools.bench.peers.install import install
from tools.bench.peers.ratios import ratios
from tools.bench.peers.running import PEERS
from tools.bench.workloads import PEER, WORKLOADS, Bench, Workload, dump


@asynccontextmanager
async def engine(*, wait_quiet: bool) -> AsyncIterator[Bench]:
    """This engine, fresh."""
    folder = Path("build/peers/wfe")
    shutil.rmtree(folder, ignore_errors=True)
    settings = StackSettings(folder=folder, samples=sample_folder(), log_level="warning", restarts=False)
    async with Stack(settings) as stack, bench_on(stack, wait_quiet=wait_quiet) as bench:
        yield bench


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="make bench-peers ARGS=…", description=__doc__)
    parser.add_argument("--only", help="workloads with commas")
    parser.add_argument("--peers", default="restate", help=f"with commas: {', '.join(PEERS)} (restate)")
    parser.add_argument("--reps", type=int, default=3, help="sittings of each, in turn (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="part of each workload's runs, e.g. 0.1")
    parser.add_argument("--no-quiet", action="store_true", help="do not wait for an idle machine")
    parser.add_argument("--out", type=Path, default=Path("build/peers/results.jsonl"), help="file for the lines")
    options = parser.parse_args()
    install()
    names = options.only.split(",") if options.only else [workload.name for workload in WORKLOADS]
    workloads = [
        replace(workload, count=max(workload.at_once, round(workload.count * options.scale)))
        for workload in WORKLOADS
        if workload.name in names
    ]
    lines = asyncio.run(_sit(workloads, options))
    options.out.write_text("".join(dump(line) + "\n" for line in lines))
    sys.stdout.write(ratios(lines))
    return 0


async def _sit(workloads: list[Workload], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every engine in its turn, as often as there are repetitions: peers drift, and a machine does."""
    lines: list[dict[str, Any]] = []
    quiet = not options.no_quiet
    for rep in range(1, options.reps + 1):
        for name in (PEER, *options.peers.split(",")):
            running: AbstractAsyncContextManager[Bench] = (
                engine(wait_quiet=quiet) if name == PEER else PEERS[name](wait_quiet=quiet)
            )
            async with running as bench:
                await bench.warm_up()
                for workload in workloads:
                    if workload.over == "grpc" and name != PEER:
                        continue
                    if workload.once and rep > 1:
                        continue
                    lines.append(await bench.measure(workload, rep))
                    print(dump(lines[-1]), flush=True)
    return lines


if __name__ == "__main__":
    sys.exit(main())
