"""A gRPC server with every public service, whose answers a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, message_factory
from google.rpc import error_details_pb2, status_pb2
from wfe.api.v1 import (
    approval_service_pb2,
    identity_service_pb2,
    system_service_pb2,
    template_service_pb2,
    workflow_service_pb2,
)

FILES = (
    approval_service_pb2,
    identity_service_pb2,
    system_service_pb2,
    template_service_pb2,
    workflow_service_pb2,
)
Answer = Callable[[Any, Any], Awaitable[Any]]


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

    async def start(self, port: int = 0) -> None:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers(list(self._handlers()))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(None)

    def reset(self) -> None:
        self.answers.clear()
        self.calls.clear()

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
        return make(
            behaviour, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )

    async def _health(self, request: bytes, context: Any) -> bytes:
        self.calls.append(Call("health", request, dict(context.invocation_metadata())))
        return b"\x08\x01"

    async def _health_watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"\x08\x01"
        await asyncio.Event().wait()


def failing(
    code: grpc.StatusCode, reason: str, message: str, http_status: int = 0, *, initial: bool = False
) -> Answer:
    """An answer that fails as services do: one ErrorInfo, and x-http-status if asked for."""

    async def answer(_request: Any, context: Any) -> Any:
        info = any_pb2.Any()
        info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="wfe", metadata={"id": "1"}))
        status = status_pb2.Status(code=code.value[0], message=message, details=[info])
        extra = (("x-http-status", str(http_status)),) if http_status else ()
        if initial:
            await context.send_initial_metadata(extra)
            extra = ()
        await context.abort(
            code, message, trailing_metadata=(("grpc-status-details-bin", status.SerializeToString()), *extra)
        )

    return answer
