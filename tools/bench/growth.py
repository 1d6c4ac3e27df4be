"""`make bench-growth`: whether the engine is as fast with a million runs in its store as with none.

Measures chains of ten steps with an empty store, then among finished runs, then among parked ones as well, and prints
a line of JSON for each, with what a page of the run list and one run cost there.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from wfe_stack.faults import StackFault
from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings, sample_folder
from wfe_stack.stack import Stack

from tools.bench.copies import Store, copy_run
from tools.bench.engine import bench_on
from tools.bench.workloads import WORKLOADS, Bench, dump, milliseconds

_W3 = next(workload for workload in WORKLOADS if workload.name == "W3")
_PARKED = next(workload for workload in WORKLOADS if workload.name == "W7")
_READS = 200


def main() -> int:
    """Run the command line; the exit status is 1 when the engine or a run failed."""
    parser = argparse.ArgumentParser(prog="make bench-growth ARGS=…", description=__doc__)
    parser.add_argument("--finished", type=int, default=1_000_000, help="finished runs in the end (1000000)")
    parser.add_argument("--parked", type=int, default=1_000_000, help="parked runs in the end (1000000)")
    parser.add_argument("--reps", type=int, default=3, help="repetitions at each size (3)")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="data folder; emptied")
    options = parser.parse_args()
    try:
        asyncio.run(_grow(options))
    except (StackFault, RuntimeError) as fault:
        sys.stderr.write(f"bench: {fault}\n")
        return 1
    return 0


async def _grow(options: argparse.Namespace) -> None:
    shutil.rmtree(options.folder, ignore_errors=True)
    settings = StackSettings(folder=options.folder, samples=sample_folder(), log_level="warning", restarts=False)
    async with (
        Stack(settings) as stack,
        bench_on(stack, wait_quiet=False) as bench,
        Rest(stack.url, stack.keys["sam"]) as rest,
        await psycopg.AsyncConnection.connect(stack.database_url, autocommit=True) as store,
    ):
        await bench.warm_up()
        finished = await _newest(store, "one")
        first = await _measure(bench, rest, store, options.reps, finished)
        print(dump(first), flush=True)
        await bench.park(replace(_PARKED, count=1, at_once=1))
        while not await _parked(store):  # noqa: ASYNC110 - the store tells no one
            await asyncio.sleep(0.1)
        parked = await _newest(store, "parked")
        for run, count in ((finished, options.finished), (parked, options.parked)):
            began = time.perf_counter()
            await copy_run(store, run, count)
            made = time.perf_counter() - began
            found = await _measure(bench, rest, store, options.reps, run)
            found |= {
                "copying_s": round(made, 1),
                "ratio_to_empty": round(found["steps_per_s"] / first["steps_per_s"], 3),
            }
            print(dump(found), flush=True)


async def _newest(store: Store, template: str) -> UUID:
    found = await store.execute("SELECT id FROM runs WHERE template_name = %s ORDER BY id DESC LIMIT 1", (template,))
    row = await found.fetchone()
    assert row is not None
    return UUID(str(row[0]))


async def _parked(store: Store) -> bool:
    found = await store.execute("SELECT 1 FROM steps WHERE status = 'waiting' AND path = 'gate' LIMIT 1")
    return await found.fetchone() is not None


async def _measure(bench: Bench, rest: Rest, store: Store, reps: int, run: UUID) -> dict[str, Any]:
    lines = [await bench.measure(_W3, rep) for rep in range(1, reps + 1)]
    row = await (
        await store.execute(
            "SELECT count(*) FILTER (WHERE ended_at IS NOT NULL), count(*) FILTER (WHERE ended_at IS NULL),"
            " pg_database_size(current_database()) FROM runs"
        )
    ).fetchone()
    assert row is not None
    return {
        "workload": _W3.name,
        "finished_runs": row[0],
        "open_runs": row[1],
        "database_mb": round(row[2] / 2**20),
        "steps_per_s": statistics.median(line["steps_per_s"] for line in lines),
        "of_repetitions": [line["steps_per_s"] for line in lines],
        "p50_ms": statistics.median(line["p50_ms"] for line in lines),
        "cpu_ms_per_step": statistics.median(line["cpu_ms_per_step"] for line in lines),
        "foreign_cores": statistics.median(line["foreign_cores"] for line in lines),
        "reads": {
            "list": await _reads(rest, "/api/v1/workflows", limit=50),
            "list_running": await _reads(rest, "/api/v1/workflows", limit=50, status="running"),
            "get": await _reads(rest, f"/api/v1/workflows/{run}"),
            "events": await _reads(rest, f"/api/v1/workflows/{run}/events"),
        },
    }


async def _reads(rest: Rest, path: str, **query: Any) -> dict[str, float]:
    latencies = []
    for _ in range(_READS):
        began = time.perf_counter()
        await rest.get(path, **query)
        latencies.append(time.perf_counter() - began)
    return {"p50_ms": milliseconds(latencies, 0.5), "p99_ms": milliseconds(latencies, 0.99)}


if __name__ == "__main__":
    sys.exit(main())
