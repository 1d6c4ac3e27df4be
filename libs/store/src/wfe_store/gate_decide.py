"""Deciding gates: read what a vote is judged by, judge it, write it under the version it stands on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import errors
from wfe_engine.errors import Unavailable

from wfe_store.blobs import out_of_line
from wfe_store.gate import Decision, Gate
from wfe_store.gate_policy import Decider
from wfe_store.gate_quorum import Vote
from wfe_store.gate_rows import COLUMN_TEXT, GateRows, gate_of, missing
from wfe_store.gate_votes import Ballot, Decided, Facts, Verdict, judge, repeats
from wfe_store.pool import Connection, fetch_all, fetch_one

#: How often a vote is judged anew because somebody else was faster.
TRIES = 50
#: People of an owner that are looked at to see whether enough could still approve; beyond, it is not known.
MOST_PEOPLE = 2000

_PERSON = """json_build_array(p.id, p.name, p.kind, p.roles, ARRAY(SELECT n.name FROM group_members m
    JOIN groups n ON n.id = m.group_id WHERE m.principal_id = p.id), p.acts_for)"""
_VOTES = """SELECT coalesce(json_agg(json_build_array(v.principal_id, v.name, v.kind, v.roles, v.groups, v.behalf_of,
    v.behalf_name, v.vote, v.branch, v.comment, v.reason_code, v.digest, v.via, v.at,
    wfe_behind(coalesce(v.behalf_of, v.principal_id))) ORDER BY v.at), '[]')
    FROM gate_votes v WHERE v.gate_id = gates.id"""
_FACTS = f"""
SELECT {COLUMN_TEXT}, wfe_gate_bars(gates, %(me)s), clock_timestamp(), ({_VOTES}),
    (SELECT coalesce(json_agg(json_build_array({_PERSON}, wfe_gate_bars(gates, p.id)) ORDER BY d.created_at), '[]')
        FROM delegations d JOIN principals p ON p.id = d.from_id AND p.disabled_at IS NULL
        WHERE d.owner_id = gates.owner_id AND d.to_id = %(me)s AND d.revoked_at IS NULL
            AND (d.gate_id IS NULL OR d.gate_id = gates.id) AND d.starts_at <= clock_timestamp()
            AND coalesce(d.ends_at > clock_timestamp(), true)),
    ARRAY(SELECT n.name FROM group_members m JOIN groups n ON n.id = m.group_id WHERE m.principal_id = %(me)s),
    wfe_behind(%(me)s)
FROM gates WHERE gates.id = %(gate)s AND gates.owner_id = %(owner)s AND coalesce(gates.run_id = %(run)s, true)
"""  # noqa: S608 - no input in it

_RAISE = "UPDATE runs SET version = version + 1 WHERE id = %s AND owner_id = %s RETURNING version"
_WRITE = f"""
UPDATE gates SET version = version + 1, status = %(status)s, outcome = %(outcome)s, branch = %(branch)s,
    decided_by = CASE WHEN %(closes)s THEN %(me)s::uuid END,
    decided_at = CASE WHEN %(closes)s THEN clock_timestamp() END,
    comment = CASE WHEN %(closes)s THEN %(comment)s ELSE comment END,
    reason_code = CASE WHEN %(closes)s THEN %(reason_code)s ELSE reason_code END,
    decided_via = CASE WHEN %(closes)s THEN %(via)s ELSE '' END,
    form = coalesce(%(form)s, form), digest = coalesce(%(digest)s, digest), edited = coalesce(%(edited)s, edited),
    patch = coalesce(%(patch)s, patch), edited_by = coalesce(%(edited_by)s, edited_by),
    next_at = CASE WHEN %(closes)s THEN NULL ELSE next_at END
WHERE id = %(gate)s AND run_id = %(run)s AND owner_id = %(owner)s AND status = 'open' AND version = %(version)s
    AND coalesce(expires_at > coalesce(held_at, clock_timestamp()), true)
    AND (started_by <> %(me)s OR NOT 'run_starter' = ANY(exclude))
RETURNING {COLUMN_TEXT}, NULL
"""  # noqa: S608
_VOTE = """
INSERT INTO gate_votes (gate_id, principal_id, run_id, name, kind, roles, groups, behalf_of, behalf_name, vote, branch,
    comment, reason_code, digest, via, at)
VALUES (%(gate)s, %(me)s, %(run)s, %(name)s, %(kind)s, %(roles)s, %(groups)s, %(behalf_of)s, %(behalf_name)s, %(vote)s,
    %(branch)s, %(comment)s, %(reason_code)s, %(vote_digest)s, %(via)s,
    %(at)s)
ON CONFLICT (gate_id, principal_id) DO UPDATE SET name = excluded.name, kind = excluded.kind, roles = excluded.roles,
    groups = excluded.groups, behalf_of = excluded.behalf_of, behalf_name = excluded.behalf_name, vote = excluded.vote,
    branch = excluded.branch, comment = excluded.comment, reason_code = excluded.reason_code,
    digest = excluded.digest, via = excluded.via, at = excluded.at
"""
#: What was approved before an edit within its limits still counts.
_KEEP_VOTES = "UPDATE gate_votes SET digest = %(digest)s WHERE gate_id = %(gate)s AND digest = %(before)s"
NOTE = """
INSERT INTO gate_notes (gate_id, n, run_id, type, actor, reason, data)
VALUES (%(gate)s, %(n)s, %(run)s, %(type)s, %(actor)s, %(reason)s, %(data)s)
"""
_USE_LINK = "UPDATE gate_links SET used_at = clock_timestamp(), used_for = %s WHERE hash = %s AND used_at IS NULL"
_PART = "INSERT INTO blobs (run_id, id, part, data) VALUES (%s, %s, %s, %s)"
_encode = msgspec.json.encode


class Overtaken(Exception):
    """Somebody else changed the gate first; rolls the transaction back."""


class GateDecides(GateRows):
    """Gates, to be decided."""

    async def decide(
        self,
        owner_id: UUID,
        run_id: UUID | None,
        gate_id: UUID,
        *,
        decider: Decider,
        outcome: str = "",
        comment: str = "",
        expected_digest: str = "",
        ballot: Ballot | None = None,
        fresh: bool = False,
    ) -> Decided:
        """Take a vote in, and close the gate if that decides it; its run's version rises with it.

        The same vote by the same decider again gives the gate as it is.

        Args:
            run_id: The gate must be of this run; None for whichever.
            outcome, comment, expected_digest: A plain ballot: approve or reject.
            ballot: Everything there is to say; instead of those three.
            fresh: The decider's groups are to be those the store has now, not those he came with.

        Raises:
            NotFound: The owner, or his run, has no such gate.
            PermissionDenied, StateConflict, InvalidInput: See `gate_votes.judge`.
        """
        said = ballot or Ballot(vote=outcome, comment=comment, expected_digest=expected_digest)
        for attempt in range(TRIES):
            facts = await self.facts(
                owner_id, gate_id, decider, run_id=run_id, fresh=fresh, people=said.vote == "reject"
            )
            if repeats(facts, said):
                return Decided(facts.gate, None, facts.votes)
            verdict = await self._judge(facts, said)
            try:
                gate, decision = await self._write(owner_id, facts, said, verdict)
            except Overtaken:
                await asyncio.sleep(random.uniform(0, 0.002 * min(attempt + 1, 10)))
                continue
            return Decided(gate, decision, _votes_after(facts, said, verdict, gate))
        raise Unavailable("others decide on this gate at the same time; try again", reason="CONTENDED")

    async def _judge(self, facts: Facts, said: Ballot) -> Verdict:
        if said.edit is None:
            return judge(facts, said)
        (gate,) = await self.whole(facts.gate)
        if gate is facts.gate:
            return judge(facts, said)
        # Editing megabytes takes a while; the loop has other things to do.
        return await asyncio.to_thread(judge, replace(facts, gate=gate), said)

    async def facts(
        self,
        owner_id: UUID,
        gate_id: UUID,
        decider: Decider,
        *,
        run_id: UUID | None = None,
        fresh: bool = False,
        people: bool = False,
    ) -> Facts:
        """What a vote of that decider would be judged by.

        Args:
            people: Ask for everybody who could still approve, where the policy makes that matter.

        Raises:
            NotFound: There is no such gate.
        """
        given = {"me": decider.principal_id, "gate": gate_id, "owner": owner_id, "run": run_id}
        async with self.database.connection() as connection:
            row = await fetch_one(connection, _FACTS, given)
            if row is None:
                raise missing(gate_id)
            *columns, barred, now, votes, lenders, groups, behind = row
            gate = gate_of([*columns, barred])
            decider = replace(decider, acts_for=behind, groups=frozenset(groups) if fresh else decider.groups)
            everybody = None
            if people and gate.status == "open" and gate.policy.reject_count > 1:
                everybody = await approvers_of(connection, owner_id, gate)
        return Facts(
            gate=gate,
            votes=votes_of(votes),
            decider=decider,
            lenders=tuple((person_of(one), bar) for one, bar in msgspec.json.decode(lenders)),
            people=everybody,
            now=now,
        )

    async def votes(self, owner_id: UUID, ids: Sequence[UUID]) -> dict[UUID, tuple[Vote, ...]]:
        """The votes of some gates, by gate."""
        async with self.database.connection() as connection:
            rows = await fetch_all(
                connection,
                f"SELECT id, ({_VOTES}) FROM gates WHERE owner_id = %s AND id = ANY(%s)",  # noqa: S608
                (owner_id, list(ids)),
            )
        return {row[0]: votes_of(row[1]) for row in rows}

    async def everybody(self, owner_id: UUID, gate: Gate) -> list[Decider] | None:
        """All who could approve a gate now; None when that cannot be known. See `approvers_of`."""
        async with self.database.connection() as connection:
            return await approvers_of(connection, owner_id, gate)

    async def _write(
        self, owner_id: UUID, facts: Facts, ballot: Ballot, verdict: Verdict
    ) -> tuple[Gate, Decision | None]:
        values = _values(owner_id, facts, ballot, verdict)
        gate, edit = facts.gate, verdict.edit
        parts = _Parts()
        for name in ("edited", "patch", "form"):
            if values[name] is not None:
                values[name] = out_of_line(values[name].encode(), parts, gate.run_id)

        async def work(connection: Connection) -> tuple[Gate, Decision | None]:
            raised = None
            async with connection.pipeline():
                for part in parts.rows:
                    await connection.execute(_PART, part)
                if values["closes"]:
                    raised = await connection.execute(_RAISE, (gate.run_id, owner_id))
                written = await connection.execute(_WRITE, values)
                if edit is not None and edit.within:
                    await connection.execute(_KEEP_VOTES, values)
                if verdict.counts:
                    await connection.execute(_VOTE, values)
                if not values["closes"]:
                    await connection.execute(NOTE, values)
                used = None
                if ballot.link is not None:
                    used = await connection.execute(_USE_LINK, (ballot.vote, ballot.link))
            row = await written.fetchone()
            if row is None or (used is not None and used.rowcount != 1):
                raise Overtaken
            if raised is None:
                return gate_of(row), None
            version = await raised.fetchone()
            if version is None:
                raise Overtaken
            return gate_of(row), Decision(gate.run_id, gate.id, version[0])

        try:
            return await self.database.transaction(work)
        except errors.UniqueViolation as fault:  # somebody else's note has the number
            raise Overtaken from fault


class _Parts:
    """Parts of what is too large for the gate's row."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def add(self, *row: Any) -> None:
        self.rows.append(row)


def _values(owner_id: UUID, facts: Facts, ballot: Ballot, verdict: Verdict) -> dict[str, Any]:
    gate, edit, by, me = facts.gate, verdict.edit, verdict.by, facts.decider
    closes = verdict.status != "open"
    data: dict[str, Any] = {"vote": ballot.vote, "name": me.name, "via": ballot.via}
    if verdict.behalf_name:
        data["on_behalf_of"] = verdict.behalf_name
    if edit is not None:
        data |= {"digest": edit.digest, "beyond_limits": edit.beyond}
    return {
        "gate": gate.id, "run": gate.run_id, "owner": owner_id, "version": gate.version, "n": gate.version + 1,
        "me": me.principal_id, "name": me.name, "status": verdict.status, "outcome": verdict.outcome,
        "branch": verdict.branch, "closes": closes, "comment": ballot.comment, "reason_code": ballot.reason_code,
        "via": verdict.via, "form": ballot.form, "before": gate.digest,
        "digest": None if edit is None else edit.digest, "edited": None if edit is None else edit.payload,
        "patch": None if edit is None else edit.patch,
        "edited_by": me.principal_id if edit is not None and edit.beyond else None,
        "kind": by.kind, "roles": sorted(by.roles), "groups": sorted(by.groups), "behalf_of": verdict.behalf_of,
        "behalf_name": verdict.behalf_name, "vote": ballot.vote,
        "vote_digest": gate.digest if edit is None else edit.digest,
        "type": "voted" if verdict.counts else "edited", "actor": f"principal:{me.principal_id}",
        "at": facts.now, "reason": ballot.comment, "data": _encode(data).decode(),
    }  # fmt: skip


def _votes_after(facts: Facts, ballot: Ballot, verdict: Verdict, gate: Gate) -> tuple[Vote, ...]:
    if not verdict.counts:
        return facts.votes
    me = facts.decider
    mine = Vote(
        by=verdict.by, voter=me.principal_id, voter_name=me.name, behalf_of=verdict.behalf_of,
        behalf_name=verdict.behalf_name, vote=ballot.vote, branch=verdict.branch, comment=ballot.comment,
        reason_code=ballot.reason_code, digest=gate.digest, via=verdict.via, at=facts.now,
    )  # fmt: skip
    others = [vote for vote in facts.votes if vote.voter != me.principal_id]
    if verdict.edit is not None and verdict.edit.within:
        before = facts.gate.digest
        others = [replace(vote, digest=gate.digest) if vote.digest == before else vote for vote in others]
    return (*others, mine)


async def approvers_of(connection: Connection, owner_id: UUID, gate: Gate) -> list[Decider] | None:
    """Everybody of the owner who could approve a gate now.

    None when that cannot be known: a group is named that the store does not have (it may come with tokens), or there
    are more than MOST_PEOPLE.
    """
    blocks = gate.policy.at(gate.level)
    wanted = [name for block in blocks for name in block.groups if "\0" not in name]
    found = await fetch_all(
        connection, "SELECT name FROM groups WHERE owner_id = %s AND name = ANY(%s)", (owner_id, wanted)
    )
    if len(found) < len(set(wanted)):
        return None
    rows = await fetch_all(
        connection,
        f"SELECT {_PERSON} FROM principals p, gates WHERE gates.id = %s AND p.owner_id = %s"  # noqa: S608
        " AND p.disabled_at IS NULL AND p.roles && ARRAY['approver', 'admin']"
        " AND wfe_gate_bars(gates, p.id) IS NULL LIMIT %s",
        (gate.id, owner_id, MOST_PEOPLE + 1),
    )
    if len(rows) > MOST_PEOPLE:
        return None
    people = [person_of(msgspec.json.decode(row[0])) for row in rows]
    return [one for one in people if any(block.admits(one) for block in blocks)]


def person_of(columns: Sequence[Any]) -> Decider:
    """Somebody of the store."""
    principal, name, kind, roles, groups, *more = columns
    return Decider(
        principal_id=UUID(principal),
        name=name,
        kind=kind,
        roles=frozenset(roles),
        groups=frozenset(groups),
        acts_for=UUID(more[0]) if more and more[0] else None,
    )


def votes_of(text: str) -> tuple[Vote, ...]:
    """The votes of their JSON."""
    found = []
    for (
        voter, name, kind, roles, groups, behalf_of, behalf_name, vote, branch, comment, reason_code, digest, via, at,
        behind,
    ) in msgspec.json.decode(text):  # fmt: skip
        person = Decider(
            principal_id=UUID(behalf_of or voter),
            name=behalf_name if behalf_of else name,
            kind=kind,
            roles=frozenset(roles),
            groups=frozenset(groups),
            acts_for=UUID(behind),
        )
        found.append(
            Vote(
                by=person,
                voter=UUID(voter),
                voter_name=name,
                behalf_of=UUID(behalf_of) if behalf_of else None,
                behalf_name=behalf_name,
                vote=vote,
                branch=branch,
                comment=comment,
                reason_code=reason_code,
                digest=digest,
                via=via,
                at=datetime.fromisoformat(at),
            )
        )
    return tuple(found)
