"""Counts and traces around every method of a gRPC server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry.trace import SpanKind

from wfe_servicekit.calls import call_var
from wfe_servicekit.telemetry.process import CALL_SECONDS, CALLS
from wfe_servicekit.telemetry.tracing import open_span, sampled, tracing

__all__ = ["observed"]

_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip

Answer = Callable[[bytes, Any], Awaitable[Any]]


def observed(method: str, answer: Answer, *, spans: bool = True) -> Answer:
    """The same method, counted by its status, its time measured, and under a span while tracing is on and its
    trace is kept.

    Args:
        method: Full name, `/package.Service/Method`.
        answer: What answers its calls.
        spans: Whether time and span make sense; not for streams, which last as long as somebody watches.
    """
    short = method.removeprefix("/").split(".")[-1]

    async def counted(raw: bytes, context: Any) -> Any:
        began = time.perf_counter()
        opened = None
        if spans and tracing():
            call = call_var.get()
            parent = None if call is None else call.header("traceparent")
            if parent is None or sampled(parent):
                opened = open_span(short, parent, {"rpc.system": "grpc", "rpc.method": method}, kind=SpanKind.SERVER)
        code = "OK"
        try:
            return await answer(raw, context)
        except BaseException:
            code = _code(context)
            raise
        finally:
            CALLS.inc(short, code)
            if spans:
                CALL_SECONDS.observe(time.perf_counter() - began, short)
            if opened is not None:
                opened.close("" if code == "OK" else code)

    return counted


def _code(context: Any) -> str:
    code = context.code()
    if not code:  # nothing was answered: the client hung up
        return "CANCELLED"
    number = code if isinstance(code, int) else code.value[0]
    return _CODES[number] if 0 <= number < len(_CODES) else "UNKNOWN"
