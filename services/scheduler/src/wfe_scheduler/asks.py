"""What approvals asks for over the bus, on behalf of a principal it has made sure of: starts and signals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from wfe_bus import subjects
from wfe_bus.asks import Answered, SendSignal, StartRun
from wfe_bus.messages import decoder, encode
from wfe_engine.errors import InvalidInput, Unavailable, WfeError
from wfe_servicekit.calls import Caller
from wfe_servicekit.telemetry.tracing import span

from wfe_scheduler.api.engine import StartOptions
from wfe_scheduler.engine import Engine

_log = structlog.get_logger("wfe.scheduler.asks")
_start = decoder(StartRun).decode
_signal = decoder(SendSignal).decode
_input = msgspec.json.Decoder(dict[str, Any]).decode


class Asks:
    """Serves the subjects of starts and signals."""

    def __init__(self, bus: Client, engine: Engine) -> None:
        self._bus = bus
        self._engine = engine
        self._tasks: set[asyncio.Task[None]] = set()

    async def subscribe(self) -> None:
        """Begin to listen."""
        for subject, act in ((subjects.START, self._start), (subjects.SIGNAL, self._signal)):
            await self._bus.subscribe(subject, queue=subjects.SCHEDULERS, cb=self._taking(act))

    def _taking(self, act: Callable[[bytes], Awaitable[UUID]]) -> Callable[[Msg], Awaitable[None]]:
        async def take(message: Msg) -> None:
            # What is asked waits for its commit; the subscription must not wait with it.
            task = asyncio.create_task(self._answer(message, act))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return take

    async def _answer(self, message: Msg, act: Callable[[bytes], Awaitable[UUID]]) -> None:
        try:
            answer = Answered(run=(await act(message.data)).bytes)
        except Unavailable:
            return  # unanswered: whoever asked tells its caller to try again
        except WfeError as refusal:
            answer = Answered(
                refusal=type(refusal).__name__,
                reason=refusal.reason,
                message=refusal.message,
                violations=tuple((v.field, v.message) for v in refusal.violations)
                if isinstance(refusal, InvalidInput)
                else (),
            )
        except Exception:  # noqa: BLE001 - one message must not end the subscription
            _log.exception("ask_failed")
            return
        await message.respond(encode(answer))

    async def _start(self, data: bytes) -> UUID:
        asked = _start(data)
        with _under(asked):
            started = await self._engine.start(
                _caller(asked.owner, asked.principal),
                UUID(bytes=asked.template),
                asked.version,
                _input(asked.input),
                {},
                asked.key,
                asked.key_hash,
                StartOptions(trigger=asked.trigger),
            )
        return started.run_id

    async def _signal(self, data: bytes) -> UUID:
        asked = _signal(data)
        run = UUID(bytes=asked.run)
        caller = _caller(asked.owner, asked.principal)
        with _under(asked):
            await self._engine.signal(caller, run, asked.name, asked.payload, "", asked.key)
        return run


def _under(asked: StartRun | SendSignal) -> AbstractContextManager[object]:
    """A span of the trace of whoever asks."""
    return span(type(asked).__name__, asked.traceparent) if asked.traceparent else nullcontext()


def _caller(owner: bytes, principal: bytes) -> Caller:
    return Caller(
        owner_id=UUID(bytes=owner),
        owner="",
        principal_id=UUID(bytes=principal),
        principal="",
        kind="service",
        roles=frozenset({"operator"}),
        groups=frozenset(),
    )
