"""The client of Restate: the bench's own, speaking to the ingress whose port is the one argument."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
import time

import msgspec
import uvloop

from tools.bench.client import Measured, Order, bounded
from tools.bench.http1 import Http

_numbers = itertools.count(1)
_parked: list[str] = []


async def _carry_out(order: Order, http: Http) -> Measured:
    body = msgspec.json.encode(order.template_id)
    ids = [f"bench-{os.getpid()}-{next(_numbers)}" for _ in range(order.count)]

    async def run_one(number: int) -> None:
        await http.post(f"/Wf/{ids[number]}/run", body)

    async def start_one(number: int) -> None:
        await http.post(f"/Wf/{ids[number]}/run/send", body)

    async def wait_one(number: int) -> None:
        await http.get(f"/restate/workflow/Wf/{ids[number]}/attach")

    async def signal_one(number: int) -> None:
        await http.post(f"/Wf/{_parked[number]}/go/send", b"1")
        await http.get(f"/restate/workflow/Wf/{_parked[number]}/attach")

    cpu, began, start_wall = time.process_time(), time.perf_counter(), 0.0
    match order.do:
        case "run":
            latencies = await bounded(order.count, order.at_once, run_one)
        case "park":
            latencies = await bounded(order.count, order.at_once, start_one)
            _parked.extend(ids)
        case "signal":
            latencies = await bounded(len(_parked), order.at_once, signal_one)
            _parked.clear()
        case _:
            latencies = await bounded(order.count, order.at_once, start_one)
            start_wall = time.perf_counter() - began
            await bounded(order.count, order.at_once, wait_one)
    wall = time.perf_counter() - began
    return Measured(latencies=latencies, wall=wall, start_wall=start_wall, cpu=time.process_time() - cpu)


async def _serve(port: int) -> None:
    http = Http("127.0.0.1", port, "none")
    loop = asyncio.get_running_loop()
    gc.collect()
    gc.freeze()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        measured = await _carry_out(msgspec.json.decode(line, type=Order), http)
        sys.stdout.write(msgspec.json.encode(measured).decode() + "\n")
        sys.stdout.flush()
    http.close()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
