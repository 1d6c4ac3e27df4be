"""What a scheduler counts. Everything is counted once a commit, from what the commit brought about."""

from __future__ import annotations

from wfe_engine import commands as cmd
from wfe_engine import events as ev
from wfe_servicekit.telemetry.metrics import Counter, Gauge, Histogram
from wfe_store.pool import Database

from wfe_scheduler.clock import StoreClock
from wfe_scheduler.cycle import Cycle
from wfe_scheduler.entries import Cache
from wfe_scheduler.work import Outcome

_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)

STARTS = Counter("wfe_starts_total", "Runs started, by trigger (api, fork, ...).", ("trigger",))
RUNS_ENDED = Counter("wfe_runs_ended_total", "Runs that ended, by status.", ("status",))
STEPS = Counter(
    "wfe_steps_total", "Steps that ended, by outcome: completed, failed, skipped or cancelled.", ("outcome",)
)
RETRIES = Counter("wfe_retries_total", "Attempts that failed and will be made again.")
EVENTS = Counter("wfe_events_total", "Events of runs committed, by type.", ("type",))
CYCLE_SECONDS = Histogram(
    "wfe_cycle_seconds", "Time from taking the commands of a commit cycle to its commit: deciding and writing."
)
CYCLE_COMMANDS = Histogram("wfe_cycle_commands", "Commands decided in one commit cycle.", bounds=_SIZES)
CYCLE_RUNS = Histogram("wfe_cycle_runs", "Runs decided on in one commit cycle.", bounds=_SIZES)
LEASES = Counter(
    "wfe_leases_total",
    "Steps leased to executors: `commit` in the commit that made them ready, `claim` from the backlog.",
    ("how",),
)
CLAIM_WAIT = Histogram(
    "wfe_claim_wait_seconds", "How long steps of the backlog were ready before an executor was given them.", ("queue",)
)
LEASE_LOSSES = Counter("wfe_lease_losses_total", "Leases lost because their executor went silent.", ("queue",))
TIMERS_LATE = Histogram("wfe_timer_late_seconds", "How long after its moment a timer was decided on.")
WAITING = Gauge("wfe_commands_waiting", "Commands that wait for a commit cycle of this scheduler.")
CACHED = Gauge("wfe_runs_cached", "Runs in this scheduler's memory.")
STORE_CONNECTIONS = Gauge(
    "wfe_store_connections", "Connections of this process's pool to the run store: used or idle.", ("state",)
)
STORE_WAITING = Gauge("wfe_store_waiting", "Calls that wait for a connection of this process's pool.")

_OUTCOMES = {
    ev.StepCompleted.TYPE: "completed",
    ev.StepFailed.TYPE: "failed",
    ev.StepSkipped.TYPE: "skipped",
    ev.StepCancelled.TYPE: "cancelled",
}
_ENDS = {ev.RunCompleted.TYPE: "completed", ev.RunFailed.TYPE: "failed", ev.RunCancelled.TYPE: "cancelled"}


class Meter:
    """Counts what cycles commit."""

    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock

    def committed(self, outcome: Outcome) -> None:
        """Called once a commit. Costs about a microsecond for each run of it."""
        works = outcome.works
        if not works:
            return
        CYCLE_SECONDS.observe(max(0.0, self._clock.now() - works[0].now))
        CYCLE_RUNS.observe(len(works))
        commands = leased = 0
        types: dict[str, int] = {}
        for work in works:
            commands += len(work.items)
            leased += len(work.leased)
            for event, _, _ in work.events:
                kind = event.TYPE
                types[kind] = types.get(kind, 0) + 1
            first = work.items[0].command
            if isinstance(first, cmd.TimerDue):
                TIMERS_LATE.observe(max(0.0, work.now - first.due))
            elif isinstance(first, cmd.Start):
                STARTS.inc(first.trigger)
        CYCLE_COMMANDS.observe(commands)
        if leased:
            LEASES.inc("commit", by=leased)
        for kind, count in types.items():
            EVENTS.inc(kind, by=count)
            if kind in _OUTCOMES:
                STEPS.inc(_OUTCOMES[kind], by=count)
            elif kind in _ENDS:
                RUNS_ENDED.inc(_ENDS[kind], by=count)
            elif kind == ev.StepRetrying.TYPE:
                RETRIES.inc(by=count)


def read_gauges(cycle: Cycle, cache: Cache, database: Database) -> None:
    """Let the gauges of this process ask its parts whenever they are written out."""
    WAITING.read(lambda: {(): cycle.depth})
    CACHED.read(lambda: {(): len(cache)})
    STORE_CONNECTIONS.read(lambda: {("used",): database.use().used, ("idle",): database.use().idle})
    STORE_WAITING.read(lambda: {(): database.use().waiting})
