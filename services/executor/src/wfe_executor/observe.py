"""What an executor counts and traces: around every attempt, whatever its kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from opentelemetry.trace import SpanKind
from wfe_bus.messages import Failure
from wfe_servicekit.telemetry.metrics import Counter, Gauge, Histogram
from wfe_servicekit.telemetry.tracing import open_span, sampled, tracing

from wfe_executor.attempts import Attempt, End

ATTEMPTS = Counter(
    "wfe_attempts_total",
    "Attempts that ended here, by the step's kind and outcome: completed, failed, lost or stopped.",
    ("kind", "outcome"),
)
ATTEMPT_SECONDS = Histogram("wfe_attempt_seconds", "How long attempts ran here, by the step's kind.", ("kind",))
FAILURES = Counter("wfe_attempt_failures_total", "Attempts that failed here, by the failure's code.", ("code",))
RUNNING = Gauge("wfe_executor_running", "Steps that run in this executor now.")
SLOTS = Gauge("wfe_executor_slots", "Steps this executor runs at one time, at most.")
HEARD = Gauge("wfe_executor_heard", "1 while a scheduler answers this executor's heartbeats, else 0.")

_Ended = TypeVar("_Ended")


def read_gauges(slots: int, running: Callable[[], int], healthy: Callable[[], bool]) -> None:
    """Let the gauges ask the executor whenever they are written out."""
    SLOTS.set(slots)
    RUNNING.read(lambda: {(): running()})
    HEARD.read(lambda: {(): float(healthy())})


def observed(run: Callable[[Attempt], Coroutine[Any, Any, _Ended]]) -> Callable[[Attempt], Coroutine[Any, Any, _Ended]]:
    """The same runner, with its attempts counted, and under a span of the run's trace while tracing is on."""

    async def counted(attempt: Attempt) -> _Ended:
        began = time.perf_counter()
        kind = attempt.lease.kind
        opened = _open(attempt) if tracing() and sampled(attempt.lease.traceparent) else None
        outcome = "stopped"
        try:
            end = await run(attempt)
            if isinstance(end, Failure):
                outcome = "failed"
                FAILURES.inc(end.code)
            else:
                outcome = "lost" if isinstance(end, End) else "completed"
            return end
        finally:
            ATTEMPTS.inc(kind, outcome)
            ATTEMPT_SECONDS.observe(time.perf_counter() - began, kind)
            if opened is not None:
                opened.close("" if outcome == "completed" else outcome)

    return counted


def _open(attempt: Attempt) -> Any:
    lease = attempt.lease
    facts = {
        "wfe.run": attempt.run_id,
        "wfe.step": lease.path,
        "wfe.kind": lease.kind,
        "wfe.attempt": lease.attempt,
        "wfe.owner": lease.owner,
    }
    opened = open_span(f"step {lease.kind}", lease.traceparent, facts, kind=SpanKind.CONSUMER)
    if opened is not None:
        # Whatever goes out from here, goes out under this span.
        attempt.lease = msgspec.structs.replace(lease, traceparent=opened.traceparent)
    return opened
