"""What this executor holds: leases that wait, run and are being reported, and the room for more."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

import structlog
from wfe_bus.messages import Failure, LeaseRef, Leases, Outcome, StoredOutput

from wfe_executor.attempts import Attempt, End, Key
from wfe_executor.clock import StoreClock
from wfe_executor.outputs import failure

#: Seconds a cancelled handler may take to end; then it is left behind and its result dropped.
ABANDON_SECONDS = 5.0

#: Leases that are over are remembered so many: a message that comes twice must not run one of them again.
REMEMBERED = 10_000

_log = structlog.get_logger("wfe.executor.slots")


class Slots:
    """All leases of this process.

    Args:
        limit: Steps that run at one time; as many again may wait (a scheduler leased more than there was room
            for), what comes beyond is given back.
        clock: The run store's clock.
        run: Runs an attempt to its end; gives the output's JSON or the failure. Raises only CancelledError.
        report: Takes an attempt whose outcome is set.
        grown: Called when there is more room that no report tells of.
    """

    def __init__(
        self,
        limit: int,
        clock: StoreClock,
        *,
        run: Callable[[Attempt], Coroutine[Any, Any, bytes | StoredOutput | Failure | End]],
        report: Callable[[Attempt], None],
        grown: Callable[[], None],
    ) -> None:
        self.abandon_seconds = ABANDON_SECONDS
        self._limit = limit
        self._clock = clock
        self._run = run
        self._report = report
        self._grown = grown
        self._held: dict[Key, Attempt] = {}
        self._over: OrderedDict[Key, int] = OrderedDict()
        self._waiting: deque[Attempt] = deque()
        self._running = 0
        self._credit = 0
        self._draining = False
        self._left_behind: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    def __iter__(self) -> Iterator[Attempt]:
        """Every attempt whose lease is held, as far as anybody here knows."""
        return (attempt for attempt in self._held.values() if attempt.verdict is not End.LOST)

    @property
    def running(self) -> int:
        """Steps that run now."""
        return self._running

    def claim(self) -> int:
        """The room there is in all, for a claim; replaces what was offered before."""
        self._credit = 0 if self._draining else max(0, self._limit - self._running - len(self._waiting))
        return self._credit

    def offer(self) -> int:
        """The room that was not offered yet, for a report; counts as offered now."""
        if self._draining:
            return 0
        more = max(0, self._limit - self._running - len(self._waiting) - self._credit)
        self._credit += more
        return more

    def accept(self, leases: Leases) -> None:
        """Take leases: run them, or let them wait for a slot."""
        self._clock.observe(leases.now)
        self._credit = max(0, self._credit - len(leases.leases))
        for lease in leases.leases:
            attempt = Attempt(lease, leases.scheduler, self._clock)
            if self._over.get(attempt.key, -1) >= lease.fence:
                continue  # the same message twice, and late
            old = self._held.get(attempt.key)
            if old is not None:
                if old.lease.fence >= lease.fence:
                    continue  # the same message twice
                self._lose(old)
            self._held[attempt.key] = attempt
            if self._draining or len(self._waiting) >= self._limit:
                self._settle(attempt, End.RELEASED)
            elif self._running < self._limit:
                self._start(attempt)
            else:
                self._waiting.append(attempt)

    def lose(self, refs: Iterable[LeaseRef], why: str) -> None:
        """These leases are over: stop the work at once and report nothing."""
        for ref in refs:
            attempt = self._held.get((ref.run, ref.no))
            if attempt is not None and attempt.lease.fence <= ref.fence and attempt.verdict is not End.LOST:
                _log.info("lease lost", why=why, **attempt.facts)
                self._lose(attempt)

    def settled(self, attempt: Attempt) -> None:
        """A scheduler answered the attempt's report."""
        attempt.outcome = None
        self._drop(attempt)

    async def drain(self, seconds: float) -> None:
        """Take nothing new, let running steps finish for so many seconds, then give the rest back."""
        self._draining = True
        while self._waiting:
            self._settle(self._waiting.popleft(), End.RELEASED)
        if not await self._wait_quiet(seconds):
            self.abandon_seconds = min(self.abandon_seconds, 1.0)
            for attempt in [one for one in self if one.task is not None and one.verdict is None]:
                _log.info("giving a step back", **attempt.facts)
                self._end(attempt, End.RELEASED)
            await self._wait_quiet(self.abandon_seconds + 1)

    async def close(self) -> bool:
        """Stop everything without a report; whether all of it ended."""
        self._draining = True
        tasks = self._left_behind | {one.task for one in self._held.values() if one.task is not None}
        for attempt in list(self._held.values()):
            self._lose(attempt)
        for task in self._left_behind:
            task.cancel()
        return not tasks or not (await asyncio.wait(tasks, timeout=1.0))[1]

    async def _wait_quiet(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._quiet.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _start(self, attempt: Attempt) -> None:
        late = attempt.overdue()
        if late is not None:
            self._settle(attempt, late)
            return
        self._running += 1
        self._quiet.clear()
        attempt.watch(self._expired)
        attempt.task = asyncio.get_running_loop().create_task(self._live(attempt))

    async def _live(self, attempt: Attempt) -> None:
        end: bytes | StoredOutput | Failure | End
        try:
            end = await self._run(attempt)
        except asyncio.CancelledError:
            end = failure("HANDLER_ERROR", "the handler was cancelled from within")
        self._finish(attempt, end)

    def _finish(self, attempt: Attempt, end: bytes | StoredOutput | Failure | End) -> None:
        if attempt.ended:
            return  # it was left behind, and this is its late result
        attempt.task = None
        self._running -= 1
        self._settle(attempt, attempt.verdict or end)
        while self._waiting and self._running < self._limit:
            self._start(self._waiting.popleft())
        if not self._running:
            self._quiet.set()

    def _settle(self, attempt: Attempt, end: bytes | StoredOutput | Failure | End) -> None:
        """The work is over: report it, unless the lease is lost."""
        attempt.ended = True
        attempt.close()
        if end is End.LOST:
            self._drop(attempt)
            self._grown()
            return
        lease = attempt.lease
        attempt.outcome = Outcome(
            run=lease.run,
            no=lease.no,
            fence=lease.fence,
            output=end if isinstance(end, bytes) else None,
            stored=end if isinstance(end, StoredOutput) else None,
            failure=end if isinstance(end, Failure) else None,
            released=end is End.RELEASED,
            started_at=attempt.started_at or self._clock.now(),
        )
        self._report(attempt)

    def _drop(self, attempt: Attempt) -> None:
        if self._held.get(attempt.key) is attempt:
            del self._held[attempt.key]
        self._over[attempt.key] = max(attempt.lease.fence, self._over.pop(attempt.key, -1))
        if len(self._over) > REMEMBERED:
            self._over.popitem(last=False)

    def _lose(self, attempt: Attempt) -> None:
        if attempt.task is not None:
            self._end(attempt, End.LOST)
            return
        attempt.verdict, attempt.outcome, attempt.ended = End.LOST, None, True
        if attempt in self._waiting:
            self._waiting.remove(attempt)
            self._grown()
        self._drop(attempt)

    def _expired(self, attempt: Attempt, why: Failure) -> None:
        if attempt.verdict is None:
            self._end(attempt, why)

    def _end(self, attempt: Attempt, verdict: Failure | End) -> None:
        """Cancel the work; how it must end is decided now, and again only for a lost lease."""
        first, attempt.verdict = attempt.verdict is None, verdict
        task = attempt.task
        if not first or task is None:
            return
        # Also for a task that is cancelled before its first step, whose own code then never runs.
        task.add_done_callback(lambda _: self._finish(attempt, End.LOST))
        attempt.close()
        if attempt.context is not None:
            attempt.context.cancelled = True
        task.cancel()
        asyncio.get_running_loop().call_later(self.abandon_seconds, self._abandon, attempt, task)

    def _abandon(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        if attempt.ended:
            return
        _log.warning("a handler does not end when cancelled; it is left behind", **attempt.facts)
        self._left_behind.add(task)
        task.add_done_callback(self._left_behind.discard)
        self._finish(attempt, End.LOST)
