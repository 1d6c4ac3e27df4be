"""An engine ready to be measured: its client, its templates, what its processes are called."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from wfe_stack.rest import Rest
from wfe_stack.stack import Stack

from tools.bench.meter import Processes
from tools.bench.workloads import Bench

#: Templates that are of use to nobody but the bench.
TEMPLATES = Path(__file__).parent / "templates"

_PARKED = "SELECT count(*) FROM steps WHERE status = 'waiting' AND path = 'gate'"


@asynccontextmanager
async def bench_on(stack: Stack, *, wait_quiet: bool) -> AsyncIterator[Bench]:
    """A bench on a running engine, with a client of its own.

    Args:
        stack: The engine.
        wait_quiet: Whether to wait for an idle machine before each workload.
    """
    client = await _start_client(stack)
    processes = Processes({**stack.pids, "client": client.pid, "harness": os.getpid()})
    async with await psycopg.AsyncConnection.connect(stack.database_url, autocommit=True) as store:

        async def parked() -> int:
            row = await (await store.execute(_PARKED)).fetchone()
            assert row is not None
            return int(row[0])

        try:
            yield Bench(
                client, processes, stack.settings.folder, await _templates(stack), parked, wait_quiet=wait_quiet
            )
        finally:
            assert client.stdin is not None
            client.stdin.close()
            await client.wait()


async def _start_client(stack: Stack) -> asyncio.subprocess.Process:
    host, _, port = stack.url.removeprefix("http://").rpartition(":")
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tools.bench.client",
        host,
        port,
        stack.service("scheduler"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "WFE_API_KEY": stack.keys["sam"]},
        limit=1 << 24,  # latencies of thousands of runs are one line
    )


async def _templates(stack: Stack) -> dict[str, str]:
    """Ids of the published templates by name, the bench's own among them."""
    async with Rest(stack.url, stack.keys["sam"]) as rest:
        for path in sorted(TEMPLATES.glob("*.yaml")):
            made = await rest.post("/api/v1/templates", {"source": path.read_text()})
            await rest.post(f"/api/v1/templates/{made['id']}/publish")
        page = await rest.get("/api/v1/templates", limit=200)
    return {template["name"]: template["id"] for template in page["templates"]}
