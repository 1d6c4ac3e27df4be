"""Looking at the whole store now and then, for metrics. Every scheduler shows the same; take the maximum over them."""

from __future__ import annotations

import time

import structlog
from wfe_servicekit.telemetry.metrics import Gauge
from wfe_store import watching
from wfe_store.migrate import PARTITIONED
from wfe_store.pool import Database
from wfe_store.switches import dispatch_held

_QUEUE = ("queue",)
READY = Gauge("wfe_ready_steps", "Steps an executor could take at once.", _QUEUE)
LEASED = Gauge("wfe_leased_steps", "Steps executors have now.", _QUEUE)
WORK = Gauge("wfe_work_steps", "Ready and leased steps together: what executors are scaled by.", _QUEUE)
BACKING_OFF = Gauge("wfe_backing_off_steps", "Steps that wait for their next attempt.", _QUEUE)
HELD = Gauge("wfe_held_steps", "Steps of paused runs.", _QUEUE)
OLDEST_READY = Gauge("wfe_oldest_ready_seconds", "How long the oldest ready step has waited.", _QUEUE)
EXECUTORS = Gauge("wfe_executors", "Live executors, by queue and whether they are stopping.", ("queue", "stopping"))
TIMER_OLDEST = Gauge("wfe_timer_oldest_late_seconds", "How late the oldest timer is that nobody has decided on.")
CHILD_OLDEST = Gauge(
    "wfe_child_oldest_late_seconds",
    "Age of the oldest wish of a child run, or news of its end for the run that waits, that nobody has carried out.",
)
OLDEST_TRANSACTION = Gauge(
    "wfe_store_oldest_transaction_seconds",
    "How long the oldest transaction in the store's database has been open; of other roles' sessions only with"
    " pg_monitor.",
)
DEAD_ROWS = Gauge("wfe_store_dead_rows", "Rows of hot tables that are over and still take room, about.", ("table",))
RUNS = Gauge("wfe_runs", "Runs in the store, by status; counted at most once a minute.", ("status",))
STUCK = Gauge("wfe_stuck_runs", "Runs that nothing can move any more, at most 100 counted. There should never be one.")
STRAY = Gauge("wfe_stray_rows", "Rows in default partitions, counted up to 10,000; should be 0.", ("table",))
DISPATCH_HELD = Gauge("wfe_dispatch_held", "1 while an operator holds dispatch, else 0.")
AHEAD = Gauge("wfe_partition_months_ahead", "Months after the present one that have their partitions.")

_STATUSES = ("pending", "running", "waiting_approval", "paused", "completed", "failed", "cancelled")
#: What reads every run is asked again only after this many times the time it took: 2 % of one connection.
_REST = 50

_log = structlog.get_logger("wfe.scheduler.survey")


class Survey:
    """Sets the gauges above.

    Args:
        rare_seconds: Least time between two looks at every run.
    """

    def __init__(self, database: Database, rare_seconds: float = 60.0) -> None:
        self._database = database
        self._rare_seconds = rare_seconds
        self._rare_at = 0.0

    async def run_once(self) -> None:
        """One look.

        Raises:
            Unavailable: The store cannot be read.
        """
        async with self._database.connection() as connection:
            queues = await watching.queues(connection)
            executors = await watching.executors(connection)
            DISPATCH_HELD.set(float(await dispatch_held(connection) is not None))
            TIMER_OLDEST.set(await watching.timers_late(connection))
            CHILD_OLDEST.set(await watching.children_late(connection))
            OLDEST_TRANSACTION.set(await watching.oldest_transaction(connection))
            dead = await watching.dead_rows(connection)
        DEAD_ROWS.replace({(table,): count for table, count in dead.items()})
        found = {queue.name: queue for queue in queues}
        # A queue that ran empty says 0, so that what scales by it sees the end and not a gap.
        names = {name for (name,) in READY.values} | set(executors) | set(found)
        seen = [found.get(name) or watching.Queue(name, 0, 0, 0, 0, 0.0) for name in sorted(names)]
        READY.replace({(queue.name,): queue.ready for queue in seen})
        LEASED.replace({(queue.name,): queue.leased for queue in seen})
        WORK.replace({(queue.name,): queue.ready + queue.leased for queue in seen})
        BACKING_OFF.replace({(queue.name,): queue.backing_off for queue in seen})
        HELD.replace({(queue.name,): queue.held for queue in seen})
        OLDEST_READY.replace({(queue.name,): queue.oldest_ready for queue in seen})
        EXECUTORS.replace(
            {
                (name, stopping): counts[i]
                for name, counts in executors.items()
                for i, stopping in enumerate(("false", "true"))
            }
        )
        if time.monotonic() >= self._rare_at:
            await self._rare()

    async def _rare(self) -> None:
        began = time.monotonic()
        async with self._database.connection() as connection:
            counted = await watching.runs_by_status(connection)
            stuck = await watching.stuck_runs(connection)
            stray = await watching.stray_rows(connection, list(PARTITIONED))
            AHEAD.set(await watching.months_ahead(connection))
        RUNS.replace({(status,): counted.get(status, 0) for status in _STATUSES})
        STUCK.set(len(stuck))
        STRAY.replace({(table,): count for table, count in stray.items()})
        for run in stuck[:10]:
            _log.error("run is stuck", run=str(run))
        took = time.monotonic() - began
        self._rare_at = began + max(self._rare_seconds, _REST * took)
