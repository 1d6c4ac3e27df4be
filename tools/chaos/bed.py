"""The real engine, its database and the witness, with proxies between all of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from wfe_stack.postgres import PostgresServer, create_database, with_database
from wfe_stack.rest import Rest
from wfe_stack.seed import seed
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_store.identity import SeedPrincipal

from tools.chaos.proxy import Proxy
from tools.chaos.shapes import CHILD, TEMPLATES

_ROOT = Path(__file__).resolve().parents[2]
_SOCKET = ".s.PGSQL.5432"
_EVE = SeedPrincipal("eve", roles=("approver", "viewer"), groups=("editors",))


@dataclass
class Postgres:
    """The database server, which is killed and started past the stack.

    Attributes:
        folder: Its data folder.
        settings: Over the defaults.
    """

    folder: Path
    settings: Mapping[str, str]
    _server: PostgresServer | None = field(default=None, repr=False)

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._server is not None and self._server.is_running()

    async def start(self) -> str:
        """Start it, and wait until it accepts; gives its URL."""
        self._server = await asyncio.to_thread(PostgresServer.start, self.folder, self.settings)
        return self._server.url

    async def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it: SIGKILL as a crash would, SIGQUIT for an immediate shutdown, SIGINT in order."""
        server, self._server = self._server, None
        if server is None:
            return
        self.signal(how)
        await asyncio.to_thread(server.stop)

    def signal(self, how: signal.Signals) -> None:
        """Send the server a signal, also one that is starting."""
        with suppress(OSError, ValueError):
            os.kill(int((self.folder / "postmaster.pid").read_text().split("\n", 1)[0]), how)


@dataclass
class Bed:
    """What a sitting has.

    Attributes:
        stack: The engine.
        postgres: Its database.
        database_url: Of the database, past every proxy.
        clients: Proxy between clients and the gateway.
        store: Proxy between services and the database.
        bus: Proxy between services and NATS.
        keys: API keys.
        witness_url: Where steps call.
        calls: File the witness writes.
    """

    stack: Stack
    postgres: Postgres
    database_url: str
    clients: Proxy
    store: Proxy
    bus: Proxy
    keys: dict[str, str]
    witness_url: str
    calls: Path

    @property
    def url(self) -> str:
        """Where clients see the gateway."""
        return f"http://127.0.0.1:{self.clients.port}"

    async def connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        """A connection to the database past every proxy."""
        return await psycopg.AsyncConnection.connect(self.database_url, autocommit=True, application_name="chaos")

    async def publish(self) -> dict[str, str]:
        """Publish the templates; their ids by shape."""
        found = {}
        async with Rest(self.stack.url, self.keys["sam"]) as rest:
            for shape, source in {"child": CHILD, **TEMPLATES}.items():
                made = await rest.post("/api/v1/templates", {"source": source})
                await rest.post(f"/api/v1/templates/{made['id']}/publish")
                found[shape] = str(made["id"])
        return found


@asynccontextmanager
async def make_bed(
    folder: Path,
    *,
    lease_seconds: float,
    executors: int,
    postgres: Mapping[str, str],
    schedulers: int = 2,
    environment: Mapping[str, str] | None = None,
    disk: Path | None = None,
    listen: bool = False,
) -> AsyncIterator[Bed]:
    """The whole engine: schedulers, executors, approvals, gateway, NATS and Postgres.

    Args:
        folder: For everything; empty.
        lease_seconds: Of executors.
        executors: How many.
        postgres: Settings of the server over the defaults.
        schedulers: How many.
        environment: Of the services, over what they have here.
        disk: Folder for the database's own; `folder` when absent.
        listen: Whether to keep what passes to and from Postgres and NATS.
    """
    server = Postgres((disk or folder) / "postgres", postgres)
    sockets = folder / "proxy"
    sockets.mkdir()
    planned: list[Stack] = []
    clients = Proxy(lambda: _port(planned[0].url), lambda _: b"HTTP/1.1 20")
    url = await server.start()
    real = Path(str(conninfo_to_dict(url)["host"])) / _SOCKET
    store = Proxy(lambda: real, _committed)
    bus = Proxy(lambda: _port(planned[0].nats_url), lambda _: b"")
    if listen:
        store.heard, bus.heard = [], []
    witness, witness_url = await _start_witness(folder / "calls.jsonl")
    try:
        for proxy, path in ((clients, None), (store, sockets / _SOCKET), (bus, None)):
            await proxy.listen(path)
        create_database(url, "wfe")
        through = with_database(url.replace(_quoted(real.parent), _quoted(sockets)), "wfe")
        settings = StackSettings(
            folder=folder / "data",
            schedulers=schedulers,
            executors=executors,
            database_url=through,
            environment={
                "WFE_LEASE_SECONDS": f"{lease_seconds:g}",
                # Many of a step's leases are lost here that are not its fault.
                "WFE_LEASE_LOSSES": "50",
                "WFE_NATS_URL": f"nats://127.0.0.1:{bus.port}",
                "WFE_PUBLIC_URL": f"http://127.0.0.1:{clients.port}",
                **(environment or {}),
            },
            executor_environment={
                "WFE_EGRESS_ALLOW": "127.0.0.1",
                "WFE_HEARTBEAT_SECONDS": f"{lease_seconds / 3:g}",
                "WFE_EXECUTOR_PROCESSES": "1",
            },
            drain_seconds=2.0,
            restarts=False,
        )
        stack = Stack(settings)
        planned.append(stack)
        async with stack:
            direct = with_database(url, "wfe")
            more = await seed(direct, folder / "eve.json", people=(_EVE,))
            yield Bed(
                stack, server, direct, clients, store, bus, {**stack.keys, **more}, witness_url, folder / "calls.jsonl"
            )
    finally:
        for proxy in (clients, store, bus):
            await proxy.close()
        witness.kill()
        await witness.wait()
        await server.kill(signal.SIGINT)


async def _start_witness(path: Path) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tools.chaos.witness",
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    assert process.stdout is not None
    port = json.loads(await process.stdout.readline())
    return process, f"http://127.0.0.1:{port}"


def _committed(first: bytes) -> bytes:
    """What Postgres says when something is durable: a cycle commits with the end of its pipeline, others by COMMIT."""
    return b"Z\x00\x00\x00\x05I" if b"-cycle-" in first else b"C\x00\x00\x00\x0bCOMMIT\x00"


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _quoted(path: Path) -> str:
    return str(path).replace("/", "%2F")
