"""The workloads as Restate workflows: a step is `ctx.run`, executed here, its result journaled by the server.

Runs in the peers' environment: `restate_endpoint.py PORT FILE`. FILE gets a byte from every run that reaches its gate.
"""

import asyncio
import os
import sys

import restate
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config

PORT, FILE = sys.argv[1:3]
workflow = restate.Workflow("Wf")


async def echo(value):
    return value


async def note():
    descriptor = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b".")
    os.close(descriptor)


@workflow.main()
async def run(ctx: restate.WorkflowContext, kind: str) -> int:
    if kind == "fan-100":
        steps = [ctx.run_typed("step", echo, value=number) for number in range(100)]
        await restate.gather(*steps)
        return sum([await step for step in steps])
    if kind == "parked":
        await ctx.run_typed("before", note)
        await ctx.promise("go").value()
        return await ctx.run_typed("after", echo, value=1)
    last = 0
    for number in range({"one": 1, "chain-10": 10}[kind]):
        last = await ctx.run_typed("step", echo, value=number)
    return last


@workflow.handler()
async def go(ctx: restate.WorkflowSharedContext, value: int) -> None:
    await ctx.promise("go").resolve(value)


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{PORT}"]
    config.h2_max_concurrent_streams = 2**31 - 1
    config.keep_alive_timeout = 600
    config.loglevel = "WARNING"
    uvloop.install()
    asyncio.run(serve(restate.app([workflow]), config))
