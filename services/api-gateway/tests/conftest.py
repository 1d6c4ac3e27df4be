"""A real Envoy, started as users start it, between a test and two servers whose answers the test decides."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf import any_pb2, message_factory
from google.rpc import error_details_pb2, status_pb2
from wfe.api.v1 import (
    approval_service_pb2,
    blob_service_pb2,
    callback_service_pb2,
    explain_service_pb2,
    identity_service_pb2,
    mending_service_pb2,
    schedule_service_pb2,
    secret_service_pb2,
    system_service_pb2,
    template_service_pb2,
    webhook_service_pb2,
    workflow_service_pb2,
)
from yarl import URL

FILES = (
    approval_service_pb2,
    callback_service_pb2,
    mending_service_pb2,
    secret_service_pb2,
    explain_service_pb2,
    identity_service_pb2,
    blob_service_pb2,
    schedule_service_pb2,
    secret_service_pb2,
    system_service_pb2,
    template_service_pb2,
    webhook_service_pb2,
    workflow_service_pb2,
)


@dataclass
class Call:
    method: str
    request: Any
    metadata: dict[str, str]


@dataclass
class FakeService:
    """Answers with an empty message of the right type unless `answers` names the method."""

    name: str
    answers: dict[str, Callable[..., Any]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    port: int = 0
    server: Any = None

    async def start(self) -> None:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)])
        self.server.add_generic_rpc_handlers(list(self._handlers()))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(None)

    def reset(self) -> None:
        self.answers.clear()
        self.calls.clear()

    def answer(self, method: str, message: Any, status: int = 0) -> None:
        """Let a method answer this, with x-http-status when given."""

        async def answer(_request: Any, context: Any) -> Any:
            if status:
                await context.send_initial_metadata((("x-http-status", str(status)),))
            return message

        self.answers[method] = answer

    def fail(self, method: str, code: grpc.StatusCode, status: int = 0, *, early: bool = False) -> None:
        """Let a method fail as services do: one ErrorInfo, and x-http-status, early or late, when given."""
        info = any_pb2.Any()
        info.Pack(error_details_pb2.ErrorInfo(reason="TEST", domain="wfe", metadata={"id": "1"}))
        details = status_pb2.Status(code=code.value[0], message="no “so”", details=[info])
        packed = ("grpc-status-details-bin", details.SerializeToString())
        extra = (("x-http-status", str(status)),) if status else ()

        async def answer(_request: Any, context: Any) -> Any:
            if early:
                await context.send_initial_metadata(extra)
            trailing = (packed,) if early else (packed, *extra)
            await context.abort(code, details.message, trailing_metadata=trailing)

        self.answers[method] = answer

    def _handlers(self) -> Any:
        for file in FILES:
            for service in file.DESCRIPTOR.services_by_name.values():
                methods = {method.name: self._handler(method) for method in service.methods}
                yield grpc.method_handlers_generic_handler(service.full_name, methods)
        health = {
            "Check": grpc.unary_unary_rpc_method_handler(self._health),
            "Watch": grpc.unary_stream_rpc_method_handler(self._health_watch),
        }
        yield grpc.method_handlers_generic_handler("grpc.health.v1.Health", health)
        yield grpc.method_handlers_generic_handler(
            "wfe.internal.v1.Secret", {"Tell": grpc.unary_unary_rpc_method_handler(self._health)}
        )

    def _handler(self, method: Any) -> Any:
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)

        def note(message: Any, context: Any) -> None:
            self.calls.append(Call(method.name, message, dict(context.invocation_metadata())))

        async def unary(message: Any, context: Any) -> Any:
            note(message, context)
            answer = self.answers.get(method.name)
            return response() if answer is None else await answer(message, context)

        async def stream(message: Any, context: Any) -> AsyncIterator[Any]:
            note(message, context)
            answer = self.answers.get(method.name)
            if answer is not None:
                async for item in answer(message, context):
                    yield item

        make, behaviour = (
            (grpc.unary_stream_rpc_method_handler, stream)
            if method.server_streaming
            else (grpc.unary_unary_rpc_method_handler, unary)
        )
        return make(behaviour, request_deserializer=request.FromString, response_serializer=response.SerializeToString)

    async def _health(self, request: bytes, context: Any) -> bytes:
        self.calls.append(Call("health", request, dict(context.invocation_metadata())))
        return b"\x08\x01"

    async def _health_watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"\x08\x01"
        await asyncio.Event().wait()


@dataclass
class Reply:
    """An answer over REST."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"].partition(";")[0] == "application/json", self
        return json.loads(self.body)

    def error(self, status: int) -> dict[str, Any]:
        """The error body, checked: google.rpc.Status with exactly one ErrorInfo."""
        assert self.status == status, self
        body = self.json
        assert sorted(body) == ["code", "details", "message"]
        assert isinstance(body["code"], int)
        assert body["message"]
        (info,) = body["details"]
        assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        assert info["domain"] == "wfe"
        assert info["reason"].isupper()
        return {"code": body["code"], "message": body["message"], "reason": info["reason"]}


@dataclass
class Gateway:
    """A running gateway."""

    rest_port: int
    grpc_port: int
    http: aiohttp.ClientSession
    scheme: str = "http"

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **more: Any
    ) -> Reply:
        """Call REST; a body that is not bytes is sent as JSON, a path goes out as it is."""
        headers = dict(headers or {})
        data = body
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
        if data is not None:
            headers.setdefault("content-type", "application/json")
        url = URL(f"{self.scheme}://127.0.0.1:{self.rest_port}{path}", encoded=True)
        stream = None if data is None else io.BytesIO(data)
        async with self.http.request(method, url, data=stream, headers=headers, **more) as answer:
            return Reply(answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read())

    async def raw(self, data: bytes, *, more: Iterator[bytes] | None = None) -> Reply:
        """Send bytes as they are and read one answer, also while there is more to send."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.rest_port)

        async def send() -> None:
            try:
                writer.write(data)
                for part in more or ():
                    writer.write(part)
                    await writer.drain()
            except ConnectionError:
                pass  # Envoy hung up after its answer.

        sender = asyncio.create_task(send())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            return Reply(int(head[0].split()[1]), headers, body)
        finally:
            sender.cancel()
            writer.close()

    def channel(self) -> grpc.aio.Channel:
        """A channel to the gRPC listener."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}")


async def _ports(admin: str, process: asyncio.subprocess.Process) -> dict[str, int]:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(admin)) as session:
        while True:
            assert process.returncode is None, "Envoy has ended"
            try:
                async with session.get("http://admin/listeners?format=json") as answer:
                    listeners = (await answer.json(content_type=None)).get("listener_statuses", [])
                async with session.get("http://admin/ready") as answer:
                    ready = answer.status == 200
            except (aiohttp.ClientConnectionError, FileNotFoundError):
                listeners, ready = [], False
            if ready and len(listeners) == 2:
                return {one["name"]: one["local_address"]["socket_address"]["port_value"] for one in listeners}
            await asyncio.sleep(0.02)  # Envoy tells nobody when it is ready; it has to be asked.


@asynccontextmanager
async def running(scheduler: int, approvals: int, **settings: str) -> AsyncIterator[Gateway]:
    """Start `wfe-gateway` on free ports, and stop it."""
    # A short path of its own: that of a Unix socket may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="wfe-gw-"))
    variables = {
        "rest_port": "0",
        "grpc_port": "0",
        "scheduler": f"127.0.0.1:{scheduler}",
        "approvals": f"127.0.0.1:{approvals}",
        "admin": f"unix:{folder}/admin",
        "config_file": f"{folder}/envoy.json",
        **settings,
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WFE_GATEWAY_")}
    environment |= {f"WFE_GATEWAY_{name.upper()}": value for name, value in variables.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from wfe_gateway.main import main; main([])", env=environment
    )
    try:
        async with asyncio.timeout(30):
            ports = await _ports(f"{folder}/admin", process)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), auto_decompress=False) as http:
            yield Gateway(ports["rest"], ports["grpc"], http)
    finally:
        if process.returncode is None:
            process.terminate()
        # The signal reaches Envoy itself, and Envoy ends as asked: the gateway has become it.
        assert await process.wait() == 0
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
async def services() -> AsyncIterator[tuple[FakeService, FakeService]]:
    pair = FakeService("scheduler"), FakeService("approvals")
    for service in pair:
        await service.start()
    yield pair
    for service in pair:
        await service.stop()


@pytest.fixture(scope="session")
async def shared_gateway(services: tuple[FakeService, FakeService]) -> AsyncIterator[Gateway]:
    async with running(*(service.port for service in services)) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared_gateway: Gateway, scheduler: FakeService, approvals: FakeService) -> Gateway:
    """The gateway, in front of servers that answer with empty messages."""
    return shared_gateway


@pytest.fixture
def scheduler(services: tuple[FakeService, FakeService]) -> FakeService:
    services[0].reset()
    return services[0]


@pytest.fixture
def approvals(services: tuple[FakeService, FakeService]) -> FakeService:
    services[1].reset()
    return services[1]


@pytest.fixture
def start_gateway() -> Callable[..., Any]:
    """Starts a gateway with other settings; an async context manager."""
    return running


@pytest.fixture(scope="session")
async def lonely_gateway() -> AsyncIterator[Gateway]:
    """A gateway whose services are not there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Nobody listens, and nobody else gets the port.
        port = taken.getsockname()[1]
        async with running(port, port) as gateway:
            yield gateway
