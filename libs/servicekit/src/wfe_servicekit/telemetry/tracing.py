"""Traces with W3C trace context. While tracing is off every function here is a cheap no-op.

`span` opens a span under the context that came with a call, a lease or whatever carried a `traceparent`;
`current_traceparent` is what to send on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation import set_span_in_context

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

__all__ = ["Opened", "current_traceparent", "open_span", "parse", "sampled", "span", "tracing", "use_tracer"]

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_tracer: Tracer | None = None


def use_tracer(tracer: Tracer | None) -> None:
    """Switch tracing on with a tracer, or off."""
    global _tracer
    _tracer = tracer


def tracing() -> bool:
    """Whether spans are made at all."""
    return _tracer is not None


def parse(traceparent: str | None) -> SpanContext | None:
    """The span a W3C traceparent names; None when it names none or is broken."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if match is None:
        return None
    flags = TraceFlags(int(match[3], 16))
    return SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)


def traceparent_of(found: SpanContext) -> str:
    """The W3C traceparent that names a span; empty for none."""
    if not found.is_valid:
        return ""
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def sampled(traceparent: str) -> bool:
    """Whether whoever began a trace keeps it; what is not kept is only passed on."""
    return traceparent[-1:] in ("1", "3", "5", "7", "9", "b", "d", "f")


def current_traceparent(given: str | None = None) -> str:
    """What to send on with a call; empty outside any span and while tracing is off.

    Args:
        given: What came with the call, if anything: it is sent on when there is no span because nobody keeps it.
    """
    if _tracer is None:
        return ""
    found = traceparent_of(trace.get_current_span().get_span_context())
    if found or given is None:
        return found
    named = parse(given)
    return "" if named is None else traceparent_of(named)


class Opened:
    """A span that is current in this context until `close`."""

    __slots__ = ("_token", "span")

    def __init__(self, span: Span, token: Token[Context]) -> None:
        self.span = span
        self._token = token

    @property
    def traceparent(self) -> str:
        """What names it."""
        return traceparent_of(self.span.get_span_context())

    def close(self, fault: str = "") -> None:
        """End it, as failed when there is a fault."""
        if fault:
            self.span.set_status(trace.StatusCode.ERROR, fault)
        self.span.end()
        otel_context.detach(self._token)


def open_span(
    name: str,
    traceparent: str | None,
    attributes: Mapping[str, Any],
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    link: str | None = None,
    start: float | None = None,
) -> Opened | None:
    """Open a span and make it current; None while tracing is off.

    Args:
        name: Of a bounded set.
        traceparent: Its parent; without one it goes under the current span, or begins a trace.
        attributes: Facts, never a payload.
        kind: Server, client, consumer, ….
        link: A traceparent it refers to without being under it; without a parent it begins a trace of its own.
        start: When it began, in Unix time, if not now.
    """
    if _tracer is None:
        return None
    parent = parse(traceparent)
    context = None if parent is None else set_span_in_context(trace.NonRecordingSpan(parent), otel_context.Context())
    links = []
    linked = parse(link)
    if linked is not None:
        links = [Link(linked)]
        context = context or otel_context.Context()
    opened = _tracer.start_span(
        name,
        context,
        kind,
        attributes=attributes,
        links=links,
        start_time=None if start is None else int(start * 1e9),
    )
    return Opened(opened, otel_context.attach(set_span_in_context(opened)))


@contextmanager
def span(name: str, traceparent: str | None = None, **attributes: Any) -> Iterator[Opened | None]:
    """`open_span` around a block; an exception marks it as failed."""
    opened = open_span(name, traceparent, attributes)
    try:
        yield opened
    except BaseException as error:
        if opened is not None:
            opened.close(type(error).__name__)
        raise
    if opened is not None:
        opened.close()
