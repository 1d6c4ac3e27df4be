"""Events of steps, of their blocks and of what reaches them from outside."""

from __future__ import annotations

from typing import Any, ClassVar

from wfe_engine.events.base import Event, StepEvent
from wfe_engine.state import Fault


class CompensationNoted(StepEvent, frozen=True, kw_only=True):
    """A step completed whose effects can be taken back; how is on record.

    Attributes:
        undo: Number of the step that would do it.
        fault: Why it will fail: its params could not be computed.
    """

    TYPE: ClassVar[str] = "compensation.noted"
    undo: int
    fault: Fault | None = None


class StepReady(StepEvent, frozen=True, kw_only=True):
    """It was entered and waits for an executor.

    Attributes:
        kind: Of the step.
    """

    TYPE: ClassVar[str] = "step.ready"
    kind: str


class StepStarted(StepEvent, frozen=True, kw_only=True):
    """A step with blocks was entered, or goes on in a retried run.

    Attributes:
        kind: Of the step.
        of: Blocks it will run in all; 0 when that is not known.
    """

    TYPE: ClassVar[str] = "step.started"
    kind: str
    of: int = 0


class StepFailing(StepEvent, frozen=True, kw_only=True):
    """A step with blocks cannot go on; it ends once nothing inside of it is active any more.

    Attributes:
        fault: What it will end with.
    """

    TYPE: ClassVar[str] = "step.failing"
    fault: Fault


class BlockEnded(StepEvent, frozen=True, kw_only=True):
    """A block of a step ended, and what was in it is settled.

    Attributes:
        block: Index of the block.
        round: Which time it was run.
        status: completed or failed.
        fault: Why it failed.
    """

    TYPE: ClassVar[str] = "block.ended"
    block: int = 0
    round: int = 0
    status: str = "completed"
    fault: Fault | None = None


class BlockFailing(Event, frozen=True, kw_only=True):
    """A block cannot go on; it ends once what has to be done at its end is done.

    Attributes:
        scope: Its key; empty for the run itself.
        fault: Why.
    """

    TYPE: ClassVar[str] = "block.failing"
    scope: str = ""
    fault: Fault


class Emitted(StepEvent, frozen=True, kw_only=True):
    """The template tells something to whoever listens.

    Attributes:
        name: Of what is told.
        data: What the template says of it; JSON.
    """

    TYPE: ClassVar[str] = "emitted"
    name: str
    data: Any = None


class StepWaiting(StepEvent, frozen=True, kw_only=True):
    """It was entered and waits for a moment, a signal or another run.

    Attributes:
        due: When it is over at the latest; Unix seconds, None without a limit.
        until: End of the whole wait, where `due` is the next sign of life.
        child: UUID of the run it waits for.
        callback: Key of the callback it takes, which may be answered again from now on.
    """

    TYPE: ClassVar[str] = "step.waiting"
    kind: str
    due: float | None = None
    until: float | None = None
    child: str = ""
    callback: str = ""


class SignalReceived(Event, frozen=True, kw_only=True):
    """A signal came; it is kept until a step takes it.

    Attributes:
        signal: UUID of its row, which holds the payload.
        name: Its name; `callback:` and the callback's key for an answer to one.
        failed: The other side says that what was waited for failed.
    """

    TYPE: ClassVar[str] = "signal.received"
    signal: str
    name: str
    failed: bool = False


class SignalTaken(StepEvent, frozen=True, kw_only=True):
    """A step takes a signal.

    Attributes:
        signal: UUID of its row.
    """

    TYPE: ClassVar[str] = "signal.taken"
    signal: str


class CallbackAlive(StepEvent, frozen=True, kw_only=True):
    """The other side of a callback is still at work.

    Attributes:
        due: When it must be heard of again; Unix seconds, None without a limit.
        progress: What it says of it; JSON.
    """

    TYPE: ClassVar[str] = "callback.alive"
    due: float | None = None
    progress: Any = None


class StepRetrying(StepEvent, frozen=True, kw_only=True):
    """An attempt failed and another follows.

    Attributes:
        attempt: The one that failed, 1 and up.
        fault: Why.
        due: When the next is due; Unix seconds.
        executor: That ran it.
    """

    TYPE: ClassVar[str] = "step.retrying"
    attempt: int
    fault: Fault
    due: float
    executor: str = ""


class StepCompleted(StepEvent, frozen=True, kw_only=True):
    """It gave a result.

    Attributes:
        attempt: The one that gave it; 0 for steps the engine does itself.
        executor: That ran it; empty likewise.
    """

    TYPE: ClassVar[str] = "step.completed"
    attempt: int = 0
    executor: str = ""


class StepFailed(StepEvent, frozen=True, kw_only=True):
    """It failed for good.

    Attributes:
        fault: Why.
        attempt: The last one.
        executor: That ran it.
        kind: Of a step that failed on being entered; empty otherwise.
    """

    TYPE: ClassVar[str] = "step.failed"
    fault: Fault
    kind: str = ""
    attempt: int = 0
    executor: str = ""


class StepEdited(StepEvent, frozen=True, kw_only=True):
    """Somebody changed a step by hand.

    Attributes:
        what: input or output.
        before, after: JSON values.
    """

    TYPE: ClassVar[str] = "step.edited"
    what: str
    before: Any = None
    after: Any = None


class StepSkipped(StepEvent, frozen=True, kw_only=True):
    """Its condition was not met."""

    TYPE: ClassVar[str] = "step.skipped"
    kind: str = ""


class StepCancelled(StepEvent, frozen=True, kw_only=True):
    """It was stopped because the run ended."""

    TYPE: ClassVar[str] = "step.cancelled"
