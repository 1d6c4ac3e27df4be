"""A gate: a question of a run to people, and what became of it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from wfe_engine.errors import PermissionDenied, StateConflict, WfeError

from wfe_store.gate_policy import Decider, Policy

STATUSES = ("scheduled", "open", "approved", "rejected", "revise", "expired", "withdrawn", "superseded")
#: A claim that is not released lapses after this.
CLAIM_SPAN = timedelta(hours=1)

_BARRED = {
    "run_starter": ("SELF_APPROVAL", "you started the run, so somebody else must decide"),
    "previous_approvers": (
        "ALREADY_APPROVED",
        "you approved an earlier gate of this run, so somebody else must decide",
    ),
    "template_publisher": ("TEMPLATE_PUBLISHER", "you published the template, so somebody else must decide"),
    "edited": ("EDITED_BY_YOU", "you edited the payload beyond its limits, so somebody else must approve it"),
}


@dataclass(frozen=True, slots=True)
class Gate:
    """A question of a run to people, and what became of it.

    Attributes:
        id: Of the gate.
        run_id: Run that waits.
        no: Number of the step that waits.
        path, iteration: The step's.
        status: One of STATUSES.
        title: The question.
        body: More about it, Markdown; may be empty.
        payload: JSON text of what is to be approved, as the template gave it; None without.
        policy: Who may decide.
        digest: SHA-256 over what the decision is about, hex; of the edited payload once there is one.
        started_by: Principal behind the run.
        replaces: The gate it follows after a retry, rollback or revision; None for the first.
        created_at: When it was asked.
        expires_at: When the default decision is taken; None without a deadline. Stands still while held.
        on_expiry: The default decision: reject, approve, fail or branch.
        held_at: Since when the run is paused; None while it is not.
        decided_at: When it closed; None while open.
        decided_by: Principal that decided; None while open or when nobody did.
        outcome: What the run is told: approve, reject, fail, branch or revise; None while open, or withdrawn or
            superseded.
        comment: What the decider said.
        version: Rises with every change.
        who: Tokens of those who may decide; see `Policy.who`.
        exclude: See `Policy`.
        risk: low, medium or high.
        bound: JSON text of what else the digest is over; see `wfe_engine.digests`.
        round: Revisions before this one.
        level: Escalations that have happened.
        opens_at: When a scheduled one opens.
        next_at, agenda: What happens to it next, and after that.
        edited: JSON text of the payload as edited; None when it was not.
        patch: JSON Patch from payload to edited.
        edited_by: Who edited it beyond its limits; he cannot approve that.
        form: JSON text of what the deciding vote filled in; None without.
        branch: Where the run goes on after a rejection that does not fail it.
        reason_code: Of the closing vote.
        decided_via: vote, link, batch, bypass, expiry or unreachable; empty while open.
        claimed_by, claimed_at: Who is at it.
        replaced_by: The gate that follows it, the other end of `replaces`; None while there is none.
        overdue: Open, past its deadline, and not yet closed by the expiry loop; cannot be decided any more.
        barred: Why the one who asks may not decide though he is named; see wfe_gate_bars. None when nothing does, or
            when it was not asked.
    """

    id: UUID
    run_id: UUID
    no: int
    path: str
    iteration: str
    status: str
    title: str
    body: str
    payload: str | None
    policy: Policy
    digest: str
    started_by: UUID
    replaces: UUID | None
    created_at: datetime
    expires_at: datetime | None
    on_expiry: str
    held_at: datetime | None
    decided_at: datetime | None
    decided_by: UUID | None
    outcome: str | None
    comment: str
    version: int
    who: tuple[str, ...]
    exclude: tuple[str, ...]
    risk: str
    bound: str
    round: int
    level: int
    opens_at: datetime | None
    next_at: datetime | None
    agenda: str
    edited: str | None
    patch: str | None
    edited_by: UUID | None
    form: str | None
    branch: str
    reason_code: str
    decided_via: str
    claimed_by: UUID | None
    claimed_at: datetime | None
    replaced_by: UUID | None
    overdue: bool
    barred: str | None = None

    @property
    def present(self) -> str | None:
        """JSON text of what an approval now approves."""
        return self.payload if self.edited is None else self.edited

    def refusal(self, decider: Decider) -> WfeError | None:
        """Why that decider may not decide it now.

        None when he may. Who he is comes before what state it is in.
        """
        if not self.policy.admits(decider, self.level):
            return PermissionDenied(
                "you are not among the approvers of this gate", reason="NOT_AN_APPROVER", gate_id=self.id
            )
        return self.bar(decider) or self.closed()

    def bar(self, decider: Decider) -> PermissionDenied | None:
        """What stands against a decider who is named."""
        barred = self.barred
        if barred is None and "run_starter" in self.exclude and decider.principal_id == self.started_by:
            barred = "run_starter"
        if barred is None:
            return None
        reason, message = _BARRED[barred]
        return PermissionDenied(message, reason=reason, gate_id=self.id)

    def closed(self) -> StateConflict | None:
        """That it cannot be decided by anybody now; None when it can."""
        if self.status == "open" and not self.overdue:
            return None
        status = "expired" if self.overdue else self.status
        if status == "scheduled":
            return StateConflict(
                f"the gate opens at {self.opens_at}",
                reason="GATE_SCHEDULED",
                gate_id=self.id,
                status=status,
                opens_at=self.opens_at.isoformat() if self.opens_at else "",
            )
        anew = f"; it is asked anew as {self.replaced_by}" if self.replaced_by else ""
        return StateConflict(
            f"the gate is closed: {status}{anew}",
            reason="GATE_CLOSED",
            gate_id=self.id,
            status=status,
            decision=self.outcome or "",
            decided_by=self.decided_by or "",
            decided_at=self.decided_at.isoformat() if self.decided_at else "",
            replaced_by=self.replaced_by or "",
        )

    def claimed_from(self, principal_id: UUID, now: datetime) -> StateConflict | None:
        """That somebody else is at it, where one decision is all it needs."""
        if self.claimed_by in (None, principal_id) or self.policy.need > 1 or self.claimed_at is None:
            return None
        if self.claimed_at + CLAIM_SPAN <= now:
            return None
        return StateConflict(
            "somebody else has claimed it; he releases it, or the claim lapses",
            reason="GATE_CLAIMED",
            gate_id=self.id,
            claimed_by=self.claimed_by,
            lapses_at=(self.claimed_at + CLAIM_SPAN).isoformat(),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision the run's scheduler has to be told of.

    Attributes:
        run_id: The run.
        gate_id: The gate.
        version: Version of the run with the decision.
    """

    run_id: UUID
    gate_id: UUID
    version: int
