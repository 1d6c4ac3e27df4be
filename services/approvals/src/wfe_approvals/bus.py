"""The bus: tells schedulers of decisions, asks them for starts and signals, and answers pings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from wfe_bus import subjects
from wfe_bus.asks import Answered, SendSignal, StartRun
from wfe_bus.connection import connect
from wfe_bus.messages import RunChanged, decoder, encode
from wfe_engine import errors
from wfe_servicekit.calls import call_var
from wfe_servicekit.telemetry.tracing import current_traceparent
from wfe_store.gates import Decision

from wfe_approvals.config import ApprovalsSettings

#: Seconds between attempts to connect for the first time.
RETRY_SECONDS = 1.0
#: Seconds a message may wait for the connection's buffer.
PUBLISH_SECONDS = 0.5

#: Seconds a scheduler may take to answer a start or a signal.
ASK_SECONDS = 15.0

_answered = decoder(Answered).decode
_log = structlog.get_logger("wfe.bus")


class Bus:
    """The connection to NATS, which may come late and may go."""

    def __init__(self, settings: ApprovalsSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._first = asyncio.Event()

    async def run(self) -> None:
        """Connect, however long it takes, and stay connected until cancelled."""
        client = await self._connect()
        try:
            await client.subscribe(subjects.ping("approvals"), cb=_answer)
            self._client = client
            self._first.set()
            await asyncio.Event().wait()
        finally:
            self._client = None
            await client.close()

    async def ping(self) -> None:
        """Raise when there is no connection now.

        Raises:
            ConnectionError: There is none.
        """
        if self._client is None or not self._client.is_connected:
            raise ConnectionError("no connection to NATS")

    async def reached(self) -> None:
        """Wait for the first connection, which begins with the process; later as `ping`.

        Raises:
            ConnectionError: There is no connection now.
        """
        await self._first.wait()
        await self.ping()

    async def tell(self, decisions: Iterable[Decision]) -> None:
        """Tell all schedulers of decisions.

        Never fails: what is lost, the search for the untold tells again.
        """
        traceparent = _traceparent()
        for decision in decisions:
            message = RunChanged(
                run=decision.run_id.bytes,
                gate=decision.gate_id.bytes,
                version=decision.version,
                traceparent=traceparent,
            )
            try:
                await self.ping()
                assert self._client is not None
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await self._client.publish(subjects.RUN, encode(message))
            except (nats.errors.Error, OSError, TimeoutError) as fault:
                _log.debug("decision_not_told", run=str(decision.run_id), fault=type(fault).__name__)
                return

    async def ask(self, asked: StartRun | SendSignal) -> bytes:
        """Ask a scheduler for a run, or for a signal to one; gives the run's id. Safe to repeat with the same key.

        Raises:
            WfeError: The scheduler refuses, and says why.
            Unavailable: None answered. It may have been done all the same.
        """
        subject = subjects.START if isinstance(asked, StartRun) else subjects.SIGNAL
        asked = msgspec.structs.replace(asked, traceparent=_traceparent())
        try:
            await self.ping()
            assert self._client is not None
            answer = _answered((await self._client.request(subject, encode(asked), timeout=ASK_SECONDS)).data)
        except (nats.errors.Error, OSError, TimeoutError) as fault:
            raise errors.Unavailable("no scheduler answers; try again", reason="NO_SCHEDULER") from fault
        if answer.run:
            return answer.run
        if answer.refusal == "InvalidInput":
            raise errors.InvalidInput([errors.Violation(*each) for each in answer.violations], reason=answer.reason)
        kind = getattr(errors, answer.refusal, errors.StateConflict)
        raise kind(answer.message, reason=answer.reason)

    async def _connect(self) -> Client:
        password = self._settings.nats_password
        while True:
            try:
                return await connect(
                    self._settings.nats_url,
                    role="approvals",
                    name="wfe-approvals",
                    user=self._settings.nats_user,
                    password=password.get_secret_value() if password else None,
                    ca=self._settings.nats_ca,
                    on_error=_note,
                )
            except (nats.errors.Error, OSError) as fault:
                _log.warning("bus_not_connected", fault=type(fault).__name__)
                await asyncio.sleep(RETRY_SECONDS)


def _traceparent() -> str:
    """What the present call goes on under."""
    call = call_var.get()
    return current_traceparent(None if call is None else call.header("traceparent"))


async def _answer(message: Msg) -> None:
    await message.respond(b"ok")


async def _note(fault: Exception) -> None:
    _log.warning("bus_fault", fault=type(fault).__name__)
