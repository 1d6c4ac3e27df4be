"""Heartbeats and claims, and what follows when they are no longer answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
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

_RETRY_SECONDS = 1.0

_log = structlog.get_logger("wfe.executor.pulse")
_answer = messages.decoder(HeartbeatAnswer)


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
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.stopping = False

    @property
    def healthy(self) -> bool:
        """Whether a heartbeat was answered within the length of a lease."""
        return time.monotonic() - self._answered < self._lease_seconds

    def start(self) -> None:
        """Begin; the first heartbeat goes at once."""
        self._answered = time.monotonic()
        self._watch()
        self._task = asyncio.create_task(self._run())

    def nudge(self) -> None:
        """Send the next heartbeat and claim now."""
        self._wake.set()

    def claim_soon(self) -> None:
        """Send a claim in a moment; many calls make one claim."""
        if self._claim is None and not self.stopping and not self._closed:
            self._claim = asyncio.get_running_loop().call_later(0.02, self._start_claim)

    async def stop(self) -> None:
        """Say that this executor takes nothing new. The heartbeats go on until `close`."""
        self.stopping = True
        await self._send_claim()
        self.nudge()

    async def close(self) -> None:
        """End the heartbeats."""
        self._closed = True
        for handle in (self._lapse, self._claim):
            if handle is not None:
                handle.cancel()
        tasks = [*self._tasks, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            if self._link.closed:
                _log.warning("the bus closed the connection; opening it again")
                await self._link.open()
            # Not awaited: a slow answer is still an answer, and must not keep back the next heartbeat.
            self._spawn(self._beat())
            self._spawn(self._send_claim())
            try:
                await asyncio.wait_for(self._wake.wait(), self._period)
            except TimeoutError:
                continue

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beat(self) -> None:
        """One heartbeat and what its answer says."""
        sent = time.monotonic()
        payload = messages.encode(self._heartbeat())
        try:
            answer = _answer.decode(
                await self._link.request(subjects.HEARTBEAT, payload, max(1.0, self._lease_seconds))
            )
        except (*BUS_ERRORS, msgspec.DecodeError) as error:
            if not self._failing:
                _log.warning("heartbeat not answered", error=repr(error))
            self._failing = True
            self._watch()
            asyncio.get_running_loop().call_later(min(self._period, _RETRY_SECONDS), self.nudge)
            return
        if self._failing:
            _log.info("heartbeats are answered again")
        self._failing = False
        self._answered = max(self._answered, sent)
        self._lease_seconds = max(0.1, answer.lease_seconds)
        self._clock.observe(answer.now)
        self._slots.lose(answer.lost, "heartbeat")
        self._watch()

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
        self._spawn(self._send_claim())

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
        self._lapse = asyncio.get_running_loop().call_later(max(0.05, self._safe_seconds() / 10), self._lapsed)


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
