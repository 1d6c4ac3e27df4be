"""Who may decide a gate: the same in the inbox, at the decision, and in SQL."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import pytest
from wfe_engine.errors import PermissionDenied, Unavailable
from wfe_stack.testing_rows import add_gate, decider
from wfe_store.gate_policy import Decider
from wfe_store.gates import Asked, Gates
from wfe_store.pool import Database, fetch_one

ADA = decider("ada")
OpenGate = Callable[..., Awaitable[uuid.UUID]]


async def test_the_starter_may_not_decide_whatever_key_he_uses(
    gates: Gates, database: Database, owner_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    me = decider("ada", roles={"admin", "approver"}, groups={"editors"})
    for policy in ({}, {"users": ["ada"]}, {"groups": ["editors"]}, {"exclude_starter": True}):
        gate_id = await add_gate(database, owner_id, run_id, me.principal_id, policy=policy)
        with pytest.raises(PermissionDenied) as raised:
            await gates.decide(owner_id, run_id, gate_id, decider=me, outcome="approve")
        assert raised.value.reason == "SELF_APPROVAL"
    gate_id = await add_gate(database, owner_id, run_id, me.principal_id, policy={"exclude_starter": False})
    assert (await gates.decide(owner_id, run_id, gate_id, decider=me, outcome="approve")).decision is not None


async def test_sql_itself_refuses_the_starter(
    gates: Gates, database: Database, owner_id: uuid.UUID, run_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate_id = await add_gate(database, owner_id, run_id, ADA.principal_id)
    with monkeypatch.context() as patch:
        patch.setattr("wfe_store.gate.Gate.bar", lambda *_: None)
        patch.setattr("wfe_store.gate_decide.TRIES", 2)
        with pytest.raises(Unavailable):
            await gates.decide(owner_id, run_id, gate_id, decider=ADA, outcome="approve")
    assert (await gates.get(owner_id, gate_id)).status == "open"
    async with database.connection() as connection:
        assert await fetch_one(connection, "SELECT version FROM runs WHERE id = %s", (run_id,)) == (1,)


#: (policy, decider, may he?)
ELIGIBILITY = [
    ({}, decider(), True),
    ({}, decider(roles={"admin"}), True),
    ({}, decider(roles={"operator", "viewer", "author"}), False),
    ({}, decider(roles=set()), False),
    ({}, decider(kind="agent"), True),
    ({}, decider(kind="service"), False),
    ({"users": ["ada"]}, decider(kind="service"), True),
    ({"users": ["ada"]}, decider(), True),
    ({"users": ["ada"]}, decider("bob"), False),
    ({"users": ["ada"]}, decider(roles={"viewer"}), False),
    ({"users": "ada"}, decider(), True),
    ({"users": "ada"}, decider("bob"), False),
    ({"users": [7]}, decider("bob"), False),
    ({"users": []}, decider(), True),
    ({"users": None, "groups": [], "roles": []}, decider(), True),
    ({"groups": ["editors", "legal"]}, decider(groups={"legal"}), True),
    ({"groups": ["editors"]}, decider(groups={"legal"}), False),
    ({"groups": ["editors"]}, decider(), False),
    ({"groups": ["editors"]}, decider(groups={"editors"}, kind="service"), False),
    ({"roles": ["admin"]}, decider(), False),
    ({"roles": ["admin"]}, decider(roles={"admin"}), True),
    ({"roles": ["author"]}, decider(roles={"author", "approver"}), True),
    ({"users": ["bob"], "groups": ["editors"]}, decider(groups={"editors"}), True),
]


@pytest.mark.parametrize(("policy", "who", "may"), ELIGIBILITY)
async def test_who_may_decide_is_the_same_in_the_inbox_and_at_the_decision(
    gates: Gates,
    owner_id: uuid.UUID,
    run_id: uuid.UUID,
    open_gate: OpenGate,
    policy: dict[str, object],
    who: Decider,
    may: bool,
) -> None:
    gate_id = await open_gate(policy=policy)
    inbox = await gates.list(owner_id, Asked(mine=who), limit=50, offset=0)
    assert [gate.id for gate in inbox.items] == ([gate_id] if may else [])
    if may:
        assert (await gates.decide(owner_id, run_id, gate_id, decider=who, outcome="approve")).decision
        assert (await gates.list(owner_id, Asked(mine=who), limit=50, offset=0)).total == 0
    else:
        with pytest.raises(PermissionDenied) as raised:
            await gates.decide(owner_id, run_id, gate_id, decider=who, outcome="approve")
        assert raised.value.reason == "NOT_AN_APPROVER"


async def test_a_policy_that_jsonb_cannot_hold_does_not_break_the_inbox(
    gates: Gates, owner_id: uuid.UUID, open_gate: OpenGate
) -> None:
    await open_gate(policy='{"users": ["a\\u0000"]}')
    fine = await open_gate()
    assert [gate.id for gate in (await gates.list(owner_id, Asked(mine=ADA), limit=9, offset=0)).items] == [fine]
