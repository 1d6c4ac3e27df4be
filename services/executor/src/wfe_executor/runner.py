"""From a lease to its end: fetches what is missing, runs it by its kind, guards what comes out."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import structlog
from wfe_bus.messages import Failure, Lease, StoredOutput
from wfe_egress import GuardedSession
from wfe_engine.digests import approval_digest

from wfe_executor.agent import AgentRequest, Agents
from wfe_executor.attempts import Attempt, End, LeaseLost
from wfe_executor.calls import CallRequest, Calls
from wfe_executor.http import HttpRequest, run_http
from wfe_executor.inputs import request_of, unsealed_request
from wfe_executor.link import Link
from wfe_executor.mcp import Mcp, McpRequest
from wfe_executor.outputs import StepFailed, encoded, failure
from wfe_executor.results import settled

_log = structlog.get_logger("wfe.executor.runner")
_decode_any = msgspec.json.Decoder().decode


class _Kind:
    """How steps of one kind are run."""

    __slots__ = ("decode", "request", "run")

    def __init__(self, request: type[Any], run: Callable[[Attempt, Any], Awaitable[bytes | Failure]]) -> None:
        self.request = request
        self.decode = msgspec.json.Decoder(request).decode
        self.run = run


class Runner:
    """Runs attempts of every kind."""

    def __init__(self, link: Link, calls: Calls, session: GuardedSession, mcp: Mcp) -> None:
        self._link = link
        self._kinds = {
            "call": _Kind(CallRequest, calls.run),
            "http": _Kind(HttpRequest, partial(run_http, session)),
            "mcp": _Kind(McpRequest, mcp.run),
            "model": _Kind(AgentRequest, Agents(session, mcp).run),
        }

    async def run(self, attempt: Attempt) -> bytes | StoredOutput | Failure | End:
        """Run one attempt; the output is JSON that passed the gate. Raises only CancelledError."""
        end = await self._end(attempt)
        if not isinstance(end, bytes):
            return end
        try:
            return await settled(self._link, attempt, end)
        except LeaseLost:
            return End.LOST

    async def _end(self, attempt: Attempt) -> bytes | Failure | End:
        try:
            end = await self._run(attempt)
        except StepFailed as error:
            end = error.failure
        except LeaseLost:
            return End.LOST
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            end = failure("REQUEST_INVALID", f"the step's request cannot be read: {error}", retryable=False)
        except Exception as error:  # noqa: BLE001 - a fault of the executor must not take the loop with it
            trace = "".join(traceback.format_exception(error))
            if attempt.redactor is not None:
                trace = attempt.redactor.text(trace)
            _log.error("the executor failed a step", **attempt.facts, exception=trace)
            end = failure("EXECUTOR_ERROR", f"the executor failed: {type(error).__name__}")
        return _redacted(attempt, end) if attempt.redactor is not None else end

    async def _run(self, attempt: Attempt) -> bytes | Failure:
        lease = attempt.lease
        runner = self._kinds.get(lease.kind)
        if runner is None:
            return failure("UNKNOWN_KIND", f"this executor cannot run steps of kind {lease.kind!r}", retryable=False)
        request = lease.request
        if request is None or lease.sealed or lease.digest:
            return await self._run_prepared(attempt, runner)
        return await runner.run(attempt, runner.decode(request))

    async def _run_prepared(self, attempt: Attempt, runner: _Kind) -> bytes | Failure:
        """The same for a request that is not all there yet."""
        request = await request_of(self._link, attempt)
        _check_approval(attempt.lease, request)
        if attempt.lease.sealed:
            parsed = msgspec.convert(await unsealed_request(self._link, attempt, request), runner.request)
        else:
            parsed = runner.decode(request)
        if attempt.verdict is not None:
            raise asyncio.CancelledError  # swallowed on the way here by somebody
        return await runner.run(attempt, parsed)


def _check_approval(lease: Lease, request: bytes) -> None:
    """Nothing else runs than what was approved: the digest is made anew, of what is about to run.

    Raises:
        StepFailed: It is something else.
    """
    if not lease.digest:
        return
    run = str(UUID(bytes=lease.run))
    if approval_digest(run, lease.path, lease.iteration, lease.kind, _decode_any(request)) != lease.digest:
        text = f"what is about to run is not what approval {lease.approval} approved"
        raise StepFailed(failure("APPROVAL_MISMATCH", text, retryable=False))


def _redacted(attempt: Attempt, end: bytes | Failure) -> bytes | Failure:
    assert attempt.redactor is not None
    if isinstance(end, Failure):
        return attempt.redactor.failure(end)
    return encoded(attempt.redactor.value(_decode_any(end)))
