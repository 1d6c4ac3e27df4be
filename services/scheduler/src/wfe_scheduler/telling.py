"""After a commit: leases to executors, stops, nudges to watchers, timers. Nothing is told before its commit."""

from __future__ import annotations

import asyncio
from uuid import UUID

from nats.aio.client import Client
from wfe_bus import messages as m
from wfe_bus import subjects
from wfe_engine.state import ENDED

from wfe_scheduler.children import Children
from wfe_scheduler.clock import StoreClock
from wfe_scheduler.dispatcher import Dispatcher
from wfe_scheduler.executors import Executors
from wfe_scheduler.sweeper import Sweeper
from wfe_scheduler.watch import Watchers
from wfe_scheduler.work import Outcome

#: Timers due within this span are kept in memory as well; the sweep finds the others in time.
NEAR_SECONDS = 5.0


class Teller:
    """Tells whom a commit concerns. Everything told can be lost without harm; sweeps find it."""

    def __init__(
        self,
        bus: Client,
        clock: StoreClock,
        dispatcher: Dispatcher,
        executors: Executors,
        watchers: Watchers,
        sweeper: Sweeper,
        children: Children,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._dispatcher = dispatcher
        self._executors = executors
        self._watchers = watchers
        self._sweeper = sweeper
        self._children = children
        self._granted: dict[str, list[m.Lease]] = {}

    def committed(self, outcome: Outcome) -> None:
        """Called before the commands of a commit are answered."""
        self._granted = self._dispatcher.granted(outcome)
        self._children.committed(outcome)
        now = self._clock.now()
        elsewhere: dict[str, list[bytes]] = {}
        ended: set[bytes] = set()
        for work in outcome.works:
            run = work.entry.run
            over = work.state.status in ENDED
            self._watchers.nudge(run, ended=over)
            for scheduler in self._watchers.elsewhere(run, now):
                elsewhere.setdefault(scheduler, []).append(run.bytes)
                if over:
                    ended.add(run.bytes)
            for effects in work.effects:
                for no, due in effects.timers.items():
                    if due is not None and due - now < NEAR_SECONDS:
                        self._timer(run, no, due, now)
        for scheduler, runs in elsewhere.items():
            self._publish(
                subjects.moved_for(scheduler), m.Moved(runs=tuple(runs), ended=frozenset(ended.intersection(runs)))
            )
        stops: dict[tuple[str, str], list[m.LeaseRef]] = {}
        for lease in outcome.stopped:
            ref = m.LeaseRef(run=lease.run.bytes, no=lease.no, fence=lease.fence)
            stops.setdefault((lease.executor, lease.reason), []).append(ref)
        for (executor, reason), refs in stops.items():
            self._dispatcher.stop(executor, refs, reason)

    def answered(self, _outcome: Outcome) -> None:
        """Called after they were: reports are answered with the next leases, the rest of them is sent."""
        granted, self._granted = self._granted, {}
        self._executors.answer(granted)

    def _timer(self, run: UUID, no: int, due: float, now: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(max(0.0, due - now) + 0.001, self._sweeper.timer, run, no, due)

    def _publish(self, subject: str, message: m.Message) -> None:
        task = asyncio.ensure_future(self._bus.publish(subject, m.encode(message)))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
