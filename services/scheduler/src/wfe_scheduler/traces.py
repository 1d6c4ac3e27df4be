"""The trace of each run: begun by the call that started it, carried to executors with every lease.

The trace context lies in a table of its own, written after the commit and only while tracing is on: a lost row costs
a trace, never a run. A run that goes on an hour after it was started, or later, goes on in a new trace that links to
the first one: traces that stay open for weeks are of no use to anybody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from uuid import UUID

import structlog
from wfe_engine.errors import Unavailable
from wfe_engine.state import ENDED, is_parked
from wfe_servicekit.calls import call_var
from wfe_servicekit.telemetry.tracing import current_traceparent, open_span, sampled, tracing
from wfe_store.pool import Database
from wfe_store.traces import load_traces, save_traces

from wfe_scheduler.clock import StoreClock
from wfe_scheduler.work import Outcome

#: Age of a run from which on it goes on in a trace of its own.
LINK_SECONDS = 3600.0
#: Age of a run from which on a context that is not in the store will never be: it is not looked up again.
SAVED_SECONDS = 5.0
#: Runs whose context is kept in memory; empty for those that have none.
MOST_KNOWN = 50_000
#: Calls whose commits are awaited; those of runs that nothing came of are forgotten.
MOST_CAUSES = 5_000

_log = structlog.get_logger("wfe.scheduler.traces")


class Traces:
    """Trace contexts by run. While tracing is off everything here does nothing.

    Attributes:
        on_unsaved: Called after a commit that brought contexts to save: webhooks' deliveries, which are at most a few
            hundred milliseconds behind, look for them in the store.
    """

    def __init__(self, database: Database, clock: StoreClock) -> None:
        self._database = database
        self._clock = clock
        self._known: OrderedDict[UUID, str] = OrderedDict()
        self._unsaved: dict[UUID, str] = {}
        self._causes: OrderedDict[UUID, str] = OrderedDict()
        self.on_unsaved: Callable[[], None] = lambda: None

    def begin(self, run: UUID) -> None:
        """A run is about to be started by the present call."""
        if tracing():
            call = call_var.get()
            traceparent = current_traceparent(None if call is None else call.header("traceparent"))
            if traceparent:
                self._keep(run, traceparent)

    def caused(self, run: UUID, traceparent: str | None = None) -> None:
        """A call is about to make a run move: the span of that commit links to it.

        Args:
            run: Which.
            traceparent: Of the call; None for the present one.
        """
        if not tracing():
            return
        if traceparent is None:
            call = call_var.get()
            traceparent = current_traceparent(None if call is None else call.header("traceparent"))
        if traceparent and sampled(traceparent):
            self._causes[run] = traceparent
            if len(self._causes) > MOST_CAUSES:
                self._causes.popitem(last=False)

    async def adopt(self, child: UUID, parent: UUID) -> None:
        """A run is about to be started by another one: it goes on in the same trace. Never fails."""
        await self.load([parent])
        if traceparent := self.of(parent):
            self._keep(child, traceparent)

    def of(self, run: UUID) -> str:
        """The context a run's steps are sent with; empty when unknown."""
        return self._known.get(run, "")

    async def load(self, runs: Iterable[UUID]) -> None:
        """Look up runs that were not started or were not in memory here. Never fails."""
        if not tracing():
            return
        missing = []
        for run in runs:
            if run in self._unsaved:
                self._keep(run, self._unsaved[run])  # it was parked before it could be written
            elif run not in self._known:
                missing.append(run)
        if not missing:
            return
        try:
            async with self._database.connection() as connection:
                found = await load_traces(connection, missing)
        except Unavailable:
            return
        for run in missing:
            traceparent = found.get(run)
            age = self._clock.now() - (run.int >> 80) / 1000  # a run's id says when it was made
            if traceparent is None:
                if age > SAVED_SECONDS:
                    self._keep(run, "")
            elif age < LINK_SECONDS:
                self._keep(run, traceparent)
            else:
                opened = open_span("run goes on", None, {"wfe.run": str(run)}, link=traceparent)
                if opened is not None:
                    self._keep(run, opened.traceparent)
                    opened.close()

    def committed(self, outcome: Outcome) -> None:
        """A cycle was committed: a span for each of its runs, and the new ones are to be saved."""
        if not tracing():
            return
        for work in outcome.works:
            run = work.entry.run
            traceparent, cause = self._known.get(run), self._causes.pop(run, None)
            if traceparent is None:
                continue
            if not sampled(traceparent):
                # It is passed on to executors, and nothing is made of it here.
                if work.state.status in ENDED:
                    self._known.pop(run, None)
                continue
            if work.state.status in ENDED or is_parked(work.state):
                self._known.pop(run, None)
            if work.entry.version == 1:
                self._unsaved[run] = traceparent
            commands = [type(item.command).__name__ for item in work.items]
            facts = {"wfe.run": str(run), "wfe.commands": commands, "wfe.events": len(work.events)}
            if cause is not None and cause[3:35] == traceparent[3:35]:
                cause = None  # it is of the run's own trace
            opened = open_span("decide", traceparent, facts, start=work.now, link=cause)
            if opened is not None:
                opened.close()
        if self._unsaved:
            self.on_unsaved()

    async def save(self) -> None:
        """Write what is new. What cannot be written is forgotten."""
        unsaved = dict(self._unsaved)
        if not unsaved:
            return
        try:
            async with self._database.connection() as connection:
                await save_traces(connection, unsaved)
        except Unavailable as fault:
            _log.debug("traces not saved", fault=str(fault), runs=len(unsaved))
        finally:
            for run in unsaved:
                self._unsaved.pop(run, None)

    def _keep(self, run: UUID, traceparent: str) -> None:
        self._known[run] = traceparent
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
