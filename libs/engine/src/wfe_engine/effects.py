"""What a decision changes beside the log and the state: rows for the store to write in the same transaction.

Every list is a batch for one statement. Times are Unix seconds; payloads are JSON bytes.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

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
    """A change of a row that is there. None leaves output and error as they are."""

    no: int
    status: str
    seq: int
    output: bytes | None = None
    error: bytes | None = None
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
    """A step that had ended is run again with its recorded input, or with another one."""

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
    request: bytes | None = None
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
    """A gate that is withdrawn or superseded; refuses the transaction when it is not open any more.

    Attributes:
        decided: It may have been decided meanwhile all the same: then the decision stays, and nothing follows from it.
    """

    id: str
    status: str
    decided: bool = False


class SnapshotRow(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot to keep; its state is the one after event `seq`."""

    id: str
    seq: int
    kind: str
    name: str
    state: bytes


class SignalRow(msgspec.Struct, frozen=True, kw_only=True):
    """A signal to keep; its payload is JSON bytes."""

    id: str
    name: str
    payload: bytes


class ChildWish(msgspec.Struct, frozen=True, kw_only=True):
    """What should become of a child run.

    Attributes:
        no: Step that waits for it.
        child: The run.
        wish: start, retry, cancel, terminate; done when nothing is wanted any more.
        request: What it is started with; JSON bytes of {template, version, input, labels}.
    """

    no: int
    child: str
    wish: str
    request: bytes = b"{}"


class Effects(msgspec.Struct, kw_only=True):
    """All of one decision.

    Attributes:
        timers: Moment by step number; None takes the timer away.
        superseded: Gates that were withdrawn and are asked anew.
        told: Gates whose decision the run has taken in.
        children: Wishes for child runs; the last one of a step counts.
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
    superseded: list[str] = []
    told: list[str] = []
    noted: list[tuple[str, int]] = []
    revised: list[Revised] = []
    snapshots: list[SnapshotRow] = []
    signals: list[SignalRow] = []
    children: list[ChildWish] = []
    hold: bool = False
    release: float | None = None
    rolled_back: int | None = None
    undone: list[int] = []
    output: bytes | None = None

    # One decision may enter a step and end it again. A row is written once in a transaction, so what comes later is
    # put into what is there already.

    def change(self, change: StepChange) -> None:
        """Change the row of a step no executor runs."""
        for at, row in enumerate(self.steps):
            if row.no == change.no:
                self.steps[at] = replace(
                    row,
                    status=change.status,
                    seq=change.seq,
                    output=row.output if change.output is None else change.output,
                    error=row.error if change.error is None else change.error,
                    due=change.due,
                    ended=change.ended,
                )
                return
        for at, before in enumerate(self.changes):
            if before.no == change.no:
                output = before.output if change.output is None else change.output
                error = before.error if change.error is None else change.error
                self.changes[at] = replace(change, output=output, error=error)
                return
        self.changes.append(change)

    def finish(self, finished: Finished) -> None:
        """End a step an executor should run from outside."""
        for at, d in enumerate(self.dispatches):
            if d.no == finished.no:
                del self.dispatches[at]
                self.steps.append(
                    StepRow(
                        no=d.no, path=d.path, kind=d.kind, status=finished.status, seq=finished.seq, visit=d.visit,
                        scope=d.scope, iteration=d.iteration, input=d.request, error=finished.error, ended=True,
                    )
                )  # fmt: skip
                return
        for at, r in enumerate(self.redispatches):
            if r.no == finished.no:
                del self.redispatches[at]
                self.changes.append(StepChange(no=r.no, status=finished.status, seq=finished.seq, error=finished.error))
                return
        self.finished.append(finished)

    def close_gate(self, gate: str, status: str) -> None:
        """Withdraw or supersede a gate; one that opens in this very decision does not open at all."""
        for at, opened in enumerate(self.gates):
            if opened.id == gate:
                del self.gates[at]
                return
        self.closed_gates.append(GateClose(id=gate, status=status))

    def touched(self) -> set[int]:
        """Numbers of the steps whose rows this writes."""
        lists = (self.steps, self.changes, self.dispatches, self.again, self.finished, self.redispatches)
        return {row.no for rows in lists for row in rows}
