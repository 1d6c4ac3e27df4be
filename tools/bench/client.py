"""The client's process: told one workload after another on its standard input, and answers with what it measured.

Orders and answers are JSON, a line each, see `Order` and `Measured`.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
import uvloop

from tools.bench.http1 import Http

#: Seconds one blocking get may wait for the end of its run.
WAIT_SECONDS = 30


class Order(msgspec.Struct, kw_only=True):
    """What to do.

    Attributes:
        do: run: start runs and wait for their ends; start: start all of them first, then wait; park: only start
            them; signal: signal each of the runs parked before, and wait for its end; wait: wait for theirs.
        template_id: Template of the runs.
        count: How many runs.
        at_once: How many at the same time.
        over: rest, or grpc straight at a scheduler.
    """

    do: Literal["run", "start", "park", "signal", "wait"]
    template_id: str
    count: int
    at_once: int
    over: Literal["rest", "grpc"] = "rest"


class Measured(msgspec.Struct, kw_only=True):
    """What came of an order.

    Attributes:
        latencies: Seconds from start to the end seen, of each run; for `start`, until the start was accepted.
        wall: Seconds in all.
        start_wall: Seconds until every start was accepted; 0 for `run`.
        cpu: Seconds of processor time the client itself took.
    """

    latencies: list[float]
    wall: float
    start_wall: float = 0.0
    cpu: float


class _Run(msgspec.Struct):
    id: str
    status: str


_decode_run = msgspec.json.Decoder(_Run).decode
_numbers = itertools.count(1)

Start = Callable[[], Awaitable[str]]
Wait = Callable[[str], Awaitable[None]]
RunOne = Callable[[], Awaitable[None]]

#: Runs that were started and not waited for.
_parked: list[str] = []


def _over_rest(http: Http, template_id: str) -> tuple[Start, Wait, RunOne]:
    request = {"template_id": template_id, "input": {}}
    body = msgspec.json.encode(request)
    waiting_body = msgspec.json.encode(request | {"wait_seconds": WAIT_SECONDS})

    def key() -> str:
        return f"bench-{os.getpid()}-{next(_numbers)}"

    async def start() -> str:
        return _decode_run(await http.post("/api/v1/workflows", body, key())).id

    def ended(run: _Run) -> bool:
        if run.status in ("failed", "cancelled"):
            raise RuntimeError(f"the run {run.id} {run.status}")
        return run.status == "completed"

    async def wait(run_id: str) -> None:
        path = f"/api/v1/workflows/{run_id}?wait_seconds={WAIT_SECONDS}&view=basic"
        while not ended(_decode_run(await http.get(path))):
            pass

    async def run_one() -> None:
        # One call, as the peers' clients make.
        run = _decode_run(await http.post("/api/v1/workflows", waiting_body, key()))
        if not ended(run):
            await wait(run.id)

    return start, wait, run_one


def _over_grpc(target: str, key: str, template_id: str) -> tuple[Start, Wait, RunOne]:
    # Only this workload needs it; its threads must not disturb the others.
    import grpc
    from wfe.api.v1 import workflow_pb2, workflow_service_pb2

    channel = grpc.aio.insecure_channel(target)
    service = "/wfe.api.v1.WorkflowService/"
    start_call = channel.unary_unary(f"{service}StartWorkflow", response_deserializer=workflow_pb2.Workflow.FromString)
    get_call = channel.unary_unary(f"{service}GetWorkflow", response_deserializer=workflow_pb2.Workflow.FromString)
    request = workflow_service_pb2.StartWorkflowRequest(template_id=template_id).SerializeToString()
    who = ("authorization", f"Bearer {key}")

    async def start() -> str:
        metadata = (who, ("idempotency-key", f"bench-{os.getpid()}-{next(_numbers)}"))
        return str((await start_call(request, metadata=metadata)).id)

    async def wait(run_id: str) -> None:
        asked = workflow_service_pb2.GetWorkflowRequest(
            id=run_id, wait_seconds=WAIT_SECONDS, view="basic"
        ).SerializeToString()
        while (status := (await get_call(asked, metadata=(who,))).status) != "completed":
            if status in ("failed", "cancelled"):
                raise RuntimeError(f"the run {run_id} {status}")

    async def run_one() -> None:
        await wait(await start())

    return start, wait, run_one


async def bounded(count: int, at_once: int, work: Callable[[int], Awaitable[None]]) -> list[float]:
    """Do the work `count` times, `at_once` at a time; seconds each took."""
    latencies = [0.0] * count
    numbers = iter(range(count))

    async def one_by_one() -> None:
        for number in numbers:
            began = time.perf_counter()
            await work(number)
            latencies[number] = time.perf_counter() - began

    await asyncio.gather(*(one_by_one() for _ in range(min(count, at_once))))
    return latencies


async def _carry_out(order: Order, http: Http, grpc_target: str, key: str) -> Measured:
    if order.over == "grpc":
        start, wait, run_one = _over_grpc(grpc_target, key, order.template_id)
    else:
        start, wait, run_one = _over_rest(http, order.template_id)
    ids = [""] * order.count

    async def start_one(number: int) -> None:
        ids[number] = await start()

    async def wait_one(number: int) -> None:
        await wait(ids[number])

    async def run_number(_number: int) -> None:
        await run_one()

    async def signal_one(number: int) -> None:
        await http.post(f"/api/v1/workflows/{_parked[number]}/signals/go", b"{}", f"bench-go-{_parked[number]}")
        await wait(_parked[number])

    async def wait_parked(number: int) -> None:
        await wait(_parked[number])

    cpu, began = time.process_time(), time.perf_counter()
    start_wall = 0.0
    if order.do == "run":
        latencies = await bounded(order.count, order.at_once, run_number)
    elif order.do in ("signal", "wait"):
        latencies = await bounded(len(_parked), order.at_once, signal_one if order.do == "signal" else wait_parked)
        _parked.clear()
    elif order.do == "park":
        latencies = await bounded(order.count, order.at_once, start_one)
        _parked.extend(ids)
    else:
        latencies = await bounded(order.count, order.at_once, start_one)
        start_wall = time.perf_counter() - began
        await bounded(order.count, order.at_once, wait_one)
    wall = time.perf_counter() - began
    return Measured(latencies=latencies, wall=wall, start_wall=start_wall, cpu=time.process_time() - cpu)


async def _serve(host: str, port: int, grpc_target: str, key: str) -> None:
    http = Http(host, port, key)
    loop = asyncio.get_running_loop()
    gc.collect()
    gc.freeze()
    try:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order = msgspec.json.decode(line, type=Order)
            measured = await _carry_out(order, http, grpc_target, key)
            sys.stdout.write(msgspec.json.encode(measured).decode() + "\n")
            sys.stdout.flush()
    finally:
        http.close()


if __name__ == "__main__":
    _host, _port, _grpc = sys.argv[1:4]
    uvloop.run(_serve(_host, int(_port), _grpc, os.environ["WFE_API_KEY"]))
