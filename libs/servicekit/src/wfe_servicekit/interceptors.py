"""The guard: what stands between the wire and every servicer method.

It is put around each method once, when the server is built, and not run as a grpc.aio interceptor: one
look-up by name leads to the finished handler, and a method that is not in the table does not exist. For each
call it

1. starts the deadline, 2. authenticates and checks the role, 3. parses the request, 4. runs the method,
5. turns whatever was raised into the one form of error.

Requests arrive as raw bytes, because grpc answers broken ones with UNKNOWN and the parser's text. They are read
here, as if every method took a stream: grpc never answers a client that ends its request without a message.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from wfe_engine.errors import PermissionDenied, Unavailable

from wfe_servicekit.calls import Call, Caller, call_var
from wfe_servicekit.deadlines import DEFAULT_DEADLINE, Deadlines, shed
from wfe_servicekit.large import LARGE_REQUEST_BYTES, SMALL_BYTES, Large, LargeRequests
from wfe_servicekit.observed import observed
from wfe_servicekit.policy import AUTHENTICATED, PUBLIC, Access
from wfe_servicekit.standing import Standing
from wfe_servicekit.statuses import (
    DeadlineExceeded,
    MalformedRequest,
    RequestTooLarge,
    Unimplemented,
    wire_error,
)
from wfe_servicekit.streams import Streams

__all__ = ["Authenticates", "Guard"]


class Authenticates(Protocol):
    """What the guard needs of `wfe_servicekit.auth.Authenticator`."""

    def recall(self, authorization: str | None) -> Caller | None:
        """The caller, when the credentials were accepted a moment ago."""
        ...

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller, or Unauthenticated."""
        ...


class Guard(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves the methods it was given, each behind all checks, and refuses every other.

    Needs a running event loop.

    Args:
        authenticator: Knows who calls.
        max_request_bytes: Largest request message.
        max_streams: Server streams at the same time; more are refused with ResourceExhausted.
        max_owner_streams: The same for one owner.
        max_public_streams: Streams without credentials at the same time; they do not count among the others.
        large: Reads large requests of the methods that take them.
    """

    def __init__(
        self,
        authenticator: Authenticates,
        *,
        max_request_bytes: int,
        max_streams: int = 1_000,
        max_owner_streams: int = 200,
        max_public_streams: int = 200,
        large: LargeRequests | None = None,
    ) -> None:
        self._large = large or LargeRequests({})
        self._authenticator = authenticator
        self._max_request_bytes = max_request_bytes
        self._streams = Streams(most=max_streams, most_of_owner=max_owner_streams, most_public=max_public_streams)
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}
        self._deadlines: dict[float, Deadlines] = {}
        self._missing = grpc.stream_stream_rpc_method_handler(_refuse_unknown)

    def add(
        self,
        method: str,
        handler: grpc.RpcMethodHandler,
        row: frozenset[str] | Access,
        deadline: float = DEFAULT_DEADLINE,
    ) -> None:
        """Serve a method.

        Args:
            method: Full name.
            handler: As the generated code makes it.
            row: The method's row of the policy.
            deadline: Seconds; of streams, until their request is there.

        Raises:
            TypeError: The method takes a stream, or is not async.
        """
        if handler.request_streaming:
            raise TypeError(f"{method}: request streams are not supported")
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
        if getattr(behaviour, "__module__", "").endswith("_pb2_grpc"):
            # The generated base class's own method: the servicer does not have it (yet).
            behaviour = _not_implemented
        if handler.response_streaming:
            if not (inspect.isasyncgenfunction(behaviour) or inspect.iscoroutinefunction(behaviour)):
                raise TypeError(f"{method}: the servicer's method is not async")
            stream = self._stream(behaviour, handler.request_deserializer, row, deadline)
            self._handlers[method] = grpc.stream_stream_rpc_method_handler(
                observed(method, stream, spans=False),
                request_deserializer=None,
                response_serializer=handler.response_serializer,
            )
            return
        if not inspect.iscoroutinefunction(behaviour):
            raise TypeError(f"{method}: the servicer's method is not async")
        deadlines = self._deadlines.get(deadline)
        if deadlines is None:
            deadlines = self._deadlines[deadline] = Deadlines(deadline)
        large = self._large.methods.get(method)
        unary = self._unary(behaviour, handler.request_deserializer, handler.response_serializer, row, deadlines, large)
        self._handlers[method] = grpc.stream_unary_rpc_method_handler(observed(method, unary))

    def add_dialogue(
        self,
        method: str,
        answer: Callable[[Any], Awaitable[Any]],
        parse: Callable[[bytes], Any],
        serialize: Callable[[Any], bytes],
        deadline: float = DEFAULT_DEADLINE,
    ) -> None:
        """Serve a method that anybody may call and that answers every message of its stream with one.

        Args:
            method: Full name.
            answer: Makes the answer.
            parse: Reads a message.
            serialize: Writes one.
            deadline: Seconds until the next message; a caller who is silent for longer is sent away.
        """

        async def talk(_requests: Any, context: Any) -> None:
            call = _this_call()
            call.task = asyncio.current_task()
            self._streams.opened(call)
            try:
                self._streams.admit(call)
                while (raw := await self._read(context, deadline)) is not grpc.aio.EOF:
                    await context.write(serialize(await answer(_parsed(raw, parse))))
            except BaseException as error:  # noqa: BLE001 - always raises
                await _refuse(context, call, error)
            finally:
                self._streams.closed(call)

        self._handlers[method] = grpc.stream_stream_rpc_method_handler(observed(method, talk, spans=False))

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler of a method. grpc calls this in the task that goes on to run the handler."""
        method = details.method
        handler = self._handlers.get(method)
        if handler is None:
            return self._missing
        call_var.set(Call(method, details.invocation_metadata))
        return handler

    def shed(self) -> None:
        """Answer every call under way with Unavailable: the process ends, and another one can serve them."""
        for deadlines in self._deadlines.values():
            deadlines.shed()
        for call in self._streams:
            shed(call)

    def _unary(
        self,
        behaviour: Callable[[Any, Any], Awaitable[Any]],
        parse: Callable[[bytes], Any],
        serialize: Callable[[Any], bytes],
        row: frozenset[str] | Access,
        deadlines: Deadlines,
        large: Large | None,
    ) -> Callable[[Any, Any], Awaitable[bytes]]:
        public = row is PUBLIC
        recall = self._authenticator.recall
        current_task = asyncio.current_task
        most = self._max_request_bytes if large is None else max(self._max_request_bytes, LARGE_REQUEST_BYTES)
        small = most if large is None else SMALL_BYTES
        serve = self._large.serve

        async def answer_call(_requests: Any, context: Any) -> bytes:
            call = _this_call()
            call.task = current_task()
            deadlines.add(call)
            try:
                if not public:
                    authorization = call.header("authorization")
                    caller = recall(authorization)
                    if caller is None:
                        caller = await self._authenticator.authenticate(authorization)
                    call.caller = caller
                    if row is not AUTHENTICATED and row.isdisjoint(caller.roles):  # type: ignore[union-attr]
                        raise _role_missing(row)
                raw = await context.read()
                if raw is grpc.aio.EOF:
                    raise _missing_request()
                if len(raw) > most:
                    raise _too_large(raw, most)
                if len(raw) > small and large is not None:
                    answer = await serve(large, raw, call, parse, lambda request: behaviour(request, context))
                else:
                    answer = await behaviour(_parsed(raw, parse), context)
                response = serialize(answer)
                deadlines.discard(call)
                if (call.http_status or call.http_headers) and call.rest:
                    # A batch of its own, about 60 µs; gRPC clients have no use for it.
                    status = (("x-http-status", str(call.http_status)),) if call.http_status else ()
                    await context.send_initial_metadata((*status, *call.http_headers))
                return response
            except BaseException as error:
                deadlines.discard(call)
                await _refuse(context, call, error)
                raise AssertionError from error

        return answer_call

    def _stream(
        self,
        behaviour: Callable[[Any, Any], Any],
        parse: Callable[[bytes], Any],
        row: frozenset[str] | Access,
        deadline: float,
    ) -> Callable[[Any, Any], Awaitable[None]]:
        public = row is PUBLIC
        generates = inspect.isasyncgenfunction(behaviour)

        async def answer(_requests: Any, context: Any) -> None:
            call = _this_call()
            call.task = asyncio.current_task()
            self._streams.opened(call)
            try:
                authorization = call.header("authorization")
                if not public:
                    call.caller = await self._check(authorization, row)
                self._streams.admit(call)
                raw = await self._read(context, deadline)
                if raw is grpc.aio.EOF:
                    raise _missing_request()
                request = _parsed(raw, parse)
                if not generates:
                    await behaviour(request, context)
                    return
                # Written here and not yielded to grpc, which would leave the generator unfinished when the
                # client hangs up between two messages.
                messages = behaviour(request, context)
                try:
                    async with nullcontext() if public else Standing(partial(self._check, authorization, row)):
                        async for message in messages:
                            await context.write(message)
                finally:
                    await messages.aclose()
            except BaseException as error:  # noqa: BLE001 - always raises
                await _refuse(context, call, error)
            finally:
                self._streams.closed(call)

        return answer

    async def _read(self, context: Any, deadline: float) -> Any:
        """The next message of a stream, or EOF."""
        try:
            async with asyncio.timeout(deadline):
                raw = await context.read()
        except TimeoutError:
            raise DeadlineExceeded("no request came") from None
        if raw is not grpc.aio.EOF and len(raw) > self._max_request_bytes:
            raise _too_large(raw, self._max_request_bytes)
        return raw

    async def _check(self, authorization: str | None, row: frozenset[str] | Access) -> Caller:
        caller = await self._authenticator.authenticate(authorization)
        if row is not AUTHENTICATED and row.isdisjoint(caller.roles):  # type: ignore[union-attr]
            raise _role_missing(row)
        return caller


def _this_call() -> Call:
    call = call_var.get()
    if call is None:
        raise RuntimeError("a handler of the guard runs outside a call")
    return call


async def _refuse(context: Any, call: Call, error: BaseException) -> None:
    """End the RPC with the answer to an exception; always raises."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if call.expired and task is not None:
            task.uncancel()
            error = DeadlineExceeded("the service took too long; what it did may have happened")
        elif call.shed and task is not None:
            task.uncancel()
            error = Unavailable("the service ends; try again", reason="SERVICE_ENDS")
        elif task is None or task.cancelling():
            # The client hung up: nobody is there to answer.
            raise error
        # Otherwise nobody cancelled the call: something that the method awaited was cancelled, which is a
        # fault.
    elif not isinstance(error, Exception):
        raise error
    if context.done():
        raise error
    wire = wire_error(error, rest=call.rest)
    await context.abort(wire.code, wire.message, wire.trailers)


async def _refuse_unknown(_requests: Any, context: Any) -> None:
    wire = wire_error(Unimplemented("no such method"))
    await context.abort(wire.code, wire.message, wire.trailers)


async def _not_implemented(_request: Any, _context: Any) -> Any:
    raise Unimplemented("the service does not have this method yet")


def _role_missing(row: Any) -> PermissionDenied:
    roles = ", ".join(sorted(row))
    return PermissionDenied(f"this needs one of the roles {roles}", reason="ROLE_REQUIRED", roles=roles)


def _too_large(raw: bytes, most: int) -> RequestTooLarge:
    return RequestTooLarge(f"the request is {len(raw)} bytes, more than {most}", size=len(raw), limit=most)


def _missing_request() -> MalformedRequest:
    return MalformedRequest("the call ended without a request")


def _parsed(raw: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(raw)
    except DecodeError:
        raise MalformedRequest(
            "the request is not a message of the method's type: broken bytes, text that is not UTF-8, "
            "or values nested too deep (at most 32 levels)"
        ) from None
