"""Gates by the thousand: `python -m tools.bench.gates`. Prints a line of JSON for each of

| name | what |
|---|---|
| G1 | gates decided one after another: from a decision to the next step running |
| G2 | 10,000 open gates, approved over REST with 32 in flight |
| G3 | 10,000 races of an approver, a rejecter and the deadline; whatever is not told the same everywhere is wrong |
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import uvloop
from psycopg import AsyncConnection
from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings, sample_folder
from wfe_stack.stack import Stack

from tools.bench.client import bounded
from tools.bench.http1 import Http, HttpFault
from tools.bench.meter import Meter, Processes
from tools.bench.workloads import milliseconds

STEP = "  - {id: next, call: {handler: echo, input: {n: 1}}}\n"
PLAIN = "name: gate-plain\nsteps:\n  - {id: gate, approval: {title: Go?, approvers: {roles: [approver]}}}\n" + STEP
RACE = (
    "name: gate-race\nvariables: {after: {type: string}}\nsteps:\n"
    "  - {id: gate, approval: {title: Go?, approvers: {roles: [approver, admin]}, expires: {after: 1h, then: fail}}}\n"
    + STEP
)
#: Seconds after the deciders' beginning that the deadline falls into: about as long as their calls take.
SPREAD = 0.15
_numbers = itertools.count(1)


async def main(options: argparse.Namespace) -> None:
    """Measure on an engine of its own."""
    shutil.rmtree(options.folder, ignore_errors=True)
    settings = StackSettings(
        folder=options.folder,
        samples=sample_folder(),
        log_level="warning",
        restarts=False,
        environment={"WFE_EXPIRY_SECONDS": "0.06"},
    )
    async with Stack(settings) as stack:
        host, _, port = stack.url.removeprefix("http://").rpartition(":")
        clients = {name: Http(host, int(port), stack.keys[name]) for name in ("sam", "ada", "root")}
        bench = Gates(stack, clients, await AsyncConnection.connect(stack.database_url, autocommit=True))
        for name, count in (("G1", options.one), ("G2", options.count), ("G3", options.races)):
            if count:
                print(json.dumps({"workload": name, **await getattr(bench, name.lower())(count)}), flush=True)


class Gates:
    """The workloads, over an engine."""

    def __init__(self, stack: Stack, clients: dict[str, Http], connection: AsyncConnection[Any]) -> None:
        self._stack = stack
        self._http = clients
        self._db = connection
        self._folder = stack.settings.folder
        self._templates: dict[str, str] = {}

    async def g1(self, count: int) -> dict[str, Any]:
        """One after another, each seen through."""
        gates = await self._open(PLAIN, count)
        calls = []
        for run, gate in gates:
            began = time.perf_counter()
            await self._decide("ada", run, gate, "approve")
            calls.append(time.perf_counter() - began)
            await asyncio.sleep(0.02)
        await self._ended([run for run, _ in gates])
        return {"n": count, "call_p50_ms": milliseconds(calls, 0.5), **await self._to_next_step(gates)}

    async def g2(self, count: int) -> dict[str, Any]:
        """All of them open, and then decided as fast as it goes."""
        gates = await self._open(PLAIN, count)
        began = time.perf_counter()

        async def one(number: int) -> None:
            await self._decide("ada", *gates[number], "approve")

        with Meter(Processes({**self._stack.pids, "client": os.getpid()}), self._folder) as meter:
            calls = await bounded(count, 32, one)
            wall = time.perf_counter() - began
            await self._ended([run for run, _ in gates])
        return {
            "n": count,
            "decisions_per_s": round(count / wall, 1),
            "wall_s": round(wall, 2),
            "all_ended_s": round(time.perf_counter() - began, 2),
            "call_p50_ms": milliseconds(calls, 0.5),
            "call_p99_ms": milliseconds(calls, 0.99),
            "cpu_ms_per_decision": round(meter.cpu / count * 1000, 2),
            "cpu_by": meter.cpu_by,
            "foreign_cores": meter.foreign_cores,
            **await self._to_next_step(gates),
        }

    async def g3(self, count: int) -> dict[str, Any]:
        """Two deciders and the timer at the same gate, at the same moment."""
        gates = await self._open(RACE, count)
        answers: dict[UUID, list[str]] = {}

        async def race(number: int) -> None:
            run, gate = gates[number]
            late = number % 25 / 25 * SPREAD
            await self._db.execute(
                "UPDATE gates SET expires_at = clock_timestamp() + make_interval(secs => %s) WHERE id = %s",
                (late, gate),
            )
            said = await asyncio.gather(self._try("ada", run, gate, "approve"), self._try("root", run, gate, "reject"))
            answers[gate] = [word for word in said if word]

        began = time.perf_counter()
        await bounded(count, 16, race)
        wall = time.perf_counter() - began
        await self._ended([run for run, _ in gates])
        wrong, won = await self._wrong(gates, answers)
        return {"n": count, "wall_s": round(wall, 2), "won": dict(won), "wrong_winners": wrong}

    async def _wrong(self, gates: list[tuple[UUID, UUID]], answers: dict[UUID, list[str]]) -> tuple[int, Counter[str]]:
        """Gates whose row, log, run and answers do not all tell of the same winner."""
        rows = await self._db.execute(
            "SELECT g.id, g.status, r.status, (SELECT array_agg(e.type ORDER BY e.seq) FROM events e"
            " WHERE e.run_id = g.run_id AND e.type IN ('approval.approved', 'approval.rejected', 'approval.expired'))"
            " FROM gates g JOIN runs r ON r.id = g.run_id WHERE g.id = ANY(%s)",
            ([gate for _, gate in gates],),
        )
        wrong, won = 0, Counter[str]()
        for gate, status, run, events in await rows.fetchall():
            won[status] += 1
            heard = {"approved": ["approved"], "rejected": ["rejected"], "expired": []}.get(status)
            ends = {"approved": "completed", "rejected": "failed", "expired": "failed"}.get(status)
            wrong += not (answers[gate] == heard and run == ends and events == [f"approval.{status}"])
        return wrong + len(gates) - sum(won.values()), won

    async def _try(self, who: str, run: UUID, gate: UUID, decision: str) -> str:
        try:
            return str(json.loads(await self._decide(who, run, gate, decision))["status"])
        except HttpFault as refused:
            if "GATE_CLOSED" not in str(refused):
                raise
            return ""

    async def _decide(self, who: str, run: UUID, gate: UUID, decision: str) -> bytes:
        path = f"/api/v1/workflows/{run}/approvals/{gate}/{decision}"
        return await self._http[who].post(path, b"{}", f"gates-{next(_numbers)}")

    async def _open(self, source: str, count: int) -> list[tuple[UUID, UUID]]:
        """Runs that wait at their gate: (run, gate)."""
        if source not in self._templates:
            async with Rest(self._stack.url, self._stack.keys["sam"]) as rest:
                made = await rest.post("/api/v1/templates", {"source": source})
                await rest.post(f"/api/v1/templates/{made['id']}/publish")
            self._templates[source] = made["id"]
        given = {"after": "1h"} if "variables" in source else {}
        body = msgspec.json.encode({"template_id": self._templates[source], "input": given})
        runs: list[UUID] = []

        async def start(_number: int) -> None:
            runs.append(UUID(json.loads(await self._http["sam"].post("/api/v1/workflows", body, str(uuid4())))["id"]))

        await bounded(count, 64, start)
        rows = await self._db.execute(
            "SELECT run_id, id FROM gates WHERE run_id = ANY(%s) AND status = 'open'", (runs,)
        )
        found = [(row[0], row[1]) for row in await rows.fetchall()]
        assert len(found) == count, f"{len(found)} of {count} gates are open"
        return found

    async def _ended(self, runs: list[UUID]) -> None:
        async with asyncio.timeout(300):
            while True:
                rows = await self._db.execute(
                    "SELECT count(*) FROM runs WHERE id = ANY(%s) AND ended_at IS NULL", (runs,)
                )
                if (await rows.fetchone() or (1,))[0] == 0:
                    return
                await asyncio.sleep(0.1)

    async def _to_next_step(self, gates: list[tuple[UUID, UUID]]) -> dict[str, Any]:
        """From a decision's moment to that of the next step's beginning in the executor."""
        rows = await self._db.execute(
            "SELECT extract(epoch FROM s.started_at - g.decided_at)::float8 FROM gates g"
            " JOIN steps s ON s.run_id = g.run_id AND s.path = 'next' WHERE g.id = ANY(%s)",
            ([gate for _, gate in gates],),
        )
        spans = [row[0] for row in await rows.fetchall()]
        return {"to_next_step_p50_ms": milliseconds(spans, 0.5), "to_next_step_p99_ms": milliseconds(spans, 0.99)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-gates"))
    parser.add_argument("--one", type=int, default=200)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--races", type=int, default=10_000)
    sys.exit(uvloop.run(main(parser.parse_args())))
