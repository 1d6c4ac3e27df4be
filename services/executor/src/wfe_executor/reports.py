"""Reports outcomes in batches: what ended while the last reports were under way travels together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec
import nats.errors
import structlog
from wfe_bus import messages, subjects
from wfe_bus.messages import Leases, Outcome, Report, Reported

from wfe_executor.attempts import Attempt
from wfe_executor.link import ASK_SECONDS, BUS_ERRORS, Link, backoff
from wfe_executor.outputs import failure

#: Report requests at one time; more outcomes wait and make the next batch larger.
IN_FLIGHT = 8

#: Outcomes in one report at most, and the bytes a message has besides its outcomes.
BATCH = 500
_ENVELOPE_BYTES = 2_000
_OUTCOME_BYTES = 120

_log = structlog.get_logger("wfe.executor.reports")
_reported = messages.decoder(Reported)


class Reporter:
    """Sends every outcome until a scheduler answers it; repeating one is harmless, the fence sees to that.

    Args:
        link: The bus.
        queues: Queues this executor serves.
        room: How many more steps to ask for with a report; what it gives counts as asked for.
        settled: Called with every attempt whose outcome was answered.
        accept: Called with the leases an answer carries.
        stirred: Called when a report did not get through at once, as claims may be lost as well.
    """

    def __init__(
        self,
        link: Link,
        queues: tuple[str, ...],
        *,
        room: Callable[[], int],
        settled: Callable[[Attempt], None],
        accept: Callable[[Leases], None],
        stirred: Callable[[], None],
    ) -> None:
        self._link = link
        self._queues = queues
        self._room = room
        self._settled = settled
        self._accept = accept
        self._stirred = stirred
        self._waiting: dict[str, deque[Attempt]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._kicked = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, attempt: Attempt) -> None:
        """Report an attempt's outcome soon."""
        self._idle.clear()
        self._waiting.setdefault(attempt.scheduler, deque()).append(attempt)
        if not self._kicked and len(self._sending) < IN_FLIGHT:
            self._kicked = True
            # After the callbacks that are ready now: steps that end together are reported together.
            asyncio.get_running_loop().call_soon(self._flush)

    async def idle(self) -> None:
        """Wait until everything was answered."""
        await self._idle.wait()

    async def close(self) -> None:
        """Give up what was not answered."""
        self._closed = True
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _flush(self) -> None:
        self._kicked = False
        if self._closed:
            return
        while self._waiting and len(self._sending) < IN_FLIGHT:
            scheduler = next(iter(self._waiting))
            waiting = self._waiting.pop(scheduler)
            batch = self._batch(waiting)
            if waiting:
                self._waiting[scheduler] = waiting  # behind the others
            if batch:
                task = asyncio.create_task(self._send(scheduler, batch))
                self._sending.add(task)
                task.add_done_callback(self._sent)
        if not self._sending and not self._waiting:
            self._idle.set()

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a report was lost", exc_info=task.exception())
        self._flush()

    def _batch(self, waiting: deque[Attempt]) -> list[Attempt]:
        """As many as fit a message; at least one."""
        batch: list[Attempt] = []
        free = self._link.message_bytes - _ENVELOPE_BYTES
        while waiting and len(batch) < BATCH:
            outcome = waiting[0].outcome
            if outcome is None:  # its lease was lost meanwhile
                waiting.popleft()
                continue
            free -= _size(outcome)
            if free < 0 and batch:
                break
            batch.append(waiting.popleft())
        return batch

    async def _send(self, scheduler: str, batch: list[Attempt]) -> None:
        subject, room, tries = subjects.report_to(scheduler), self._room(), 0
        while batch := [one for one in batch if one.outcome is not None and not self._closed]:
            outcomes = tuple(attempt.outcome for attempt in batch if attempt.outcome is not None)
            report = Report(executor=self._link.executor, queues=self._queues, outcomes=outcomes, room=room)
            try:
                answer = _reported.decode(await self._link.request(subject, messages.encode(report), ASK_SECONDS))
            except nats.errors.MaxPayloadError:
                for attempt in batch:
                    _shrink(attempt)
                continue
            except (*BUS_ERRORS, msgspec.DecodeError) as error:
                # The scheduler that leased them may be gone: any other will do. Nobody knows whether the room
                # arrived, so it is not offered twice; the next claim says it anew.
                first = subject != subjects.REPORT
                subject, room = subjects.REPORT, 0
                if not (first and isinstance(error, nats.errors.NoRespondersError)):
                    _log.debug("reporting again", outcomes=len(batch), error=repr(error))
                    await asyncio.sleep(backoff(tries))
                tries += 1
                continue
            for attempt in batch:
                self._settled(attempt)
            if answer.leases is not None:
                self._accept(answer.leases)
            break
        if tries:
            self._stirred()


def _size(outcome: Outcome) -> int:
    size = _OUTCOME_BYTES
    if outcome.output is not None:
        size += len(outcome.output)
    if outcome.failure is not None:
        size += len(messages.encode(outcome.failure))
    return size


def _shrink(attempt: Attempt) -> None:
    """The server takes less than it said: the step fails rather than being sent for ever."""
    old = attempt.outcome
    if old is None or (old.output is None and not (old.failure and old.failure.details)):
        return
    why = failure("OUTPUT_TOO_LARGE", "the bus does not carry an output of this size", retryable=False)
    attempt.outcome = Outcome(run=old.run, no=old.no, fence=old.fence, failure=why, started_at=old.started_at)
