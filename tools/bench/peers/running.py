"""Each peer as a running engine with a bench on it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from wfe_stack.postgres import PostgresServer, create_database

from tools.bench.meter import Processes
from tools.bench.peers.install import HERE, HOME, PYTHON, RESTATE
from tools.bench.workloads import WORKLOADS, Bench

_KINDS = {workload.template: workload.template for workload in WORKLOADS}
_CONFIG = """
cluster-name = "bench"
node-name = "n1"
base-dir = "{folder}/store"
bind-ip = "127.0.0.1"
listen-mode = "tcp"
bind-port = {node}
disable-telemetry = true
log-filter = "warn"
[admin]
bind-port = {admin}
disable-web-ui = true
[ingress]
bind-port = {ingress}
[worker.invoker]
concurrent-invocations-limit = 5000
[log-server]
rocksdb-disable-wal-fsync = false
"""


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _parked(file: Path) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        return file.stat().st_size if file.exists() else 0  # noqa: ASYNC240 - it is small and local

    return count


async def _listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def _client(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, limit=1 << 24)


async def _end(*processes: asyncio.subprocess.Process) -> None:
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def restate(*, wait_quiet: bool) -> AsyncIterator[Bench]:
    """Restate with one server and one endpoint process; its log is fsynced before an append is acknowledged."""
    folder = HOME / "restate"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    node, admin, ingress, endpoint = _ports(4)
    (folder / "config.toml").write_text(_CONFIG.format(folder=folder, node=node, admin=admin, ingress=ingress))
    gates = folder / "gates"
    with (folder / "log").open("wb") as log:
        worker = await asyncio.create_subprocess_exec(
            str(PYTHON), str(HERE / "programs/restate_endpoint.py"), str(endpoint), str(gates), stdout=log, stderr=log
        )
        server = await asyncio.create_subprocess_exec(
            str(RESTATE), "-c", str(folder / "config.toml"), "--no-logo", stdout=log, stderr=log
        )
    client = await _client(sys.executable, "-m", "tools.bench.peers.restate_client", str(ingress))
    try:
        await _listening(endpoint)
        await _listening(admin)
        await _register(admin, endpoint)
        await _listening(ingress)
        roles = {"server": server.pid, "worker": worker.pid, "client": client.pid, "harness": os.getpid()}
        yield Bench(client, Processes(roles), folder, _KINDS, _parked(gates), peer="restate", wait_quiet=wait_quiet)
    finally:
        await _end(client, server, worker)


async def _register(admin: int, endpoint: int) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                url = f"http://127.0.0.1:{admin}/deployments"
                async with session.post(url, json={"uri": f"http://127.0.0.1:{endpoint}"}) as answer:
                    if answer.status in (200, 201):
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


@asynccontextmanager
async def dbos(*, wait_quiet: bool) -> AsyncIterator[Bench]:
    """DBOS on a Postgres with the settings this engine's has: fsync and synchronous_commit on."""
    folder = HOME / "dbos"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    gates = folder / "gates"
    with PostgresServer.start(folder / "pg", {}) as server:
        url = create_database(server.url, "bench")
        client = await _client(str(PYTHON), str(HERE / "programs/dbos_app.py"), url, str(gates))
        try:
            assert client.stdout is not None
            while b"ready" not in await client.stdout.readline():
                if client.stdout.at_eof():
                    raise RuntimeError("DBOS's program ended; what it said is above")
            pid = int((folder / "pg/postmaster.pid").read_text().splitlines()[0])
            roles = {"postgres": pid, "client": client.pid, "harness": os.getpid()}
            yield Bench(client, Processes(roles), folder, _KINDS, _parked(gates), peer="dbos", wait_quiet=wait_quiet)
        finally:
            await _end(client)


PEERS = {"restate": restate, "dbos": dbos}
