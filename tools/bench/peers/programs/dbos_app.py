"""The workloads as DBOS workflows: application and client in one process, as DBOS is meant to be used.

Runs in the peers' environment: `dbos_app.py URL FILE`. Takes orders and answers
like `tools.bench.client`, a line of JSON each. FILE gets a byte from every run that reaches its gate.
"""

import asyncio
import itertools
import json
import os
import sys
import time

from dbos import DBOS, SetWorkflowID

URL, FILE = sys.argv[1:3]
numbers = itertools.count()
parked = []


@DBOS.step()
async def echo(value):
    return value


@DBOS.step()
async def note():
    descriptor = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b".")
    os.close(descriptor)


@DBOS.workflow()
async def chain(length: int) -> int:
    last = 0
    for number in range(length):
        last = await echo(number)
    return last


@DBOS.workflow()
async def fan(width: int) -> int:
    return sum(await asyncio.gather(*[echo(number) for number in range(width)]))


@DBOS.workflow()
async def gate(_: int) -> int:
    await note()
    await DBOS.recv_async("go", timeout_seconds=3600)
    return await echo(1)


KINDS = {"one": (chain, 1), "chain-10": (chain, 10), "fan-100": (fan, 100), "parked": (gate, 0)}


async def bounded(count, at_once, work):
    latencies, left = [0.0] * count, iter(range(count))

    async def one_by_one():
        for number in left:
            began = time.perf_counter()
            await work(number)
            latencies[number] = time.perf_counter() - began

    await asyncio.gather(*(one_by_one() for _ in range(min(count, at_once))))
    return latencies


async def carry_out(order):
    workflow, argument = KINDS[order["template_id"]]
    handles = [None] * order["count"]

    async def start(number):
        with SetWorkflowID(f"bench-{os.getpid()}-{next(numbers)}"):
            handles[number] = await DBOS.start_workflow_async(workflow, argument)

    async def wait(number):
        await handles[number].get_result()

    async def run(number):
        await start(number)
        await wait(number)

    async def signal(number):
        await DBOS.send_async(parked[number].get_workflow_id(), 1, "go")
        await parked[number].get_result()

    cpu, began, start_wall = time.process_time(), time.perf_counter(), 0.0
    match order["do"]:
        case "run":
            latencies = await bounded(order["count"], order["at_once"], run)
        case "park":
            latencies = await bounded(order["count"], order["at_once"], start)
            parked.extend(handles)
        case "signal":
            latencies = await bounded(len(parked), order["at_once"], signal)
            parked.clear()
        case _:
            latencies = await bounded(order["count"], order["at_once"], start)
            start_wall = time.perf_counter() - began
            await bounded(order["count"], order["at_once"], wait)
    wall = time.perf_counter() - began
    return {"latencies": latencies, "wall": wall, "start_wall": start_wall, "cpu": time.process_time() - cpu}


async def main():
    DBOS(
        config={
            "name": "bench",
            "system_database_url": URL,
            "executor_id": "local",
            "application_version": "1",
            "log_level": "WARNING",
            "console_log_level": "WARNING",
            "enable_otlp": False,
        }
    )
    DBOS.launch()
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await carry_out(json.loads(line))), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
