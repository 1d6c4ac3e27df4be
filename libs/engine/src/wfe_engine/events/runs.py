"""Events of a run as a whole."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from wfe_engine.events.base import Event
from wfe_engine.state import Fault, Return, Scope, Undo


class RunCreated(Event, frozen=True, kw_only=True):
    """A run was accepted.

    Attributes:
        template: UUID of the template.
        template_version: Its version.
        trigger: api, fork, …
        input: Values of the variables; sensitive ones as sealed placeholders.
        labels: Given at the start.
        deadline: End of the run's total clock; Unix seconds.
        forked_from: Run this one was forked from.
        snapshot: Snapshot it began at.
        scopes, next_no: The frontier it began with, when forked.
        start_at: Moment it waits for before it starts; Unix seconds. None when it starts at once.
    """

    TYPE: ClassVar[str] = "run.created"
    template: str
    template_version: int
    trigger: str
    input: Any
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    deadline: float | None = None
    forked_from: str = ""
    snapshot: str = ""
    scopes: dict[str, Scope] = msgspec.field(default_factory=dict)
    next_no: int = 1
    start_at: float | None = None


class RunStarted(Event, frozen=True, kw_only=True):
    """The first steps are about to be entered.

    Attributes:
        deadline: End of the total clock of a run that had waited for its start; None for others.
    """

    TYPE: ClassVar[str] = "run.started"
    deadline: float | None = None


class RunPaused(Event, frozen=True, kw_only=True):
    """Nothing new is claimed until it is resumed; steps in flight finish."""

    TYPE: ClassVar[str] = "run.paused"


class RunResumed(Event, frozen=True, kw_only=True):
    """It goes on; every moment it waited for is later by the length of the pause.

    Attributes:
        paused_for: Seconds.
    """

    TYPE: ClassVar[str] = "run.resumed"
    paused_for: float


class RunCompleted(Event, frozen=True, kw_only=True):
    """Every step has finished."""

    TYPE: ClassVar[str] = "run.completed"


class RunFailed(Event, frozen=True, kw_only=True):
    """It failed.

    Attributes:
        fault: Why.
        code: Short code shown as the run's reason, e.g. approval_rejected.
    """

    TYPE: ClassVar[str] = "run.failed"
    fault: Fault
    code: str = ""


class RunCancelled(Event, frozen=True, kw_only=True):
    """Somebody ended it.

    Attributes:
        terminated: Whether it was the hard way.
    """

    TYPE: ClassVar[str] = "run.cancelled"
    terminated: bool = False


class RunCompensating(Event, frozen=True, kw_only=True):
    """What completed steps did is being taken back, before the run ends or goes back to a snapshot.

    Attributes:
        fault: What it ends with then.
        returning: The snapshot it goes back to then.
    """

    TYPE: ClassVar[str] = "run.compensating"
    fault: Fault | None = None
    returning: Return | None = None


class RunRetried(Event, frozen=True, kw_only=True):
    """A failed or cancelled run goes on; the failed and cancelled steps are ready again with a fresh budget.

    Attributes:
        deadline: New end of the run's total clock.
    """

    TYPE: ClassVar[str] = "run.retried"
    deadline: float | None = None


class RunRolledBack(Event, frozen=True, kw_only=True):
    """It is back at a snapshot; what came after is undone in the record, not in the world.

    Attributes:
        snapshot: UUID of the snapshot.
        to_seq: Last event the snapshot holds.
        scopes: The frontier of that point; entered are only steps with blocks.
        next_no: Number the next entered step gets.
        undo: Steps of that point whose effects can be taken back.
        reopened: It had ended.
        deadline: New end of the run's total clock.
    """

    TYPE: ClassVar[str] = "run.rolled_back"
    snapshot: str
    to_seq: int
    scopes: dict[str, Scope] = msgspec.field(default_factory=dict)
    next_no: int = 1
    undo: tuple[Undo, ...] = ()
    reopened: bool = False
    deadline: float | None = None


class SnapshotCreated(Event, frozen=True, kw_only=True):
    """The state up to and with this event was kept.

    Attributes:
        snapshot: UUID of the snapshot.
        kind: gate, checkpoint, periodic or demand.
        name: May be empty.
    """

    TYPE: ClassVar[str] = "snapshot.created"
    snapshot: str
    kind: str
    name: str = ""
