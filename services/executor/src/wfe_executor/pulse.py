"""Heartbeats and claims, and what follows when they are no longer answered."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import structlog
from wfe_bus import messages, subjects
from wfe_bus.messages import Claim, Heartbeat, HeartbeatAnswer, Progress

from wfe_executor.clock import StoreClock
from wfe_executor.link import BUS_ERRORS, Link
from wfe_executor.outputs import encoded_progress
from wfe_executor.slots import Slots

#: Length of a lease until a scheduler says otherwise, in seconds.
LEASE_SECONDS = 15.0

#: Work is stopped this long before its lease ends, at most, in seconds.
MARGIN_SECONDS = 2.0

#: Progress in one heartbeat, in bytes; the rest goes with the next.
PROGRESS_BYTES = 400_000

_ANSWER_SECONDS = 5.0
_RETRY_SECONDS = 1.0

_log = structlog.get_logger("wfe.executor.pulse")
_answer = messages.decoder(HeartbeatAnswer)
_raw = msgspec.json.Encoder().encode


class Pulse:
    """Says every `period` seconds that this executor lives, what it holds and how much room it has."""

    def __init__(
        self,
        link: Link,
        slots: Slots,
        clock: StoreClock,
        *,
        period: float,
        name: str,
        queues: tuple[str, ...],
        handlers: tuple[str, ...],
    ) -> None:
        self._link = link
        self._slots = slots
        self._clock = clock
        self._period = period
        self._name = name
        self._queues = queues
        self._handlers = handlers
        self._generation = 0
        self._lease_seconds = LEASE_SECONDS
        self._answered = time.monotonic()
        self._failing = False
        self._lapse: asyncio.TimerHandle | None = None
        self._claim: asyncio.TimerHandle | None = None
        self._claims: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.stopping = False

    @property
    def healthy(self) -> bool:
        """Whether a heartbeat was answered within the length of a lease."""
        return not self._failing and time.monotonic() - self._answered < self._lease_seconds

    def start(self) -> None:
        """Begin; the first heartbeat goes at once."""
        self._task = asyncio.create_task(self._run())

    def nudge(self) -> None:
        """Send the next heartbeat and claim now."""
        self._wake.set()

    def claim_soon(self) -> None:
        """Send a claim in a moment; many calls make one claim."""
        if self._claim is None and not self.stopping:
            self._claim = asyncio.get_running_loop().call_later(0.02, self._start_claim)

    async def stop(self) -> None:
        """Say that this executor takes nothing new. The heartbeats go on until `close`."""
        self.stopping = True
        await self._send_claim()
        self.nudge()

    async def close(self) -> None:
        """End the heartbeats."""
        for handle in (self._lapse, self._claim):
            if handle is not None:
                handle.cancel()
        tasks = [*self._claims, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                answered = await self._beat()
            except Exception as error:  # noqa: BLE001 - the pulse must not stop while the process lives
                _log.error("heartbeat", exc_info=error)
                answered = False
            pause = self._period if answered else min(self._period, _RETRY_SECONDS)
            try:
                await asyncio.wait_for(self._wake.wait(), pause)
            except TimeoutError:
                continue

    async def _beat(self) -> bool:
        """One heartbeat and one claim; whether the heartbeat was answered."""
        if self._link.closed:
            _log.warning("the bus closed the connection; opening it again")
            await self._link.open()
        sent = time.monotonic()
        asked = asyncio.ensure_future(
            self._link.request(subjects.HEARTBEAT, messages.encode(self._heartbeat()), self._patience())
        )
        try:
            await self._send_claim()
            answer = _answer.decode(await asked)
        except (*BUS_ERRORS, msgspec.DecodeError) as error:
            if not self._failing:
                _log.warning("heartbeat not answered", error=repr(error))
            self._failing = True
            self._watch()
            return False
        finally:
            asked.cancel()
        if self._failing:
            _log.info("heartbeats are answered again")
        self._failing = False
        self._answered = sent
        self._lease_seconds = max(0.1, answer.lease_seconds)
        self._clock.observe(answer.now)
        self._slots.lose(answer.lost, "heartbeat")
        self._watch()
        return True

    def _patience(self) -> float:
        return max(1.0, min(self._period, _ANSWER_SECONDS))

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            executor=self._link.executor,
            name=self._name,
            queues=self._queues,
            held=tuple(attempt.ref for attempt in self._slots),
            progress=tuple(self._progress()),
            stopping=self.stopping,
            handlers=self._handlers,
        )

    def _progress(self) -> list[Progress]:
        said = []
        free = PROGRESS_BYTES
        for attempt in self._slots:
            if attempt.told or attempt.ended:
                continue
            data = progress_of(attempt.progress, attempt.redactor)
            if isinstance(data, str):
                _log.warning("progress dropped", why=data, **attempt.facts)
            elif len(data) > free:
                continue
            else:
                free -= len(data)
                lease = attempt.lease
                said.append(Progress(run=lease.run, no=lease.no, fence=lease.fence, progress=data))
            attempt.told = True
        return said

    def _start_claim(self) -> None:
        self._claim = None
        task = asyncio.create_task(self._send_claim())
        self._claims.add(task)
        task.add_done_callback(self._claims.discard)

    async def _send_claim(self) -> None:
        self._generation += 1
        claim = Claim(
            executor=self._link.executor,
            queues=self._queues,
            generation=self._generation,
            room=self._slots.claim(),
        )
        await self._link.publish(subjects.CLAIM, claim)

    def _watch(self) -> None:
        """Stop work before its lease ends unless another heartbeat is answered until then."""
        if self._lapse is not None:
            self._lapse.cancel()
        delay = max(0.05, self._answered + self._safe_seconds() - time.monotonic())
        self._lapse = asyncio.get_running_loop().call_later(delay, self._lapsed)

    def _safe_seconds(self) -> float:
        return self._lease_seconds - min(MARGIN_SECONDS, self._lease_seconds / 5)

    def _lapsed(self) -> None:
        # Leases that arrived since the last answer are younger than it; outcomes that wait for an answer are
        # kept, as the fence decides about them.
        limit = time.monotonic() - self._safe_seconds()
        if self._answered <= limit:
            old = [a.ref for a in self._slots if a.accepted <= limit and a.outcome is None]
            if old:
                _log.error("no heartbeat was answered for the length of a lease: work stops", leases=len(old))
                self._slots.lose(old, "no heartbeat")
        self._watch_again()

    def _watch_again(self) -> None:
        self._lapse = asyncio.get_running_loop().call_later(
            max(0.05, self._safe_seconds() / 10), self._lapsed
        )


def progress_of(value: Any, redactor: Any) -> bytes | str:
    """Progress as JSON without sealed values, or why it cannot be shown."""
    if isinstance(value, msgspec.Raw):  # from a worker, which checked it
        if redactor is None:
            return bytes(value)
        value = msgspec.json.decode(value)
    data = encoded_progress(value)
    if redactor is None or isinstance(data, str):
        return data
    return encoded_progress(redactor.value(msgspec.json.decode(data)))
