"""Open, remind of and hand on gates whose time has come."""

from __future__ import annotations

from wfe_store.gates import Gates

from wfe_approvals.bus import Bus

#: Gates of one transaction.
BATCH = 100


async def do_agenda(gates: Gates, bus: Bus) -> bool:
    """Do one batch of what is due and tell the schedulers. Returns whether more may be due."""
    moved = await gates.do_agenda(limit=BATCH)
    await bus.tell(moved)
    return len(moved) == BATCH
