"""The manifests' probes against the real processes: started, cut off from what they need, and told to end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import aiohttp
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from wfe_stack.ports import Ports
from wfe_stack.waiting import wait_for

from .conftest import objects, pods

DRAIN_SECONDS = 3


class Way:
    """A connection to a server that can be cut, and mended."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        query = parse_qs(self._parts.query)
        # A Postgres of the tests listens on a socket in a folder, which its URL names in the query.
        self._socket = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}" if "host" in query else ""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """What to connect to in the server's place."""
        who = f"{self._parts.netloc.rpartition('@')[0]}@" if "@" in self._parts.netloc else ""
        return urlunsplit(self._parts._replace(netloc=f"{who}127.0.0.1:{self._port}", query=""))

    async def mend(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End what is open, and let nothing through."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._socket:
            there, onward = await asyncio.open_unix_connection(self._socket)
        else:
            there, onward = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._open |= {writer, onward}
        with suppress(OSError, asyncio.IncompleteReadError):
            await asyncio.gather(_copy(reader, onward), _copy(there, writer))
        self._open -= {writer, onward}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


async def passes(probe: dict[str, Any], port: int) -> bool:
    """Whether a probe succeeds now, as the kubelet asks it, at a process whose health is on that port."""
    async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
        if "grpc" in probe:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                asked = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
                try:
                    answer = await health_pb2_grpc.HealthStub(channel).Check(asked)
                except grpc.aio.AioRpcError:
                    return False
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
        url = f"http://127.0.0.1:{port}{probe['httpGet']['path']}"
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return 200 <= answer.status < 400
        except aiohttp.ClientError:
            return False


class Running:
    """One process as its pod would run it, its ways to Postgres and NATS, and its probes."""

    def __init__(self, service: str, ways: dict[str, Way], ports: Ports) -> None:
        self.pod = pods(objects("prod"))[service]["spec"]
        self.probes = next(one for one in self.pod["containers"] if "readinessProbe" in one)
        self.ways = ways
        self.port = ports.reserve()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("WFE_")} | {
            "WFE_NATS_URL": ways["nats"].url,
            "WFE_HEALTH_PORT": str(self.port),
            "WFE_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "WFE_LOG_LEVEL": "warning",
        }
        if "postgres" in ways:
            self.environment["WFE_DATABASE_URL"] = ways["postgres"].url
        self.process: asyncio.subprocess.Process | None = None
        self.program = str(Path(sys.executable).with_name(f"wfe-{service}"))

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(self.program, env=self.environment)

    async def seen(self, kind: str) -> bool:
        return await passes(self.probes[f"{kind}Probe"], self.port)

    async def becomes(self, kind: str, *, good: bool, seconds: float = 30) -> None:
        async def so() -> bool:
            with suppress(TimeoutError):
                return await self.seen(kind) == good
            return not good

        await wait_for(so, seconds=seconds, what=f"{kind} {'passes' if good else 'fails'}")


@pytest.fixture
async def run(database_url: str, nats_url: str) -> AsyncIterator[Any]:
    """Starts processes; none outlives the test."""
    made: list[Running] = []
    ways: list[Way] = []
    ports = Ports()

    async def start(service: str, *needs: str) -> Running:
        own = {"postgres": Way(database_url), "nats": Way(nats_url)}
        own = {name: way for name, way in own.items() if name in needs}
        ways.extend(own.values())
        for way in own.values():
            await way.mend()
        one = Running(service, own, ports)
        made.append(one)
        await one.start()
        return one

    yield start
    for one in made:
        if one.process is not None and one.process.returncode is None:
            one.process.kill()
            await one.process.wait()
    for way in ways:
        await way.cut()
    ports.release()


@pytest.mark.parametrize("service", ["scheduler", "approvals"])
async def test_readiness_follows_what_a_service_needs_and_liveness_does_not(run, service):
    one = await run(service, "postgres", "nats")
    started = one.probes["startupProbe"]
    await one.becomes("startup", good=True, seconds=started["periodSeconds"] * started["failureThreshold"])
    await one.becomes("readiness", good=True)
    for needed in ("postgres", "nats"):
        await one.ways[needed].cut()
        await one.becomes("readiness", good=False)
        assert await one.seen("liveness"), f"it would be killed for a {needed} that is down"
        await one.ways[needed].mend()
        await one.becomes("readiness", good=True)
    # Withdrawn first, so that nobody sends it anything any more; it lives until it has drained.
    one.process.send_signal(signal.SIGTERM)
    await one.becomes("readiness", good=False, seconds=DRAIN_SECONDS)
    assert one.process.returncode is None
    assert await one.seen("liveness")
    async with asyncio.timeout(one.pod["terminationGracePeriodSeconds"]):
        assert await one.process.wait() == 0
