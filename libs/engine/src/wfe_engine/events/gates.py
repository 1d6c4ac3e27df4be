"""Events of approval gates."""

from __future__ import annotations

from typing import ClassVar

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
    """

    TYPE: ClassVar[str] = "approval.requested"
    title: str
    expires: float | None = None
    replaces: str = ""


class ApprovalApproved(GateEvent, frozen=True, kw_only=True):
    """Somebody, or the gate's deadline, approved."""

    TYPE: ClassVar[str] = "approval.approved"
    comment: str = ""


class ApprovalRejected(GateEvent, frozen=True, kw_only=True):
    """Somebody, or the gate's deadline, rejected."""

    TYPE: ClassVar[str] = "approval.rejected"
    comment: str = ""


class ApprovalExpired(GateEvent, frozen=True, kw_only=True):
    """Nobody decided in time; what follows from it is its own event.

    Attributes:
        outcome: approve, reject or fail.
    """

    TYPE: ClassVar[str] = "approval.expired"
    outcome: str


class ApprovalWithdrawn(GateEvent, frozen=True, kw_only=True):
    """The question is void: the run ended or was rolled back."""

    TYPE: ClassVar[str] = "approval.withdrawn"
