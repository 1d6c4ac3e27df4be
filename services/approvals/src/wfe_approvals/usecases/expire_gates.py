"""Take the default decision of gates past their deadline."""

from __future__ import annotations

from wfe_store.gates import Gates

from wfe_approvals.bus import Bus

#: Gates of one transaction: it locks a run for each.
BATCH = 100


async def expire_gates(gates: Gates, bus: Bus) -> bool:
    """Close one batch of due gates and tell the schedulers. Returns whether more may be due."""
    decisions = await gates.expire_due(limit=BATCH)
    await bus.tell(decisions)
    return len(decisions) == BATCH
