"""Starts that other services ask for over the bus, on behalf of a principal they have made sure of."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from wfe_bus import messages as m
from wfe_bus import subjects
from wfe_engine.errors import InvalidInput, Unavailable, WfeError
from wfe_servicekit.calls import Caller

from wfe_scheduler.engine import Engine

_log = structlog.get_logger("wfe.scheduler.starts")
_ask = m.decoder(m.StartRun).decode
_input = msgspec.json.Decoder(dict[str, Any]).decode


class Starts:
    """Serves the subject of starts."""

    def __init__(self, bus: Client, engine: Engine) -> None:
        self._bus = bus
        self._engine = engine
        self._tasks: set[asyncio.Task[None]] = set()

    async def subscribe(self) -> None:
        """Begin to listen."""
        await self._bus.subscribe(subjects.START, queue=subjects.SCHEDULERS, cb=self._on_start)

    async def _on_start(self, message: Msg) -> None:
        # A start waits for its commit; the subscription must not wait with it.
        task = asyncio.create_task(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Msg) -> None:
        try:
            answer = m.Started(run=(await self._start(_ask(message.data))).bytes)
        except Unavailable:
            return  # unanswered: whoever asked tells its caller to try again
        except WfeError as refusal:
            answer = m.Started(
                refusal=type(refusal).__name__,
                reason=refusal.reason,
                message=refusal.message,
                violations=tuple((v.field, v.message) for v in refusal.violations)
                if isinstance(refusal, InvalidInput)
                else (),
            )
        except Exception:  # noqa: BLE001 - one message must not end the subscription
            _log.exception("start_failed")
            return
        await message.respond(m.encode(answer))

    async def _start(self, asked: m.StartRun) -> UUID:
        caller = Caller(
            owner_id=UUID(bytes=asked.owner),
            owner="",
            principal_id=UUID(bytes=asked.principal),
            principal="",
            kind="service",
            roles=frozenset({"operator"}),
            groups=frozenset(),
        )
        started = await self._engine.start(
            caller,
            UUID(bytes=asked.template),
            asked.version,
            _input(asked.input),
            {},
            asked.key,
            asked.key_hash,
            trigger=asked.trigger,
        )
        return started.run_id
