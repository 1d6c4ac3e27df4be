"""Tell again of decisions no scheduler has taken in."""

from __future__ import annotations

from wfe_store.gates import Gates

from wfe_approvals.bus import Bus


async def tell_untold(gates: Gates, bus: Bus) -> int:
    """Tell the schedulers of the oldest such decisions. Returns how many there were."""
    decisions = await gates.untold()
    await bus.tell(decisions)
    return len(decisions)
