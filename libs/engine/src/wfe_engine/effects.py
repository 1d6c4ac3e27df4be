"""What a decision changes beside the log and the state: rows for the store to write in the same transaction.

Every list is a batch for one statement. Times are Unix seconds; payloads are JSON bytes.
"""

from __future__ import annotations

import msgspec

from wfe_engine.plan import Clocks


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """A step no executor runs, or one that ended on entering: its row, whole."""

    no: int
    path: str
    kind: str
    status: str
    seq: int
    visit: int
    scope: str = ""
    iteration: str = ""
    input: bytes | None = None
    output: bytes | None = None
    error: bytes | None = None
    gate: str | None = None
    due: float | None = None
    ended: bool = False


class StepChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a row that is there. None leaves output, error and gate as they are."""

    no: int
    status: str
    seq: int
    output: bytes | None = None
    error: bytes | None = None
    gate: str | None = None
    due: float | None = None
    ended: bool = True


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """A step an executor should run.

    Attributes:
        request: What its params evaluated to.
        available_at: When it may be leased.
        sealed: Whether the request holds sealed placeholders.
        approval, digest: Gate it was approved at, and of exactly what; empty for a step that needs none.
    """

    no: int
    path: str
    kind: str
    queue: str
    visit: int
    epoch: int
    request: bytes
    sealed: bool
    max_attempts: int
    clocks: Clocks
    available_at: float
    scope: str = ""
    iteration: str = ""
    approval: str = ""
    digest: str = ""


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """A live step gets another attempt: its dispatch row stays, free from `available_at` on.

    Attributes:
        fence: It was leased under; any other refuses the transaction.
        attempt: The next one.
        error: Why the last one failed.
    """

    no: int
    fence: int
    attempt: int
    available_at: float
    error: bytes


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A dispatched step ended: its dispatch row becomes its step row.

    Attributes:
        fence: It was leased under; any other refuses the transaction. None when any will do.
        stop: Why an executor that holds it must stop; empty when it has reported.
    """

    no: int
    status: str
    seq: int
    fence: int | None = None
    attempts: int | None = None
    output: bytes | None = None
    error: bytes | None = None
    executor: str = ""
    started_at: float | None = None
    stop: str = ""


class Redispatch(msgspec.Struct, frozen=True, kw_only=True):
    """A step that had ended is run again with its recorded input."""

    no: int
    path: str
    kind: str
    queue: str
    visit: int
    epoch: int
    sealed: bool
    max_attempts: int
    clocks: Clocks
    available_at: float
    scope: str = ""
    iteration: str = ""
    approval: str = ""
    digest: str = ""


class GateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A gate that opens.

    Attributes:
        bound: JSON bytes: [path, iteration, kind] of the step that will run; see `digests`.
        opens_at: When it can be decided; None for at once.
        agenda: JSON bytes: [[seconds after the one before, what, which]]; the first after now.
        branch: Where the run goes on when its deadline says branch.
        round: Revisions before this one.
    """

    id: str
    no: int
    path: str
    title: str
    body: str
    payload: bytes | None
    policy: bytes
    digest: str
    expires_at: float | None
    on_expiry: str
    replaces: str | None
    iteration: str = ""
    bound: bytes = b""
    risk: str = "medium"
    opens_at: float | None = None
    agenda: bytes = b"[]"
    branch: str = ""
    round: int = 0


class Revised(msgspec.Struct, frozen=True, kw_only=True):
    """A step that had finished is done again; its row, and those of the steps inside of it, are rolled back.

    Attributes:
        seq: Of the event that says so.
        scope, path: Of the step.
        prefix: What the keys of the scopes inside of it begin with.
    """

    seq: int
    scope: str
    path: str
    prefix: str


class GateClose(msgspec.Struct, frozen=True, kw_only=True):
    """A gate that is withdrawn or superseded; refuses the transaction when it is not open any more."""

    id: str
    status: str


class SnapshotRow(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot to keep; its state is the one after event `seq`."""

    id: str
    seq: int
    kind: str
    name: str
    state: bytes


class Effects(msgspec.Struct, kw_only=True):
    """All of one decision.

    Attributes:
        timers: Moment by step number; None takes the timer away.
        told: Gates whose decision the run has taken in.
        noted: Gates and the number up to which the run has taken in their notes.
        revised: Steps that are done again because a gate sent them back.
        hold: The run was paused: its dispatch rows and gates stand still.
        release: The run was resumed: they go on, this many seconds later; None otherwise.
        rolled_back: Step rows changed after this seq become rolled_back; None otherwise.
        undone: Numbers of steps that were live at that point; their rows become rolled_back too.
        output: The run's output.
    """

    steps: list[StepRow] = []
    changes: list[StepChange] = []
    dispatches: list[Dispatch] = []
    again: list[Again] = []
    finished: list[Finished] = []
    redispatches: list[Redispatch] = []
    timers: dict[int, float | None] = {}
    gates: list[GateRow] = []
    closed_gates: list[GateClose] = []
    told: list[str] = []
    noted: list[tuple[str, int]] = []
    revised: list[Revised] = []
    snapshots: list[SnapshotRow] = []
    hold: bool = False
    release: float | None = None
    rolled_back: int | None = None
    undone: list[int] = []
    output: bytes | None = None
