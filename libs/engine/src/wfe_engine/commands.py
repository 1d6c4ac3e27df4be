"""What can be asked of a run. `decide` turns a command into events and effects, or refuses it."""

from __future__ import annotations

from typing import Any

import msgspec

from wfe_engine.state import Fault, Scope, Undo
from wfe_engine.values import Record


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every command."""


class Start(Command, frozen=True, kw_only=True):
    """Begin a run, from nothing or from a fork's frontier.

    Attributes:
        template, template_version, trigger, input, labels: See `events.RunCreated`.
        forked_from, snapshot, scopes, next_no: Of a fork.
        inputs: Of a fork's steps with blocks; see `rewind.rows_of_containers`.
        start_at: See `events.RunCreated`.
    """

    template: str
    template_version: int
    trigger: str
    input: dict[str, Any]
    labels: dict[str, str] = {}
    forked_from: str = ""
    snapshot: str = ""
    scopes: dict[str, Scope] = {}
    next_no: int = 1
    inputs: dict[str, bytes] = {}
    start_at: float | None = None


class Report(Command, frozen=True, kw_only=True):
    """An executor reports the outcome of an attempt. Its fence was checked, or will be by the commit.

    Attributes:
        no: Step.
        output: JSON bytes of the result; None when it failed.
        fault: Why it failed; None when it did not.
        retryable: Whether another attempt can help.
        retry_after: Seconds the other side asked to wait.
        executor: That ran it.
        fence: It was leased under; the commit refuses any other.
        started_at: When the attempt began; Unix seconds.
    """

    no: int
    output: bytes | None = None
    fault: Fault | None = None
    retryable: bool = True
    retry_after: float | None = None
    executor: str = ""
    fence: int = 0
    started_at: float | None = None


class ClockRanOut(Command, frozen=True, kw_only=True):
    """A clock of a step ran out, or its leases were lost too often: it fails without another attempt.

    Attributes:
        no: Step.
        fence: Its dispatch row had; the commit refuses any other.
        fault: QUEUE_TIMEOUT, TOTAL_TIMEOUT or LEASES_LOST.
    """

    no: int
    fence: int
    fault: Fault


class TimerDue(Command, frozen=True, kw_only=True):
    """The moment a wait was set for has come.

    Attributes:
        no: Step; 0 is the run's own total clock, -1 says that a decision left something to do.
    """

    no: int
    due: float


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What the approvals service noted of a gate; see `events.GateNoted`.

    Attributes:
        n: Its number within the gate.
        type: A key of `events.NOTED`.
    """

    n: int
    type: str
    by: str
    at: float
    reason: str = ""
    data: dict[str, Any] = {}


class GateNotes(Command, frozen=True, kw_only=True):
    """Something happened at an open gate that leaves it open. Notes the run has already are passed over.

    Attributes:
        gate: UUID, as text.
        notes: In order.
    """

    gate: str
    notes: tuple[Note, ...]


class GateClosed(Command, frozen=True, kw_only=True):
    """A gate was decided, or expired.

    Attributes:
        gate: UUID, as text.
        outcome: approve, reject, fail, branch or revise.
        expired: Whether the deadline decided.
        decided_by: Principal's id; empty when nobody did.
        comment: What the decider said.
        branch: Of the outcome branch.
        reason_code: One of the policy's options.
        via: See `events.GateDecided`.
        digest: Of what was decided on; empty for that of the gate as it opened.
        payload: JSON bytes of the payload as edited; None when it was not.
        form: JSON bytes of what the decider filled in; None without.
        votes: See `events.GateDecided`.
        notes: What happened before and the run has not been told of.
    """

    gate: str
    outcome: str
    expired: bool = False
    decided_by: str = ""
    comment: str = ""
    branch: str = ""
    reason_code: str = ""
    via: str = ""
    digest: str = ""
    payload: bytes | None = None
    form: bytes | None = None
    votes: list[dict[str, Any]] = []
    notes: tuple[Note, ...] = ()


class Signal(Command, frozen=True, kw_only=True):
    """Something outside tells the run something, or answers a callback.

    Attributes:
        signal: Its id.
        name: See `events.SignalReceived`.
        payload: JSON bytes; of a failure an object with code and message.
        failed: See there.
    """

    signal: str
    name: str
    payload: bytes = b"null"
    failed: bool = False


class Alive(Command, frozen=True, kw_only=True):
    """The other side of a callback is still at work.

    Attributes:
        name: As of the answer it will give.
        progress: What it says of it; JSON bytes, None when nothing.
    """

    name: str
    progress: bytes | None = None


class ChildEnded(Command, frozen=True, kw_only=True):
    """A run that a step waits for has ended, or could not be started.

    Attributes:
        no: Step.
        child: The run; another one than the step waits for is nothing to it.
        output: JSON bytes of what it gave; None when it failed.
        fault: Why it failed or was cancelled; None when it did not.
    """

    no: int
    child: str
    output: bytes | None = None
    fault: Fault | None = None


class Pause(Command, frozen=True, kw_only=True):
    """Claim nothing new."""


class Resume(Command, frozen=True, kw_only=True):
    """Go on after a pause."""


class Cancel(Command, frozen=True, kw_only=True):
    """End it; `hard` also leaves out what the template would still do."""

    hard: bool = False


class Retry(Command, frozen=True, kw_only=True):
    """Go on after a failure or a cancellation.

    Attributes:
        edits: Inputs to use instead of the recorded ones, by step number; JSON bytes.
    """

    edits: dict[int, bytes] = {}


class SettleStep(Command, frozen=True, kw_only=True):
    """Somebody settles a step by hand: it completes with an output, or is skipped. A run that had ended goes on.

    Attributes:
        no: The step.
        output: JSON bytes; None when it is skipped.
    """

    no: int
    output: bytes | None = None


class TakeSnapshot(Command, frozen=True, kw_only=True):
    """Keep the state as it is now.

    Attributes:
        snapshot: Its id.
    """

    snapshot: str
    name: str = ""


class Rollback(Command, frozen=True, kw_only=True):
    """Go back to a snapshot.

    Attributes:
        snapshot: UUID, as text.
        seq: Last event it holds.
        scopes: Its scopes.
        inputs: Of their steps with blocks; see `rewind.rows_of_containers`.
        undo: Its steps whose effects can be taken back.
        records: Steps that had finished by then, by `record_key`; None for those of now.
        asked: Its last gate for each approval step, by `asked_key`.
    """

    snapshot: str
    seq: int
    scopes: dict[str, Scope]
    inputs: dict[str, bytes] = {}
    undo: tuple[Undo, ...] = ()
    records: dict[str, Record] | None = None
    asked: dict[str, str] = {}


class Advance(Command, frozen=True, kw_only=True):
    """Decide again what had to wait for an expression; changes nothing when nothing waits."""


class Break(Command, frozen=True, kw_only=True):
    """A command of the engine's own could not be decided because of a fault in the engine: the run fails."""

    message: str
