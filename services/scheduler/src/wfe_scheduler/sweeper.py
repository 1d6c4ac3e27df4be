"""Finding by query what no message announced: moments that came, executors that went silent, steps nobody has."""

from __future__ import annotations

from uuid import UUID

import structlog
from wfe_engine import commands as cmd
from wfe_engine.state import Fault
from wfe_store import leases
from wfe_store.pool import Database
from wfe_store.switches import dispatch_held

from wfe_scheduler.cycle import Cycle
from wfe_scheduler.dispatcher import Dispatcher
from wfe_scheduler.entries import Item
from wfe_scheduler.metrics import LEASE_LOSSES

_log = structlog.get_logger("wfe.scheduler.sweeper")


class Sweeper:
    """One pass a second on every scheduler; two that find the same do no harm, one of them loses."""

    def __init__(
        self,
        database: Database,
        cycle: Cycle,
        dispatcher: Dispatcher,
        *,
        lease_seconds: float,
        lease_losses: int,
    ) -> None:
        self._database = database
        self._cycle = cycle
        self._dispatcher = dispatcher
        self._lease_seconds = lease_seconds
        self._lease_losses = lease_losses
        self._under_way: set[tuple[UUID, int]] = set()

    async def run_once(self) -> None:
        """One bounded pass.

        Raises:
            Unavailable: The store cannot be read.
        """
        async with self._database.connection() as connection:
            lost, gone = await leases.reap(connection, self._lease_seconds, self._lease_losses)
            due = await leases.sweep(connection)
            held = await dispatch_held(connection)
        self._dispatcher.gone(gone, announce=True)
        if held is None and self._dispatcher.held:
            _log.info("dispatch released")
        elif held is not None and not self._dispatcher.held:
            _log.warning("dispatch is held", by=held.set_by, reason=held.reason)
        self._dispatcher.held = held is not None
        for lease in lost:
            _log.info("lease lost", run=str(lease.run), step=lease.no, executor=lease.executor, losses=lease.losses)
            LEASE_LOSSES.inc(lease.queue)
            if lease.losses >= self._lease_losses:
                message = f"its lease was lost {lease.losses} times; it may be what kills its executors"
                self._submit(
                    lease.run,
                    lease.no,
                    cmd.ClockRanOut(no=lease.no, fence=lease.fence, fault=_fault("LEASES_LOST", message)),
                )
        for run, no, moment in due.timers:
            self._submit(run, no, cmd.TimerDue(no=no, due=moment))
        if held is not None:
            due.queue_clocks, due.total_clocks = [], []  # they stand still, and are later by that on release
        for run, no, fence in due.queue_clocks:
            fault = _fault("QUEUE_TIMEOUT", "no executor took it in the time its queue clock allows")
            self._submit(run, no, cmd.ClockRanOut(no=no, fence=fence, fault=fault))
        for run, no, fence in due.total_clocks:
            fault = _fault("TOTAL_TIMEOUT", "it took longer in all than its total clock allows")
            self._submit(run, no, cmd.ClockRanOut(no=no, fence=fence, fault=fault))
        queues = {lease.queue for lease in lost} | set(due.ready)
        if queues:
            self._dispatcher.ready(queues, announce=True)
        self._dispatcher.credits.forget_silent()

    def timer(self, run: UUID, no: int, due: float) -> None:
        """A timer's moment has come, by this scheduler's own reckoning."""
        self._submit(run, no, cmd.TimerDue(no=no, due=due))

    def _submit(self, run: UUID, no: int, command: cmd.Command) -> None:
        key = (run, no)
        if key in self._under_way:
            return
        self._under_way.add(key)

        def done(_: Exception | None) -> None:
            self._under_way.discard(key)

        actor = "timer" if isinstance(command, cmd.TimerDue) else "system"
        self._cycle.submit(Item(run, command, done, actor=actor))


def _fault(code: str, message: str) -> Fault:
    return Fault(code=code, message=message)
