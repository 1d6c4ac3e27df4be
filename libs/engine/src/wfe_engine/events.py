"""What can happen to a run. Events are its audit log and the only source of its state (`evolve`).

An event's data is JSON of its struct; fields with their default are left out. Data never holds outputs (they are in
step rows) nor sensitive values. Who and when is the same for all events of one decision and lies beside the data.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from wfe_engine.state import Fault, Scope


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of every event.

    Attributes:
        TYPE: Name in the log, in the API and in webhooks.
    """

    TYPE: ClassVar[str] = ""


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
    """

    TYPE: ClassVar[str] = "run.created"
    template: str
    template_version: int
    trigger: str
    input: Any
    labels: dict[str, str] = {}
    deadline: float | None = None
    forked_from: str = ""
    snapshot: str = ""
    scopes: dict[str, Scope] = {}
    next_no: int = 1


class RunStarted(Event, frozen=True, kw_only=True):
    """The first steps are about to be entered."""

    TYPE: ClassVar[str] = "run.started"


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
        reopened: It had ended.
        deadline: New end of the run's total clock.
    """

    TYPE: ClassVar[str] = "run.rolled_back"
    snapshot: str
    to_seq: int
    scopes: dict[str, Scope] = {}
    next_no: int = 1
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


class StepEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to one step.

    Attributes:
        step: Its path.
        no: Its number.
        i: Its index in its block.
        scope: Key of its scope; empty for the root.
    """

    step: str
    no: int
    i: int
    scope: str = ""


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
    """It was entered and waits for a moment.

    Attributes:
        due: That moment; Unix seconds.
    """

    TYPE: ClassVar[str] = "step.waiting"
    kind: str
    due: float


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


class StepSkipped(StepEvent, frozen=True, kw_only=True):
    """Its condition was not met."""

    TYPE: ClassVar[str] = "step.skipped"
    kind: str = ""


class StepCancelled(StepEvent, frozen=True, kw_only=True):
    """It was stopped because the run ended."""

    TYPE: ClassVar[str] = "step.cancelled"


TYPES: dict[str, type[Event]] = {
    kind.TYPE: kind
    for kind in (
        RunCreated, RunStarted, RunPaused, RunResumed, RunCompleted, RunFailed, RunCancelled, RunRetried,
        RunRolledBack, SnapshotCreated, StepReady, StepStarted, StepWaiting, StepRetrying, StepCompleted, StepFailing,
        StepFailed, StepSkipped, StepCancelled, BlockEnded, BlockFailing, Emitted,
    )
}  # fmt: skip

#: Types after which a watch of the run ends.
ENDS = frozenset({RunCompleted.TYPE, RunFailed.TYPE, RunCancelled.TYPE})

_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in TYPES.items()}


def register(*kinds: type[Event]) -> None:
    """Make more types of events known."""
    for kind in kinds:
        TYPES[kind.TYPE] = kind
        _decoders[kind.TYPE] = msgspec.json.Decoder(kind)


def encode_event(event: Event) -> bytes:
    """JSON of an event's data; its type goes beside it."""
    return _encoder.encode(event)


def decode_event(name: str, data: bytes | str) -> Event:
    """The event of a type and its data.

    Raises:
        KeyError: No such type.
        msgspec.ValidationError: The data are not of it.
    """
    return _decoders[name].decode(data)


import wfe_engine.gate_events  # noqa: E402, F401 - makes its events known
