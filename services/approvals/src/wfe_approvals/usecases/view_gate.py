"""A gate as an answer: with its votes, what bars the caller, and what has changed since it was sent back."""

from __future__ import annotations

import asyncio
from uuid import UUID

from wfe.api.v1 import workflow_pb2
from wfe_engine.errors import NotFound
from wfe_store.gate_policy import Decider
from wfe_store.gate_votes import Facts
from wfe_store.gates import Decided, Gate, Gates

from wfe_approvals.approval_mapping import approval_of
from wfe_approvals.differences import Difference, difference


async def view_gate(gates: Gates, owner_id: UUID, facts: Facts) -> workflow_pb2.Approval:
    """Everything there is to say of a gate.

    That nobody can approve it is said at once, not when it expires.
    """
    gate = facts.gate
    people = await gates.everybody(owner_id, gate) if gate.status == "open" else None
    diff = await _difference(gates, owner_id, gate) if gate.round and gate.replaces is not None else None
    return approval_of(gate, facts.decider, facts.votes, diff=diff, nobody=people is not None and not people)


async def _difference(gates: Gates, owner_id: UUID, gate: Gate) -> Difference | None:
    assert gate.replaces is not None
    try:
        before, after = await gates.whole(await gates.get(owner_id, gate.replaces), gate)
    except NotFound:
        return None
    # Megabytes take a while; the loop has other things to do.
    return await asyncio.to_thread(difference, before.present, after.payload)


def view_decided(decided: Decided, decider: Decider) -> workflow_pb2.Approval:
    """A gate after something was done to it."""
    return approval_of(decided.gate, decider, decided.votes)
