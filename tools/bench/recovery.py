"""W6: an executor is killed while it runs 200 steps; how long until every run is completed, and what got lost.

The engine has two executors and a lease of half a second and a bit, so a kill costs what a lease costs and not what
starting a process costs. A step of two seconds is in flight in every run at the kill; it has to be run again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import psycopg
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack

from tools.bench.engine import bench_on
from tools.bench.workloads import Workload

LEASE_SECONDS = 0.6
W6 = Workload("W6", "slow", 3, 200, 64, do="park")

_STATE = """
SELECT count(*) FILTER (WHERE path = 'first' AND status = 'completed'),
    (SELECT count(*) FROM dispatch WHERE path = 'second' AND executor_id IS NOT NULL),
    count(*) FILTER (WHERE path = 'second' AND status = 'completed')
FROM steps
"""
_TWICE = """
SELECT count(*) FROM (
    SELECT 1 FROM events WHERE type = 'step.completed' GROUP BY run_id, data::json ->> 'no' HAVING count(*) > 1) e
"""
_DONE = "SELECT count(*) FROM runs WHERE status = 'completed'"


async def recover(settings: StackSettings) -> dict[str, Any]:
    """Start an engine of its own, kill an executor of it, and return the line of what came of that."""
    settings = replace(
        settings,
        executors=2,
        environment={"WFE_LEASE_SECONDS": str(LEASE_SECONDS), "WFE_SWEEP_SECONDS": "0.1"},
        executor_environment={"WFE_HEARTBEAT_SECONDS": "0.15"},
    )
    async with Stack(settings) as stack, bench_on(stack, wait_quiet=False) as bench:
        await bench.warm_up()
        async with await psycopg.AsyncConnection.connect(stack.database_url, autocommit=True) as store:

            async def row(statement: str) -> tuple[Any, ...]:
                found = await (await store.execute(statement)).fetchone()
                assert found is not None
                return found

            done = (await row(_DONE))[0]
            with bench.meter() as meter:
                await bench.park(W6)
                while (await row(_STATE))[1] < W6.count:  # noqa: ASYNC110 - the store tells no one
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.3)
                at_kill = await row(_STATE)
                began = time.perf_counter()
                await stack.kill(next(name for name in stack.pids if name.startswith("executor")))
                measured = await bench.wait(W6)
                wall = time.perf_counter() - began
            return {
                "peer": "wfe",
                "workload": W6.name,
                "n": W6.count,
                "concurrency": W6.count,
                "rep": 1,
                "wall_s": round(wall, 3),
                "runs_per_s": round(W6.count / wall, 2),
                "steps_per_s": round(W6.count * W6.steps / wall, 1),
                "p50_ms": None,
                "p99_ms": None,
                "cpu_seconds": round(meter.cpu, 2),
                "cpu_by": meter.cpu_by,
                "peak_rss_mb": round(meter.peak_mb, 1),
                "disk_flushes": meter.flushes,
                "foreign_cores": meter.foreign_cores,
                "steal_cores": meter.steal_cores,
                "cpu_ms_per_step": round(meter.cpu / (W6.count * W6.steps) * 1000, 3),
                "client_cores": round(measured.cpu / wall, 3),
                "kill_to_all_done_s": round(wall, 2),
                "lease_s": LEASE_SECONDS,
                "lost": W6.count - ((await row(_DONE))[0] - done),
                "steps_completed_twice": (await row(_TWICE))[0],
                "state_at_kill": dict(zip(("step0_done", "step1_started", "step1_done"), at_kill, strict=True)),
            }
