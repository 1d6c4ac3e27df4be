"""Runs `call` steps: handlers from the registry, async ones here, sync ones in the pool."""

from __future__ import annotations

import traceback
from typing import Any

import msgspec
import structlog
from wfe_bus.messages import Failure
from wfe_sdk import Handler, Registry, StepContext

from wfe_executor.attempts import Attempt
from wfe_executor.outputs import encoded, expected, failure, of_exception
from wfe_executor.pool import Pool
from wfe_executor.wire import Beat, Start

_log = structlog.get_logger("wfe.executor.calls")
_encode = msgspec.json.Encoder().encode


class CallRequest(msgspec.Struct):
    """The request of a `call` step."""

    handler: str
    input: Any = None


class Calls:
    """Runs handlers."""

    def __init__(self, registry: Registry, pool: Pool) -> None:
        self._registry = registry
        self._pool = pool

    async def run(self, attempt: Attempt, request: CallRequest) -> bytes | Failure:
        """Run one attempt. Raises only CancelledError."""
        handler = self._registry.get(request.handler)
        if handler is None:
            return failure(
                "HANDLER_NOT_FOUND",
                f"this executor has no handler {request.handler[:200]!r}; WFE_HANDLERS names the modules it imports",
                retryable=False,
            )
        if handler.is_async:
            return await self._run_here(attempt, handler, request.input)
        return await self._run_in_pool(attempt, request)

    async def _run_here(self, attempt: Attempt, handler: Handler, value: Any) -> bytes | Failure:
        attempt.begin()
        try:
            if handler.wants_context:
                attempt.context = _context(attempt)
                return encoded(await handler.function(value, attempt.context))
            return encoded(await handler.function(value))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends its attempt only
            return raised(attempt, error)
        except (SystemExit, KeyboardInterrupt) as error:
            # They would end the loop, and with it the steps of everybody else.
            return raised(attempt, error)

    async def _run_in_pool(self, attempt: Attempt, request: CallRequest) -> bytes | Failure:
        lease, value = attempt.lease, _encode(request.input)

        def start(no: int) -> Start:
            attempt.begin()
            return Start(
                no=no,
                handler=request.handler,
                input=value,
                run_id=attempt.run_id,
                step=lease.path,
                idempotency_key=lease.idempotency_key,
                attempt=lease.attempt,
                max_attempts=lease.max_attempts,
                iteration=lease.iteration,
                visit=lease.visit,
                owner=lease.owner,
                deadline=attempt.deadline(),
            )

        def beat(said: Beat) -> None:
            if said.refused:
                _log.warning("progress dropped", why=said.refused, **attempt.facts)
            attempt.beat(None if said.progress is None else msgspec.Raw(said.progress))

        end, trace = await self._pool.run(start, beat)
        if isinstance(end, Failure):
            log_failure(attempt, end, trace)
        return end


def raised(attempt: Attempt, error: BaseException) -> Failure:
    """The failure of an exception, logged; with the traceback when nobody expected it."""
    end = of_exception(error)
    log_failure(attempt, end, "" if expected(error) else "".join(traceback.format_exception(error)))
    return end


def log_failure(attempt: Attempt, end: Failure, trace: str) -> None:
    """One line for a handler that failed; sealed values are taken out of the traceback."""
    extra = {}
    if trace:
        extra["exception"] = attempt.redactor.text(trace) if attempt.redactor else trace
    _log.warning("handler failed", code=end.code, retryable=end.retryable, **attempt.facts, **extra)


def _context(attempt: Attempt) -> StepContext:
    lease = attempt.lease
    return StepContext(
        run_id=attempt.run_id,
        step=lease.path,
        idempotency_key=lease.idempotency_key,
        attempt=lease.attempt,
        max_attempts=lease.max_attempts,
        iteration=lease.iteration,
        visit=lease.visit,
        owner=lease.owner,
        deadline=attempt.deadline(),
        beat=attempt.beat,
    )
