"""What people do at a gate before it is decided: claim, delegate, extend, take back a vote. All of it is noted.

Each act is one statement: the gate's row changes under its conditions, and the note is written for just that change.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from wfe_engine.errors import InvalidInput, PermissionDenied, StateConflict

from wfe_store.gate import CLAIM_SPAN, Decision, Gate
from wfe_store.gate_decide import GateDecides, person_of
from wfe_store.gate_policy import Decider
from wfe_store.gate_votes import Decided, Facts
from wfe_store.pool import fetch_one

_ACT = """
WITH changed AS (
    UPDATE gates SET version = version + 1{change}
    WHERE id = %(gate)s AND owner_id = %(owner)s AND status IN ('open', 'scheduled')
        AND coalesce(expires_at > coalesce(held_at, clock_timestamp()), true) AND {condition}
    RETURNING id, run_id, version
)
INSERT INTO gate_notes (gate_id, n, run_id, type, actor, reason, data)
SELECT id, version, run_id, %(type)s, %(actor)s, %(reason)s, %(data)s FROM changed RETURNING run_id
"""
_UNCLAIMED = "(claimed_by IS NULL OR claimed_by = %(me)s OR claimed_at <= clock_timestamp() - %(span)s::interval)"


class GateActs(GateDecides):
    """Gates, to be worked on."""

    async def claim(self, owner_id: UUID, gate_id: UUID, *, decider: Decider, fresh: bool = False) -> Decided:
        """Say that the decider is at it; where one decision is all it needs nobody else can decide meanwhile.

        Raises:
            NotFound: There is no such gate.
            PermissionDenied: He could not decide it.
            StateConflict: GATE_CLOSED, or GATE_CLAIMED by somebody else.
        """
        facts = await self._may(owner_id, gate_id, decider, fresh=fresh)
        gate = facts.gate
        if gate.claimed_by == decider.principal_id and gate.claimed_at and gate.claimed_at + CLAIM_SPAN > facts.now:
            return Decided(gate, None, facts.votes)
        return await self._act(
            owner_id, facts, decider, "claimed", change=", claimed_by = %(me)s, claimed_at = clock_timestamp()",
            condition=_UNCLAIMED, lost="GATE_CLAIMED",
        )  # fmt: skip

    async def release(self, owner_id: UUID, gate_id: UUID, *, decider: Decider) -> Decided:
        """Give a claim back; an admin may do it for another.

        Raises:
            NotFound: There is no such gate.
            StateConflict: GATE_CLOSED, or NOT_CLAIMED by him.
        """
        facts = await self.facts(owner_id, gate_id, decider)
        return await self._act(
            owner_id, facts, decider, "released", change=", claimed_by = NULL, claimed_at = NULL",
            condition="claimed_by IS NOT NULL AND (claimed_by = %(me)s OR %(admin)s)", lost="NOT_CLAIMED",
        )  # fmt: skip

    async def withdraw_vote(self, owner_id: UUID, gate_id: UUID, *, decider: Decider, reason: str) -> Decided:
        """Take a vote back while the gate is open.

        Raises:
            NotFound: There is no such gate.
            StateConflict: GATE_CLOSED, or NOT_VOTED.
        """
        facts = await self.facts(owner_id, gate_id, decider)
        gate = facts.gate
        if (closed := gate.closed()) is not None:
            raise closed
        mine = "EXISTS (SELECT 1 FROM gate_votes v WHERE v.gate_id = gates.id AND v.principal_id = %(me)s)"
        return await self._act(
            owner_id, facts, decider, "vote_withdrawn", condition=mine, reason=reason, lost="NOT_VOTED",
            beside="DELETE FROM gate_votes WHERE gate_id = %(gate)s AND principal_id = %(me)s",
        )  # fmt: skip

    async def extend(self, owner_id: UUID, gate_id: UUID, *, decider: Decider, until: datetime, reason: str) -> Decided:
        """Move the deadline of an open gate to a later moment.

        Raises:
            NotFound: There is no such gate.
            InvalidInput: It has no deadline, or a later one.
            StateConflict: GATE_CLOSED.
        """
        facts = await self.facts(owner_id, gate_id, decider)
        gate = facts.gate
        if gate.expires_at is None:
            raise StateConflict("the gate has no deadline", reason="NO_DEADLINE", gate_id=gate.id)
        if gate.expires_at >= until:
            raise InvalidInput(f"must be later than the deadline it has: {gate.expires_at.isoformat()}", field="until")
        data = {"from": gate.expires_at.isoformat(), "until": until.isoformat()}
        return await self._act(
            owner_id, facts, decider, "extended", change=", expires_at = %(until)s",
            condition="expires_at < %(until)s", reason=reason, data=data, until=until,
        )  # fmt: skip

    async def remind(self, owner_id: UUID, gate_id: UUID, *, decider: Decider, reason: str) -> Decided:
        """Tell whoever listens that the gate still waits."""
        return await self._act(
            owner_id, await self.facts(owner_id, gate_id, decider), decider, "reminded", reason=reason,
            data={"by": "hand"},
        )  # fmt: skip

    async def delegate(
        self, owner_id: UUID, gate_id: UUID, *, decider: Decider, to: str, reason: str, fresh: bool = False
    ) -> Decided:
        """Let somebody else decide this one gate in one's place.

        Raises:
            NotFound: There is no such gate.
            InvalidInput: There is no such person, or he is no approver and the policy wants one.
            PermissionDenied: The delegator could not decide it himself.
        """
        facts = await self._may(owner_id, gate_id, decider, fresh=fresh)
        gate = facts.gate
        person, barred = await self._person(owner_id, gate, to)
        if person.principal_id == decider.principal_id:
            raise InvalidInput("is yourself", field="to")
        if barred is not None:
            raise InvalidInput(f"may not decide this gate: {barred}", field="to")
        if gate.policy.delegation == "eligible" and not gate.policy.admits(person, gate.level):
            raise InvalidInput("is not among the approvers of this gate, and its policy wants that", field="to")
        return await self._act(
            owner_id, facts, decider, "delegated", reason=reason,
            data={"from": decider.name, "to": person.name, "to_id": str(person.principal_id)},
            beside="INSERT INTO delegations (id, owner_id, from_id, to_id, gate_id, reason, starts_at, created_by)"
            " VALUES (%(id)s, %(owner)s, %(me)s, %(to)s, %(gate)s, %(reason)s, clock_timestamp(), %(me)s)",
            id=uuid4(), to=person.principal_id,
        )  # fmt: skip

    async def note(self, owner_id: UUID, facts: Facts, decider: Decider, kind: str, data: dict[str, Any]) -> Decided:
        """Note something that changes nothing else."""
        return await self._act(owner_id, facts, decider, kind, data=data)

    async def _may(self, owner_id: UUID, gate_id: UUID, decider: Decider, *, fresh: bool) -> Facts:
        facts = await self.facts(owner_id, gate_id, decider, fresh=fresh)
        if (refusal := facts.gate.refusal(facts.decider)) is not None and facts.gate.status != "scheduled":
            raise refusal
        if isinstance(refusal, PermissionDenied):
            raise refusal
        return facts

    async def _person(self, owner_id: UUID, gate: Gate, name: str) -> tuple[Decider, str | None]:
        async with self.database.connection() as connection:
            row = await fetch_one(
                connection,
                "SELECT json_build_array(p.id, p.name, p.kind, p.roles, ARRAY(SELECT n.name FROM group_members m"
                " JOIN groups n ON n.id = m.group_id WHERE m.principal_id = p.id)), wfe_gate_bars(gates, p.id)"
                " FROM principals p, gates WHERE p.owner_id = %s AND p.name = %s AND p.disabled_at IS NULL"
                " AND gates.id = %s",
                (owner_id, name, gate.id),
            )
        if row is None:
            raise InvalidInput(f"there is nobody called {name}", field="to")
        return person_of(msgspec.json.decode(row[0])), row[1]

    async def _act(
        self,
        owner_id: UUID,
        facts: Facts,
        decider: Decider,
        kind: str,
        *,
        change: str = "",
        condition: str = "true",
        beside: str = "",
        reason: str = "",
        data: dict[str, Any] | None = None,
        lost: str = "",
        **values: Any,
    ) -> Decided:
        gate = facts.gate
        given = {
            "gate": gate.id, "owner": owner_id, "me": decider.principal_id, "admin": "admin" in decider.roles,
            "span": CLAIM_SPAN, "type": kind, "actor": f"principal:{decider.principal_id}", "reason": reason,
            "data": msgspec.json.encode({"name": decider.name, **(data or {})}).decode(), **values,
        }  # fmt: skip

        async def work(connection: Any) -> bool:
            row = await fetch_one(connection, _ACT.format(change=change, condition=condition), given)
            if row is not None and beside:
                await connection.execute(beside, given)
            return row is not None

        happened = await self.database.transaction(work)
        after = await self.facts(owner_id, gate.id, decider)
        if happened:
            return Decided(after.gate, Decision(gate.run_id, gate.id, 0), after.votes)
        closed = after.gate.closed()
        if closed is not None and closed.reason != "GATE_SCHEDULED":
            raise closed
        raise StateConflict(_LOST.get(lost, "the gate has changed; look at it again"), reason=lost or "GATE_CHANGED")


_LOST = {
    "GATE_CLAIMED": "somebody else has claimed it; he releases it, or the claim lapses",
    "NOT_CLAIMED": "you have not claimed it",
    "NOT_VOTED": "you have no vote at this gate",
}
