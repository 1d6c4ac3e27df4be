"""Telling runs what became of their gates."""

from __future__ import annotations

from uuid import UUID

from nats.aio.msg import Msg
from wfe_bus import messages as m
from wfe_engine import commands as cmd
from wfe_store.load import ClosedGate, load_closed_gates, load_untold_gates
from wfe_store.pool import Database

from wfe_scheduler.cycle import Cycle
from wfe_scheduler.entries import Cache, Item
from wfe_scheduler.gather import Gather

_decode = m.decoder(m.RunChanged).decode


class Gates:
    """Takes the decisions of gates to their runs. The decision is committed already; telling is safe to repeat."""

    def __init__(self, database: Database, cycle: Cycle, cache: Cache) -> None:
        self._database = database
        self._cycle = cycle
        self._cache = cache
        self._closed: Gather[UUID, ClosedGate] = Gather(self._load)

    async def _load(self, ids: list[UUID]) -> dict[UUID, ClosedGate]:
        async with self._database.connection() as connection:
            return {gate.gate: gate for gate in await load_closed_gates(connection, ids)}

    async def on_message(self, message: Msg) -> None:
        """A gate was decided somewhere."""
        changed = _decode(message.data)
        await self.tell(UUID(bytes=changed.gate))

    async def tell(self, gate: UUID) -> None:
        """Tell a gate's run, unless it knows."""
        closed = await self._closed.get(gate)
        if closed is None:
            return
        self._drop(closed)
        self._cycle.submit(_item(closed))

    async def untold(self, run: UUID) -> list[Item]:
        """Decisions of a run's gates that it has not taken in yet."""
        async with self._database.connection() as connection:
            return [_item(gate) for gate in await load_untold_gates(connection, run)]

    def _drop(self, closed: ClosedGate) -> None:
        entry = self._cache.get(closed.run)
        if entry is not None and not entry.busy:
            # The decision raised the run's version; what is in memory would only lose.
            self._cache.drop(closed.run)


def _item(closed: ClosedGate) -> Item:
    actor = "timer" if closed.expired else f"principal:{closed.decided_by}"
    command = cmd.GateClosed(
        gate=str(closed.gate),
        outcome=closed.outcome,
        expired=closed.expired,
        decided_by=str(closed.decided_by or ""),
        comment=closed.comment,
    )
    return Item(closed.run, command, lambda _: None, actor=actor, reason=closed.comment)
