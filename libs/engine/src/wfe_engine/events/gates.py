"""What happens to gates.

What happens between their opening and their end is decided by the approvals service, which keeps a note of it; the
run's log gets it with the actor and the moment of the note.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from wfe_engine.events.base import StepEvent


class GateEvent(StepEvent, frozen=True, kw_only=True):
    """Base of what happens to a gate.

    Attributes:
        approval: UUID of the gate.
    """

    approval: str


class ApprovalRequested(GateEvent, frozen=True, kw_only=True):
    """A gate opened.

    Attributes:
        title: The question.
        expires: Moment of the default decision; Unix seconds.
        replaces: Gate it replaces.
        opens: Moment from which it can be decided; Unix seconds. None for at once.
        digest: Of what is asked for.
        round: Revisions before this one.
    """

    TYPE: ClassVar[str] = "approval.requested"
    title: str
    expires: float | None = None
    replaces: str = ""
    opens: float | None = None
    digest: str = ""
    round: int = 0


class GateDecided(GateEvent, frozen=True, kw_only=True):
    """Base of how a gate ended by a decision.

    Attributes:
        comment: What the decider said.
        via: vote, link, batch, bypass, expiry or unreachable.
        votes: Everybody's: {by, name, vote, at, …}.
    """

    comment: str = ""
    via: str = ""
    votes: list[dict[str, Any]] = msgspec.field(default_factory=list)


class ApprovalApproved(GateDecided, frozen=True, kw_only=True):
    """Somebody, or the gate's deadline, approved.

    Attributes:
        digest: Of what was approved.
        edited: The payload was changed first.
    """

    TYPE: ClassVar[str] = "approval.approved"
    digest: str = ""
    edited: bool = False


class ApprovalRejected(GateDecided, frozen=True, kw_only=True):
    """Somebody, or the gate's deadline, rejected.

    Attributes:
        branch: Where the run goes on; empty when it fails.
        reason_code: One of the policy's options.
    """

    TYPE: ClassVar[str] = "approval.rejected"
    branch: str = ""
    reason_code: str = ""


class ApprovalExpired(GateEvent, frozen=True, kw_only=True):
    """Nobody decided in time; what follows from it is its own event.

    Attributes:
        outcome: approve, reject, fail or branch.
    """

    TYPE: ClassVar[str] = "approval.expired"
    outcome: str


class ApprovalWithdrawn(GateEvent, frozen=True, kw_only=True):
    """The question is void: the run ended, or its step was settled by hand."""

    TYPE: ClassVar[str] = "approval.withdrawn"


class ApprovalSuperseded(GateEvent, frozen=True, kw_only=True):
    """The question is void: another takes its place.

    The run went back and asks anew when it comes there again; or it was retried after it had ended, which had withdrawn
    the gate, and asks anew now.
    """

    TYPE: ClassVar[str] = "approval.superseded"


class ApprovalRevised(GateEvent, frozen=True, kw_only=True):
    """Somebody sent it back: some steps are done again, and then the gate opens again.

    Attributes:
        comment: Why.
        round: How many revisions this gate has had, with this one.
        again: Indexes of the steps of its block that are done again.
    """

    TYPE: ClassVar[str] = "approval.revise_requested"
    comment: str
    round: int
    again: tuple[int, ...]


class GateNoted(GateEvent, frozen=True, kw_only=True):
    """Base of what the approvals service noted.

    Attributes:
        note: Number of the note within the gate; rises.
        by: principal:UUID or timer.
        at: When; Unix seconds. The event itself is a moment later.
        comment: Why, as the actor said.
        data: Small facts that depend on the type.
    """

    note: int
    by: str
    at: float
    comment: str = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class ApprovalOpened(GateNoted, frozen=True, kw_only=True):
    """A scheduled gate can be decided now."""

    TYPE: ClassVar[str] = "approval.opened"


class ApprovalReminded(GateNoted, frozen=True, kw_only=True):
    """It still waits."""

    TYPE: ClassVar[str] = "approval.reminded"


class ApprovalExpiring(GateNoted, frozen=True, kw_only=True):
    """Its deadline is near."""

    TYPE: ClassVar[str] = "approval.expiring"


class ApprovalEscalated(GateNoted, frozen=True, kw_only=True):
    """Others may decide it now."""

    TYPE: ClassVar[str] = "approval.escalated"


class ApprovalClaimed(GateNoted, frozen=True, kw_only=True):
    """Somebody is at it."""

    TYPE: ClassVar[str] = "approval.claimed"


class ApprovalReleased(GateNoted, frozen=True, kw_only=True):
    """He is not any more."""

    TYPE: ClassVar[str] = "approval.released"


class ApprovalDelegated(GateNoted, frozen=True, kw_only=True):
    """Somebody may decide it in another's place."""

    TYPE: ClassVar[str] = "approval.delegated"


class ApprovalVoted(GateNoted, frozen=True, kw_only=True):
    """A vote that left it open; the one that closes it is in the event of its end."""

    TYPE: ClassVar[str] = "approval.voted"


class ApprovalVoteWithdrawn(GateNoted, frozen=True, kw_only=True):
    """A vote was taken back."""

    TYPE: ClassVar[str] = "approval.vote_withdrawn"


class ApprovalEdited(GateNoted, frozen=True, kw_only=True):
    """The payload was changed beyond its limits; others must approve that."""

    TYPE: ClassVar[str] = "approval.edited"


class ApprovalExtended(GateNoted, frozen=True, kw_only=True):
    """Its deadline is later."""

    TYPE: ClassVar[str] = "approval.extended"


class ApprovalLinkIssued(GateNoted, frozen=True, kw_only=True):
    """A one-time link was made for somebody."""

    TYPE: ClassVar[str] = "approval.link_issued"


class ApprovalLinkUsed(GateEvent, frozen=True, kw_only=True):
    """It was decided by a link."""

    TYPE: ClassVar[str] = "approval.link_used"


class ApprovalLinkRefused(GateNoted, frozen=True, kw_only=True):
    """A link was good, and the one it is for could not decide with it."""

    TYPE: ClassVar[str] = "approval.link_refused"


#: By the word the approvals service has for them.
NOTED: dict[str, type[GateNoted]] = {
    kind.TYPE.removeprefix("approval."): kind
    for kind in (
        ApprovalOpened, ApprovalReminded, ApprovalExpiring, ApprovalEscalated, ApprovalClaimed, ApprovalReleased,
        ApprovalDelegated, ApprovalVoted, ApprovalVoteWithdrawn, ApprovalEdited, ApprovalExtended, ApprovalLinkIssued,
        ApprovalLinkRefused,
    )
}  # fmt: skip


class ApprovalBypassed(GateEvent, frozen=True, kw_only=True):
    """Somebody with the right to do so approved it alone, whatever its policy asks for."""

    TYPE: ClassVar[str] = "approval.bypassed"
    comment: str
