"""What somebody says at a gate, and what follows from it. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from wfe_engine.errors import InvalidInput, PermissionDenied, StateConflict

from wfe_store.gate import Decision, Gate
from wfe_store.gate_policy import Decider
from wfe_store.gate_quorum import CLOSED_AS, Vote, approvals, met, reachable, rejections, taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A changed payload.

    Attributes:
        payload: JSON text of the whole.
        patch: JSON Patch from the original payload to it; JSON text.
        digest: Of it.
        within: Every change keeps to a limit the policy names: what others approved before still counts.
        beyond: A change breaks a limit: others must approve it.
    """

    payload: str
    patch: str
    digest: str
    within: bool
    beyond: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """What a decider says.

    Attributes:
        vote: approve, reject or revise.
        outcome: Of a rejection: one of the policy's outcomes; the first when empty.
        comment: For the record; the reason of a rejection.
        reason_code: One of the policy's options.
        expected_digest: Digest the decider saw; not looked at when empty.
        form: JSON text of what was filled in.
        check: Refuses an approval whose form is not what the gate asks for. Raises InvalidInput.
        edit: Makes the edit of a gate; None for none. Raises InvalidInput when the gate does not allow it.
        behalf_of: Name of the one the vote is to stand for; empty for oneself.
        via: vote, link, batch or bypass.
        link: Hash of the link it came by.
    """

    vote: str
    outcome: str = ""
    comment: str = ""
    reason_code: str = ""
    expected_digest: str = ""
    form: str | None = None
    check: Callable[[Gate], None] | None = None
    edit: Callable[[Gate], Edit | None] | None = None
    behalf_of: str = ""
    via: str = "vote"
    link: bytes | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """Answer to a decision: the gate, its votes, and what to tell; None when nothing changed."""

    gate: Gate
    decision: Decision | None
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All a vote is judged by, of one moment.

    Attributes:
        gate: With what bars the decider.
        votes: So far.
        decider: With his roles and groups of now.
        lenders: Those who let him decide in their place, and whether something bars them.
        people: Everybody who could still approve; None when that is not known or was not asked.
        now: The store's clock.
    """

    gate: Gate
    votes: tuple[Vote, ...]
    decider: Decider
    lenders: tuple[tuple[Decider, str | None], ...]
    people: Sequence[Decider] | None
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to write for a vote.

    Attributes:
        status: The gate's; open when it stays open.
        outcome: What the run is told; None while it stays open.
        branch: Of a rejection that does not fail.
        via: See `Gate.decided_via`.
        by: Standing the vote counts with.
        behalf_of, behalf_name: Who lent it.
        counts: Whether the vote is kept.
        edit: The new payload, if there is one.
    """

    status: str
    outcome: str | None
    branch: str
    via: str
    by: Decider
    behalf_of: UUID | None
    behalf_name: str
    counts: bool = True
    edit: Edit | None = None


def repeats(facts: Facts, ballot: Ballot) -> bool:
    """Whether the decider has said just that before and nothing has come in between."""
    gate = facts.gate
    mine = next((vote for vote in facts.votes if vote.voter == facts.decider.principal_id), None)
    if mine is None:  # bypassed, or decided before votes were kept
        return gate.status == CLOSED_AS[ballot.vote] and gate.decided_by == facts.decider.principal_id
    if mine.vote != ballot.vote or (ballot.link is not None and mine.via != "link"):
        return False
    if gate.status == CLOSED_AS[mine.vote]:
        return True
    return gate.status == "open" and not gate.overdue and ballot.edit is None and mine.digest == gate.digest


def judge(facts: Facts, ballot: Ballot) -> Verdict:
    """What a vote brings about.

    Raises:
        PermissionDenied: NOT_AN_APPROVER, SELF_APPROVAL and its like, NOT_DELEGATED, BYPASS_OFF.
        StateConflict: GATE_CLOSED, GATE_SCHEDULED, GATE_CLAIMED, STALE_PAYLOAD, REVISE_LIMIT, COUNTED_ALREADY.
        InvalidInput: The gate's policy asks for more, or something else.
    """
    gate = facts.gate
    by, behalf_of, behalf_name = _standing(facts, ballot)
    if (closed := gate.closed()) is not None:
        raise closed
    if ballot.expected_digest and ballot.expected_digest != gate.digest:
        raise StateConflict(
            "the gate is not the one you saw; look at it again",
            reason="STALE_PAYLOAD",
            gate_id=gate.id,
            digest=gate.digest,
        )
    base: dict[str, object] = {"by": by, "behalf_of": behalf_of, "behalf_name": behalf_name, "via": ballot.via}
    if ballot.via != "bypass" and (claimed := gate.claimed_from(facts.decider.principal_id, facts.now)) is not None:
        raise claimed
    if ballot.vote != "approve":
        return _against(facts, ballot, base, by)
    if ballot.check is not None:
        ballot.check(gate)
    edit = None if ballot.edit is None else ballot.edit(gate)
    if ballot.via == "bypass":
        return Verdict(status="approved", outcome="approve", branch="", counts=False, edit=edit, **base)  # type: ignore
    if edit is not None and edit.beyond:
        return Verdict(status="open", outcome=None, branch="", counts=False, edit=edit, **base)  # type: ignore[arg-type]
    person = by.behind
    others = [vote for vote in facts.votes if vote.voter != facts.decider.principal_id]
    _not_twice(gate, others, person)
    digest = gate.digest if edit is None or edit.within else edit.digest
    for_it = [*approvals(others, digest), by]
    blocks = gate.policy.at(gate.level)
    done = met(blocks, taken(blocks, for_it))
    return Verdict(
        status="approved" if done else "open", outcome="approve" if done else None, branch="", edit=edit, **base  # type: ignore
    )  # fmt: skip


def _standing(facts: Facts, ballot: Ballot) -> tuple[Decider, UUID | None, str]:
    gate, me = facts.gate, facts.decider
    if ballot.via == "bypass":
        if not gate.policy.bypass:
            raise PermissionDenied("this gate cannot be bypassed", reason="BYPASS_OFF", gate_id=gate.id)
        if (bar := gate.bar(me)) is not None:
            raise bar
        return me, None, ""
    lenders = [(lender, barred) for lender, barred in facts.lenders if ballot.behalf_of in ("", lender.name)]
    if ballot.behalf_of and not lenders:
        raise PermissionDenied(
            f"{ballot.behalf_of} has not let you decide in their place",
            reason="NOT_DELEGATED",
            gate_id=gate.id,
            delegator=ballot.behalf_of,
        )
    if gate.policy.admits(me, gate.level):
        if (bar := gate.bar(me)) is not None:
            raise bar
        # He counts as himself; whose place he took is told with it.
        return me, None, lenders[0][0].name if lenders and ballot.behalf_of else ""
    if gate.policy.delegation == "anyone" and (bar := gate.bar(me)) is None:
        for lender, barred in lenders:
            if barred is None and gate.policy.admits(lender, gate.level):
                return lender, lender.principal_id, lender.name
    raise gate.refusal(me) or PermissionDenied(
        "you are not among the approvers of this gate", reason="NOT_AN_APPROVER", gate_id=gate.id
    )


def _not_twice(gate: Gate, others: Sequence[Vote], person: UUID) -> None:
    if any(vote.person == person and vote.vote == "approve" and vote.digest == gate.digest for vote in others):
        raise StateConflict(
            "a delegate or an agent has voted in the same person's place; nobody counts twice",
            reason="COUNTED_ALREADY",
            gate_id=gate.id,
        )


def _against(facts: Facts, ballot: Ballot, base: dict[str, object], by: Decider) -> Verdict:
    gate, policy = facts.gate, facts.gate.policy
    if ballot.edit is not None or ballot.form is not None:
        raise InvalidInput("belongs to an approval", field="edits" if ballot.edit is not None else "form")
    outcome = _outcome(gate, ballot)
    if (policy.reason_required or outcome == "revise") and not ballot.comment.strip():
        raise InvalidInput("is required: say why", field="comment")
    if ballot.reason_code and ballot.reason_code not in policy.options:
        known = ", ".join(policy.options) or "none"
        raise InvalidInput(f"is not a reason of this gate; known: {known}", field="reason_code")
    if outcome != "revise" and policy.options and policy.reason_required and not ballot.reason_code:
        raise InvalidInput(f"is required: one of {', '.join(policy.options)}", field="reason_code")
    if outcome == "revise":
        if gate.round >= policy.max_rounds:
            raise StateConflict(
                f"it was revised {gate.round} times, and the policy allows no more; approve or reject it",
                reason="REVISE_LIMIT",
                gate_id=gate.id,
                max_rounds=policy.max_rounds,
            )
        return Verdict(status="revise", outcome="revise", branch="", **base)  # type: ignore[arg-type]
    others = [vote for vote in facts.votes if vote.voter != facts.decider.principal_id]
    person = by.behind
    against = rejections([vote for vote in others if vote.person != person]) + 1
    status, branch = "open", outcome.partition(":")[2] if outcome.startswith("branch") else ""
    if against >= policy.reject_count:
        status = "rejected"
    elif facts.people is not None:
        blocks = policy.at(gate.level)
        remaining = [one for one in facts.people if one.behind != person]
        if not reachable(blocks, [vote for vote in others if vote.person != person], gate.digest, remaining):
            status, base = "rejected", {**base, "via": "unreachable"}
    told = None if status == "open" else "branch" if outcome.startswith("branch") else "reject"
    return Verdict(status=status, outcome=told, branch=branch, **base)  # type: ignore[arg-type]


def _outcome(gate: Gate, ballot: Ballot) -> str:
    policy = gate.policy
    if ballot.vote == "revise":
        if not policy.max_rounds:
            raise StateConflict(
                "this gate cannot be sent back; approve or reject it", reason="REVISE_NOT_ALLOWED", gate_id=gate.id
            )
        return "revise"
    outcome = ballot.outcome or policy.reject_outcomes[0]
    if outcome not in policy.reject_outcomes:
        raise InvalidInput(f"must be one of {', '.join(policy.reject_outcomes)}", field="outcome")
    return outcome
