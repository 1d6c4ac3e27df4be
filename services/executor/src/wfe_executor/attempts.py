"""One lease in this process: its clocks, its task and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from wfe_bus.messages import Failure, Lease, LeaseRef, Outcome
from wfe_sdk import StepContext

from wfe_executor.clock import StoreClock
from wfe_executor.outputs import failure

if TYPE_CHECKING:
    from wfe_executor.sealed import Redactor

Key: TypeAlias = tuple[bytes, int]


_TOTAL = failure("TOTAL_TIMEOUT", "the step's total time is over", retryable=False)


class End(Enum):
    """Ends without a result."""

    LOST = "lost"
    RELEASED = "released"


class LeaseLost(Exception):
    """A scheduler said that the lease is no longer held."""


class Attempt:
    """One lease in this process, from its arrival to the answered report.

    Attributes:
        lease: What the scheduler sent.
        scheduler: Who sent it.
        accepted: When it arrived, by the monotonic clock.
        task: The task that runs it; None while it waits and after it ended.
        verdict: How it must end whatever the work does: the failure of a clock, or lost, or given back.
        outcome: What to report; None until it ended.
        ended: Nothing the work still does counts.
        context: What the handler sees; None for runners without one and before the start.
        redactor: Takes unsealed values out of everything that leaves; None when nothing was sealed.
        progress: What the handler said last; `told` once a heartbeat carried it.
    """

    __slots__ = (
        "_beat_at", "_clock", "_expire", "_started", "_timer", "accepted", "context", "ended", "lease",
        "outcome", "progress", "redactor", "scheduler", "started_at", "task", "told", "verdict",
    )  # fmt: skip

    def __init__(self, lease: Lease, scheduler: str, clock: StoreClock) -> None:
        self.lease = lease
        self.scheduler = scheduler
        self.accepted = time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.verdict: Failure | End | None = None
        self.outcome: Outcome | None = None
        self.ended = False
        self.context: StepContext | None = None
        self.redactor: Redactor | None = None
        self.progress: Any = None
        self.told = True
        self.started_at = 0.0
        self._clock = clock
        self._started = 0.0
        self._beat_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._expire: Callable[[Attempt, Failure], None] | None = None

    @property
    def key(self) -> Key:
        """The step it is an attempt of."""
        return self.lease.run, self.lease.no

    @property
    def ref(self) -> LeaseRef:
        """Its name in messages."""
        return LeaseRef(run=self.lease.run, no=self.lease.no, fence=self.lease.fence)

    @property
    def run_id(self) -> str:
        """UUID of the run, as text."""
        text = self.lease.run.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    @property
    def facts(self) -> dict[str, Any]:
        """What log lines about it carry; never a payload."""
        lease = self.lease
        facts = {"run": self.run_id, "step": lease.path, "attempt": lease.attempt, "fence": lease.fence}
        if lease.owner:
            facts["owner"] = lease.owner
        if lease.traceparent:
            facts["trace_id"] = lease.traceparent[3:35]
        return facts

    def watch(self, expire: Callable[[Attempt, Failure], None]) -> None:
        """Let `expire` be called once when a clock of the attempt runs out.

        The clock of the step as a whole is looked at before an attempt starts, and by the schedulers while it is under
        way: they know whether the run was paused meanwhile, which makes that clock end later.
        """
        self._expire = expire

    def overdue(self) -> Failure | None:
        """The failure of a step whose total time was over before its start; None while there is time."""
        return _TOTAL if self._total_due() <= time.monotonic() else None

    def begin(self) -> None:
        """The handler starts now: the attempt's own clocks run from here."""
        self._started = self._beat_at = time.monotonic()
        self.started_at = self._clock.now()
        if self.lease.attempt_timeout is not None or self.lease.heartbeat_timeout is not None:
            self._arm()

    def beat(self, progress: Any) -> None:
        """The handler said that it is alive."""
        self._beat_at = time.monotonic()
        if progress is not None:
            self.progress = progress
            self.told = False

    def deadline(self) -> float | None:
        """When a clock stops it at the latest, by this machine's clock in Unix time; None for never.

        A pause of the run makes it later, if it is the step's clock as a whole.
        """
        due = min(self._attempt_due(), self._total_due())
        return None if due == float("inf") else time.time() + due - time.monotonic()

    def close(self) -> None:
        """Stop the clocks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _attempt_due(self) -> float:
        span = self.lease.attempt_timeout
        return float("inf") if span is None or not self._started else self._started + span

    def _total_due(self) -> float:
        moment = self.lease.total_deadline
        return float("inf") if moment is None else self._clock.monotonic_at(moment)

    def _beat_due(self) -> float:
        span = self.lease.heartbeat_timeout
        # Only handlers can speak; for other kinds the attempt's own timeout is the clock.
        if span is None or not self._started or self.lease.kind != "call":
            return float("inf")
        return self._beat_at + span

    def _arm(self) -> None:
        self.close()
        due = min(self._attempt_due(), self._beat_due())
        if due != float("inf"):
            delay = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        # The loop's timers are rounded to milliseconds: one millisecond early counts as due.
        now = time.monotonic() + 0.001
        why = None
        if self._attempt_due() <= now:
            span = self.lease.attempt_timeout
            why = failure("ATTEMPT_TIMEOUT", f"the attempt took longer than {span:g} s")
        elif self._beat_due() <= now:
            span = self.lease.heartbeat_timeout
            why = failure("HEARTBEAT_TIMEOUT", f"the handler was silent for {span:g} s")
        if why is None:
            self._arm()
        elif self._expire is not None:
            self._expire(self, why)
