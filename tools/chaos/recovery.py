"""How long it takes until work goes on after a fault that nothing else disturbs; all in seconds."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import psycopg

from tools.chaos.bed import Bed
from tools.chaos.load import Load

#: After so long something has not come back at all.
_MOST = 60.0
_LOOK = 0.05

Held = dict[tuple[Any, int], tuple[int, str]]


class Recovery:
    """Measures.

    Attributes:
        executor: From the kill of an executor until each step it held was leased to another, or had ended.
        bus: From NATS accepting again until the witness saw a step it had not seen before.
        store: From Postgres accepting again until a client was told that its start is durable.
    """

    def __init__(self, bed: Bed, load: Load) -> None:
        self._bed = bed
        self._load = load
        self.executor: list[float] = []
        self.bus: list[float] = []
        self.store: list[float] = []

    async def held(self, pid: int) -> Held:
        """Fences of what the executor of a process holds."""
        return await self._leases("e.name LIKE %s", f"%/{pid}")

    async def executor_killed(self, held: Held, lease_seconds: float) -> None:
        """Measure until everything an executor held when it was killed has been taken over."""
        began = time.monotonic()
        left = dict(held)
        async with await self._bed.connect() as store:
            while left and time.monotonic() - began < lease_seconds + _MOST:
                cursor = await store.execute("SELECT run_id, no, fence, coalesce(executor_id, '') FROM dispatch")
                now = {
                    (run, int(str(no))): (int(str(fence)), str(executor))
                    for run, no, fence, executor in await cursor.fetchall()
                }
                for step, (fence, executor) in list(left.items()):
                    found = now.get(step)
                    if found is None or (found[0] > fence and found[1] not in ("", executor)):
                        del left[step]
                        self.executor.append(time.monotonic() - began)
                await asyncio.sleep(_LOOK)
        self.executor += [time.monotonic() - began] * len(left)

    async def bus_back(self) -> None:
        """Measure from now, when NATS accepts, until a step begins."""
        began, wall = time.monotonic(), time.time()
        async with aiohttp.ClientSession() as session:
            while time.monotonic() - began < _MOST:
                async with session.get(self._bed.witness_url) as answer:
                    if (await answer.json())["new_at"] > wall:
                        break
                await asyncio.sleep(_LOOK)
        self.bus.append(time.monotonic() - began)

    async def store_back(self) -> None:
        """Measure from now, when Postgres accepts, until a start is acknowledged."""
        began = time.monotonic()
        while self._load.acked_at < began and time.monotonic() - began < _MOST:  # noqa: ASYNC110 - with an end
            await asyncio.sleep(_LOOK)
        self.store.append(time.monotonic() - began)

    async def _leases(self, condition: str, value: str) -> Held:
        try:
            async with await self._bed.connect() as store:
                cursor = await store.execute(
                    "SELECT d.run_id, d.no, d.fence, d.executor_id FROM dispatch d"
                    f" JOIN executors e ON e.id = d.executor_id WHERE {condition}",
                    (value,),
                )
                return {(run, int(str(no))): (int(str(f)), str(e)) for run, no, f, e in await cursor.fetchall()}
        except psycopg.OperationalError:
            return {}


def percentile(values: list[float], share: float) -> float:
    """The value that a share of the values does not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
