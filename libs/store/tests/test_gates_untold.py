"""Decisions of gates that nobody has taken in yet."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

from wfe_stack.testing_rows import decider
from wfe_store.gates import Gates
from wfe_store.pool import Database

STARTER = uuid.UUID(int=11)


ADA, BOB = decider("ada"), decider("bob")
OpenGate = Callable[..., Awaitable[uuid.UUID]]


async def test_the_untold_are_found_again_until_somebody_took_them_in(
    gates: Gates, database: Database, owner_id: uuid.UUID, run_id: uuid.UUID, open_gate: OpenGate
) -> None:
    gate_id = await open_gate()
    await open_gate()
    done = await gates.decide(owner_id, run_id, gate_id, decider=ADA, outcome="approve")
    assert list(await gates.untold()) == [], "a scheduler gets a second before it is told again"
    assert list(await gates.untold(older_than=timedelta(0))) == [done.decision]
    async with database.connection() as connection:
        await connection.execute("UPDATE gates SET told_at = clock_timestamp() WHERE id = %s", (gate_id,))
    assert list(await gates.untold(older_than=timedelta(0))) == []
