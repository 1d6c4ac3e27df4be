"""Quorums, exclusions, delegates, edits: what counts, for whom, and when a gate closes early."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from wfe_engine.errors import InvalidInput, PermissionDenied, StateConflict
from wfe_stack.testing_rows import add_gate, add_run, decider
from wfe_store.delegations import Delegations
from wfe_store.gate_policy import Block, Decider
from wfe_store.gate_quorum import met, taken
from wfe_store.gates import Asked, Ballot, Edit, Gates
from wfe_store.identity import Identity, SeedPrincipal
from wfe_store.pool import Database, fetch_all

STARTER = uuid.UUID(int=11)
FINANCE, SECURITY = {"groups": ["finance"]}, {"groups": ["security"]}


def policy(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"blocks": list(blocks), **more}


class World:
    """An owner's people, and gates of a run of somebody else's."""

    def __init__(self, database: Database, owner: uuid.UUID, people: dict[str, uuid.UUID], groups: dict[str, str]):
        self.database, self.owner, self.people, self.groups = database, owner, people, groups
        self.gates = Gates(database)
        self.run = uuid.UUID(int=0)

    def who(self, name: str, *, roles: set[str] | None = None) -> Decider:
        groups = frozenset(self.groups[name].split()) - {""}
        return Decider(
            principal_id=self.people[name],
            name=name,
            kind="person",
            roles=frozenset(roles or {"approver"}),
            groups=groups,
        )

    async def open(self, given: dict[str, Any], **more: Any) -> uuid.UUID:
        return await add_gate(self.database, self.owner, self.run, STARTER, policy=given, **more)

    async def say(self, gate: uuid.UUID, name: str, vote: str = "approve", **more: Any) -> str:
        said = await self.gates.decide(
            self.owner, self.run, gate, decider=self.who(name), ballot=Ballot(vote=vote, **more)
        )  # fmt: skip
        return said.gate.status

    async def notes(self, gate: uuid.UUID) -> list[str]:
        async with self.database.connection() as connection:
            rows = await fetch_all(connection, "SELECT type FROM gate_notes WHERE gate_id = %s ORDER BY n", (gate,))
        return [row[0] for row in rows]


GROUPS = {
    "fin": "finance",
    "fay": "finance",
    "both": "finance security",
    "sec": "security",
    "ann": "",
    "pub": "finance",
}


@pytest.fixture
async def world(database: Database) -> World:
    people = [SeedPrincipal(name, roles=("approver",), groups=tuple(g.split())) for name, g in GROUPS.items()]
    seeded = await Identity(database).seed_owner("quorum", people)
    world = World(database, seeded.owner_id, seeded.principals, GROUPS)
    world.run = await add_run(database, seeded.owner_id, STARTER)
    return world


@pytest.mark.parametrize(
    ("groups", "have"),
    [
        (["finance", "finance", "security"], [2, 1]),
        (["finance security"], [1, 0]),
        (["finance security", "finance security", "finance security"], [2, 1]),
        (["finance security", "finance", "finance"], [2, 1]),  # moved over to where nobody else can stand
        (["security", "security", "security"], [0, 1]),
        (["other"], [0, 0]),
    ],
)
def test_nobody_counts_for_two_blocks_and_everybody_where_he_is_needed(groups, have):
    blocks = [Block(groups=("finance",), count=2), Block(groups=("security",))]
    people = [decider(f"p{n}", groups=set(names.split())) for n, names in enumerate(groups)]
    assert taken(blocks, people) == have
    assert met(blocks, have) == (have == [2, 1])


async def test_all_blocks_must_be_met_and_nobody_counts_twice(world: World):
    gate = await world.open(policy({**FINANCE, "count": 2}, SECURITY))
    assert await world.say(gate, "both") == "open"
    assert await world.say(gate, "both") == "open"
    assert await world.say(gate, "fin") == "open"
    assert await world.say(gate, "fay") == "approved"  # both stands for security now
    assert await world.notes(gate) == ["voted", "voted"]
    second = await world.open(policy({**FINANCE, "count": 2}, SECURITY))
    for name in ("fin", "fay", "pub"):
        assert await world.say(second, name) == "open", "security has not said anything"
    assert await world.say(second, "sec") == "approved"


async def test_a_vote_is_taken_back_until_the_gate_closes(world: World):
    gate = await world.open(policy({**FINANCE, "count": 2}))
    await world.say(gate, "fin")
    await world.gates.withdraw_vote(world.owner, gate, decider=world.who("fin"), reason="too early")
    with pytest.raises(StateConflict) as raised:
        await world.gates.withdraw_vote(world.owner, gate, decider=world.who("fin"), reason="")
    assert raised.value.reason == "NOT_VOTED"
    assert await world.say(gate, "fay") == "open"
    assert await world.say(gate, "fin") == "approved"
    with pytest.raises(StateConflict):
        await world.gates.withdraw_vote(world.owner, gate, decider=world.who("fin"), reason="")
    assert await world.notes(gate) == ["voted", "vote_withdrawn", "voted"]


async def test_a_rejection_below_the_count_is_kept_and_the_gate_closes_when_nobody_is_left(world: World):
    gate = await world.open(policy({**SECURITY, "count": 2}, reject={"count": 3}))
    assert await world.say(gate, "sec", "reject", comment="no") == "rejected", "one of two is against it"
    closed = await world.gates.get(world.owner, gate)
    assert (closed.outcome, closed.decided_via) == ("reject", "unreachable")
    gate = await world.open(policy(FINANCE, reject={"count": 2}))
    assert await world.say(gate, "fin", "reject") == "open"
    facts = await world.gates.facts(world.owner, gate, world.who("fay"))
    assert [(vote.voter_name, vote.vote) for vote in facts.votes] == [("fin", "reject")]
    assert await world.say(gate, "fin") == "approved", "he has changed his mind, and one was enough"
    outside = await world.open(policy({"groups": ["of-a-token"], "count": 1}, SECURITY, reject={"count": 2}))
    assert await world.say(outside, "sec", "reject") == "open", "who has that group is not known here"


async def test_who_left_the_group_meanwhile_does_not_decide(world: World):
    gate = await world.open(policy(FINANCE))
    groups = await Identity(world.database).list_groups(world.owner, limit=50, offset=0)
    finance = next(group for group in groups.items if group.name == "finance")
    await Identity(world.database).remove_member(world.owner, finance.id, world.people["fin"])
    with pytest.raises(PermissionDenied) as raised:
        await world.gates.decide(
            world.owner, world.run, gate, decider=world.who("fin"), outcome="approve", fresh=True
        )  # fmt: skip
    assert raised.value.reason == "NOT_AN_APPROVER"


async def test_the_person_behind_an_agent_and_his_delegate_started_the_run_too(world: World, database: Database):
    async with database.connection() as connection:
        await connection.execute("UPDATE principals SET acts_for = %s WHERE name = 'ann'", (world.people["fin"],))
    world.run = await add_run(database, world.owner, world.people["ann"])
    gate = await add_gate(database, world.owner, world.run, world.people["ann"], policy=policy(FINANCE))
    await Delegations(database).create(
        world.owner, delegator=world.people["fin"], delegate=world.people["fay"], starts_at=None,
        ends_at=datetime.now(UTC) + timedelta(days=1), reason="", by=world.people["fin"],
    )  # fmt: skip
    for name in ("fin", "fay"):
        with pytest.raises(PermissionDenied) as raised:
            await world.say(gate, name)
        assert raised.value.reason == "SELF_APPROVAL"
        assert (await world.gates.list(world.owner, Asked(mine=world.who(name)), limit=9, offset=0)).total == 0
    assert await world.say(gate, "pub") == "approved"


async def act_for(database: Database, world: World, **whom: str) -> None:
    async with database.connection() as connection:
        for agent, person in whom.items():
            await connection.execute(
                "UPDATE principals SET acts_for = %s, kind = 'agent' WHERE id = %s",
                (world.people[person], world.people[agent]),
            )


async def test_an_agent_does_not_approve_what_another_agent_of_the_same_person_started(
    world: World, database: Database
):
    await act_for(database, world, ann="fin", fay="fin")
    world.run = await add_run(database, world.owner, world.people["ann"])
    gate = await add_gate(database, world.owner, world.run, world.people["ann"], policy=policy(FINANCE))
    with pytest.raises(PermissionDenied) as raised:
        await world.say(gate, "fay")
    assert raised.value.reason == "SELF_APPROVAL"
    assert (await world.gates.list(world.owner, Asked(mine=world.who("fay")), limit=9, offset=0)).total == 0
    assert await world.say(gate, "pub") == "approved"


@pytest.mark.parametrize(("first", "second"), [("fin", "fay"), ("fay", "fin")])
async def test_a_person_and_his_agent_are_one_of_the_two_it_takes(world: World, database: Database, first, second):
    await act_for(database, world, fay="fin")
    gate = await world.open(policy({**FINANCE, "count": 2}, reject={"count": 2}))
    assert await world.say(gate, first) == "open"
    with pytest.raises(StateConflict) as raised:
        await world.say(gate, second)
    assert raised.value.reason == "COUNTED_ALREADY"
    assert await world.say(gate, "both") == "approved"
    other = await world.open(policy({**FINANCE, "count": 2}, reject={"count": 2}))
    assert await world.say(other, first, "reject") == "open"
    assert await world.say(other, second, "reject") == "open", "two voices of one person reject once"
    assert await world.say(other, "pub", "reject") == "rejected"


async def test_who_was_excluded_does_not_come_in_by_his_agent(world: World, database: Database):
    await act_for(database, world, fay="fin")
    first = await world.open(policy(FINANCE))
    assert await world.say(first, "fin") == "approved"
    second = await world.open(policy(FINANCE, exclude=["previous_approvers"]))
    with pytest.raises(PermissionDenied) as raised:
        await world.say(second, "fay")
    assert raised.value.reason == "ALREADY_APPROVED"
    assert await world.say(second, "both") == "approved"


async def test_previous_approvers_and_the_publisher_can_be_excluded(world: World, database: Database):
    first = await world.open(policy(FINANCE))
    await world.say(first, "fin")
    gate = await world.open(policy(FINANCE, exclude=["previous_approvers", "template_publisher"]))
    with pytest.raises(PermissionDenied) as raised:
        await world.say(gate, "fin")
    assert raised.value.reason == "ALREADY_APPROVED"
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO templates (id, owner_id, name, draft) SELECT template_id, owner_id, 'publish', '' FROM runs"
            " WHERE id = %s",
            (world.run,),
        )
        await connection.execute(
            "INSERT INTO template_versions (template_id, version, name, source, published_by, published_at)"
            " SELECT template_id, template_version, 'publish', '', %s, clock_timestamp() FROM runs WHERE id = %s",
            (world.people["pub"], world.run),
        )
    with pytest.raises(PermissionDenied) as raised:
        await world.say(gate, "pub")
    assert raised.value.reason == "TEMPLATE_PUBLISHER"
    assert await world.say(gate, "fay") == "approved"


async def test_a_delegate_decides_with_the_others_standing_where_the_policy_allows_it(world: World):
    await Delegations(world.database).create(
        world.owner, delegator=world.people["sec"], delegate=world.people["ann"], starts_at=None,
        ends_at=datetime.now(UTC) + timedelta(days=1), reason="away", by=world.people["sec"],
    )  # fmt: skip
    strict = await world.open(policy(SECURITY))
    with pytest.raises(PermissionDenied):
        await world.say(strict, "ann")
    gate = await world.open(policy({**SECURITY, "count": 2}, delegation="anyone"))
    lent = sorted(
        {t for d in await Delegations(world.database).lenders(world.owner, world.people["ann"]) for t in d.tokens}
    )
    inbox = await world.gates.list(world.owner, Asked(mine=world.who("ann")), lent=lent, limit=9, offset=0)
    assert [one.id for one in inbox.items] == [gate]
    assert await world.say(gate, "ann") == "open"
    facts = await world.gates.facts(world.owner, gate, world.who("ann"))
    assert [(v.voter_name, v.behalf_name, v.by.name) for v in facts.votes] == [("ann", "sec", "sec")]
    with pytest.raises(StateConflict) as raised:
        await world.say(gate, "sec")
    assert raised.value.reason == "COUNTED_ALREADY"
    assert await world.say(gate, "both") == "approved"


async def test_one_gate_is_handed_to_somebody_else(world: World):
    gate = await world.open(policy(FINANCE, delegation="anyone"))
    with pytest.raises(InvalidInput):
        await world.gates.delegate(world.owner, gate, decider=world.who("fin"), to="nobody", reason="")
    await world.gates.delegate(world.owner, gate, decider=world.who("fin"), to="ann", reason="away")
    assert await world.say(gate, "ann") == "approved"
    other = await world.open(policy(FINANCE, delegation="anyone"))
    with pytest.raises(PermissionDenied):
        await world.say(other, "ann")


def edit(digest: str = "d2", *, within: bool = False, beyond: bool = False) -> Edit:
    return Edit(payload='{"n":1}', patch="[]", digest=digest, within=within, beyond=beyond)


async def test_an_edit_needs_the_quorum_anew_unless_it_keeps_to_its_limits(world: World):
    gate = await world.open(policy({**FINANCE, "count": 2}), payload='{"n":2}')
    await world.say(gate, "fin")
    assert await world.say(gate, "fay", edit=lambda _: edit()) == "open", "fin has not seen that"
    assert (await world.gates.get(world.owner, gate)).digest == "d2"
    assert await world.say(gate, "fin") == "approved"
    gate = await world.open(policy({**FINANCE, "count": 2}), payload='{"n":2}')
    await world.say(gate, "fin")
    assert await world.say(gate, "fay", edit=lambda _: edit(within=True)) == "approved"


async def test_who_edits_beyond_the_limits_does_not_approve_that(world: World):
    gate = await world.open(policy(FINANCE), payload='{"n":2}')
    assert await world.say(gate, "fin", edit=lambda _: edit(beyond=True)) == "open"
    with pytest.raises(PermissionDenied) as raised:
        await world.say(gate, "fin")
    assert raised.value.reason == "EDITED_BY_YOU"
    assert await world.say(gate, "fay") == "approved"
    closed = await world.gates.get(world.owner, gate)
    assert (closed.payload, closed.edited, closed.digest) == ('{"n":2}', '{"n":1}', "d2")
    assert await world.notes(gate) == ["edited"]


async def test_a_bypass_needs_no_quorum_and_can_be_switched_off(world: World):
    gate = await world.open(policy({**FINANCE, "count": 9}))
    assert await world.say(gate, "ann", via="bypass", comment="fire") == "approved"
    assert (await world.gates.get(world.owner, gate)).decided_via == "bypass"
    shut = await world.open(policy(FINANCE, bypass=False))
    with pytest.raises(PermissionDenied) as raised:
        await world.say(shut, "ann", via="bypass", comment="fire")
    assert raised.value.reason == "BYPASS_OFF"


async def test_at_quorum_minus_one_exactly_one_of_many_closes_it(world: World):
    for round_ in range(10):
        gate = await world.open(policy({"count": 2}))
        await world.say(gate, "fin")
        rest = ["fay", "both", "sec", "ann", "pub"]
        done = await asyncio.gather(*(world.say(gate, name) for name in rest), return_exceptions=True)
        won = [status for status in done if status == "approved"]
        assert len(won) == 1, (round_, done)
        assert all(isinstance(lost, StateConflict) for lost in done if lost != "approved")


async def test_many_votes_at_once_are_all_counted(world: World):
    for _ in range(5):
        gate = await world.open(policy({"count": 6}))
        statuses = await asyncio.gather(*(world.say(gate, name) for name in GROUPS))
        assert sorted(statuses) == ["approved", *["open"] * 5]
        assert len(await world.notes(gate)) == 5


async def test_the_agenda_is_done_in_order_and_once(world: World):
    gate = await world.open(
        policy(FINANCE, escalate=[{"add": SECURITY}, {"replace": {"groups": ["none"]}}]),
        agenda=[[-3, "remind", "50%"], [1, "escalate", 0], [1, "escalate", 1], [3600, "expire", 0]],
    )
    with pytest.raises(PermissionDenied):
        await world.say(gate, "sec")
    assert len(await world.gates.do_agenda()) == 1
    assert len(await world.gates.do_agenda()) == 1
    facts = await world.gates.facts(world.owner, gate, world.who("sec"))
    assert facts.gate.refusal(world.who("sec")) is None
    found = await asyncio.gather(*(world.gates.do_agenda() for _ in range(4)))
    assert sum(len(moved) for moved in found) == 1
    with pytest.raises(PermissionDenied):
        await world.say(gate, "fin")
    assert list(await world.gates.do_agenda()) == []
    assert await world.notes(gate) == ["reminded", "escalated", "escalated"]


async def test_a_claim_keeps_others_off_until_it_is_released_or_lapses(world: World, database: Database):
    gate = await world.open(policy(FINANCE))
    await world.gates.claim(world.owner, gate, decider=world.who("fin"))
    await world.gates.claim(world.owner, gate, decider=world.who("fin"))
    for act in (world.say(gate, "fay"), world.gates.claim(world.owner, gate, decider=world.who("fay"))):
        with pytest.raises(StateConflict) as raised:
            await act
        assert raised.value.reason == "GATE_CLAIMED"
    with pytest.raises(StateConflict) as raised:
        await world.gates.release(world.owner, gate, decider=world.who("fay"))
    assert raised.value.reason == "NOT_CLAIMED"
    async with database.connection() as connection:
        await connection.execute("UPDATE gates SET claimed_at = claimed_at - interval '61 minutes'")
    assert await world.say(gate, "fay") == "approved"
    assert await world.notes(gate) == ["claimed"]


async def test_a_deadline_is_moved_only_to_later(world: World):
    gate = await world.open(policy(FINANCE), expires_in=timedelta(minutes=1))
    later = datetime.now(UTC) + timedelta(hours=1)
    moved = await world.gates.extend(world.owner, gate, decider=world.who("fin"), until=later, reason="holiday")
    assert moved.gate.expires_at == later
    with pytest.raises(InvalidInput):
        await world.gates.extend(world.owner, gate, decider=world.who("fin"), until=later, reason="again")
    assert await world.notes(gate) == ["extended"]


async def test_a_vote_taken_back_in_between_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch):
    gate = await world.open(policy({**FINANCE, "count": 2}))
    await world.say(gate, "fin")
    read, other = world.gates.facts, Gates(world.database)
    withdrawn = False

    async def and_then(*given: Any, **more: Any) -> Any:
        nonlocal withdrawn
        facts = await read(*given, **more)
        if not withdrawn:
            withdrawn = True
            await other.withdraw_vote(world.owner, gate, decider=world.who("fin"), reason="")
        return facts

    monkeypatch.setattr(world.gates, "facts", and_then)
    assert await world.say(gate, "fay") == "open", "judged anew: one has approved"
