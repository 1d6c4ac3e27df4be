"""What telemetry costs: one engine with it and one without, W3 on each in turn, and the ratio of their steps/s.

`make bench-telemetry ARGS="--reps 5 --ratio 0.01"`. With telemetry every process serves metrics that are read as often
as Prometheus would, and sends traces, metrics and logs to a collector that throws them away.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
from aiohttp import web
from wfe_stack.faults import StackFault
from wfe_stack.settings import StackSettings, sample_folder
from wfe_stack.stack import Stack

from tools.bench.engine import bench_on
from tools.bench.workloads import WORKLOADS, dump

#: Seconds between two readings of the metrics.
SCRAPE_SECONDS = 15.0


def main() -> int:
    """Run the command line; the exit status is 1 when the engine or a run failed."""
    parser = argparse.ArgumentParser(prog="make bench-telemetry ARGS=…", description=__doc__)
    parser.add_argument("--reps", type=int, default=5, help="repetitions on each engine (5)")
    parser.add_argument("--ratio", type=float, default=0.01, help="part of the traces that are kept (0.01)")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the workload's runs, e.g. 0.1")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-telemetry"), help="data folder; emptied")
    parser.add_argument("--no-quiet", action="store_true", help="do not wait for an idle machine")
    try:
        asyncio.run(_compare(parser.parse_args()))
    except (StackFault, RuntimeError) as fault:
        sys.stderr.write(f"bench: {fault}\n")
        return 1
    return 0


async def _compare(options: argparse.Namespace) -> None:
    workload = next(one for one in WORKLOADS if one.name == "W3")
    workload = replace(workload, count=max(workload.at_once, round(workload.count * options.scale)))
    shutil.rmtree(options.folder, ignore_errors=True)
    found: dict[str, list[float]] = {"off": [], "on": []}
    async with AsyncExitStack() as things:
        endpoint = await things.enter_async_context(_collector())
        ratio = str(options.ratio)
        seen = {
            "WFE_OTLP_ENDPOINT": endpoint,
            "WFE_GATEWAY_OTLP_ENDPOINT": endpoint,
            "WFE_TRACE_RATIO": ratio,
            "WFE_GATEWAY_TRACE_RATIO": ratio,
        }
        benches = {}
        for name, environment in (("off", {}), ("on", seen)):
            settings = StackSettings(
                folder=options.folder / name,
                environment=environment,
                metrics=name == "on",
                samples=sample_folder(),
                log_level="warning",
                restarts=False,
            )
            stack = await things.enter_async_context(Stack(settings))
            if name == "on":
                await things.enter_async_context(_scraping(list(stack.metrics.values())))
            benches[name] = await things.enter_async_context(bench_on(stack, wait_quiet=not options.no_quiet))
            await benches[name].warm_up()
        for rep in range(1, options.reps + 1):
            # The one that goes first has it a little better or worse; it is another one each time.
            for name in ("off", "on") if rep % 2 else ("on", "off"):
                line = await benches[name].measure(workload, rep)
                found[name].append(float(line["steps_per_s"]))
                print(dump({"telemetry": name, **line}), flush=True)
    off, on = (statistics.median(found[name]) for name in ("off", "on"))
    print(dump({"off": off, "on": on, "cost_percent": round(100 * (1 - on / off), 1)}), flush=True)


@asynccontextmanager
async def _collector() -> AsyncIterator[str]:
    """URL of a collector in a process of its own, so that it takes nothing from the client's loop."""
    line = (sys.executable, "-m", "tools.bench.telemetry", "--collector")
    process = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def _collect() -> None:
    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/{signal}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def _scraping(urls: list[str]) -> AsyncIterator[None]:
    async def read() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                for url in urls:
                    async with session.get(url) as answer:
                        await answer.read()
                await asyncio.sleep(SCRAPE_SECONDS)

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


if __name__ == "__main__":
    if sys.argv[1:] == ["--collector"]:
        with suppress(KeyboardInterrupt):
            asyncio.run(_collect())
        sys.exit(0)
    sys.exit(main())
