"""Telling runs what happened at their gates."""

from __future__ import annotations

from uuid import UUID

from nats.aio.msg import Msg
from wfe_bus import messages as m
from wfe_engine import commands as cmd
from wfe_store.load_gates import ToldGate, load_told_gates, load_untold_gates
from wfe_store.pool import Database

from wfe_scheduler.cycle import Cycle
from wfe_scheduler.entries import Cache, Item
from wfe_scheduler.gather import Gather
from wfe_scheduler.traces import Traces

_decode = m.decoder(m.RunChanged).decode


class Gates:
    """Takes what happened at gates to their runs. It is committed already; telling is safe to repeat."""

    def __init__(self, database: Database, cycle: Cycle, cache: Cache, traces: Traces | None = None) -> None:
        self._database = database
        self._cycle = cycle
        self._cache = cache
        self._traces = traces
        self._told: Gather[UUID, ToldGate] = Gather(self._load)

    async def _load(self, ids: list[UUID]) -> dict[UUID, ToldGate]:
        async with self._database.connection() as connection:
            return {gate.gate: gate for gate in await load_told_gates(connection, ids)}

    async def on_message(self, message: Msg) -> None:
        """Something happened at a gate somewhere."""
        changed = _decode(message.data)
        if self._traces is not None:
            self._traces.caused(UUID(bytes=changed.run), changed.traceparent)
        await self.tell(UUID(bytes=changed.gate))

    async def tell(self, gate: UUID) -> None:
        """Tell a gate's run, unless it knows."""
        told = await self._told.get(gate)
        if told is None:
            return
        if told.outcome is not None:
            self._drop(told)
        self._cycle.submit(_item(told))

    async def untold(self, run: UUID) -> list[Item]:
        """What happened at a run's gates that it has not taken in yet."""
        async with self._database.connection() as connection:
            return [_item(gate) for gate in await load_untold_gates(connection, run)]

    def _drop(self, told: ToldGate) -> None:
        entry = self._cache.get(told.run)
        if entry is not None and not entry.busy:
            # The decision raised the run's version; what is in memory would only lose.
            self._cache.drop(told.run)


def _item(told: ToldGate) -> Item:
    if told.outcome is None:
        notes = cmd.GateNotes(gate=str(told.gate), notes=told.notes)
        return Item(told.run, notes, lambda _: None, actor=told.notes[-1].by)
    actor = "timer" if told.expired else f"principal:{told.decided_by}"
    command = cmd.GateClosed(
        gate=str(told.gate),
        outcome=told.outcome,
        expired=told.expired,
        decided_by=str(told.decided_by or ""),
        comment=told.comment,
        branch=told.branch,
        reason_code=told.reason_code,
        via=told.via,
        # What the deadline approves is what was asked for, not what somebody proposed and nobody approved.
        digest="" if told.expired else told.digest,
        payload=None if told.expired else told.payload,
        form=told.form,
        votes=told.votes,
        notes=told.notes,
    )
    return Item(told.run, command, lambda _: None, actor=actor, reason=told.comment)
