"""The folded state of a run: its frontier, and nothing that grows with what is behind it.

Outputs are not in it (they lie in step rows), neither are leases (they are rows beside it), so a state stays a few
hundred bytes however long the run has been going. Nested structure is a set of *scopes*: the root scope has the key
"", a block inside a step has the key of its scope, the step, the block and the iteration joined (`scope_key`).
"""

from __future__ import annotations

from typing import Any

import msgspec

#: Lifecycle of a run as events tell it. What people see is `shown_status`.
PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = "pending", "running", "completed", "failed", "cancelled"
#: Shown over a lifecycle of pending or running.
PAUSED, WAITING_APPROVAL = "paused", "waiting_approval"
COMPENSATING = "compensating"
ENDED = frozenset({COMPLETED, FAILED, CANCELLED})

#: Status of a step while it is live in the state. ready covers running: leases are not part of the state.
READY, WAITING = "ready", "waiting"
#: Status of steps that only rows know.
STEP_RUNNING, SKIPPED, ROLLED_BACK = "running", "skipped", "rolled_back"
#: Live steps that something will still happen to.
LIVE = frozenset({READY, WAITING, WAITING_APPROVAL, STEP_RUNNING})
#: What the names of answers to callbacks begin with.
CALLBACK = "callback:"
#: Code of the fault that steps end with when they are stopped and have not failed. No failure can have it: those are
#: upper case.
STOPPED = "stopped"


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a step or a run failed.

    Attributes:
        code: Upper snake case, what retry and catch match: HTTP_STATUS, ATTEMPT_TIMEOUT, …
        message: One sentence.
        step: Path of the step; empty when it was none.
        details: Small facts that depend on the code.
    """

    code: str
    message: str
    step: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that was entered and has not finished, or that stopped its run.

    Attributes:
        no: Number within the run, in the order of entering; names the step's rows.
        kind: The node's.
        path: The node's.
        status: ready, waiting, waiting_approval, running (a step with blocks), failed or cancelled.
        visit: Visit of the run when it was entered.
        attempts: Attempts that reported since it was entered or since the run was last retried.
        due: Moment a wait or a back-off ends, in seconds of Unix time; None otherwise.
        gate: UUID of its open gate, as text.
        noted: Number of the last note of that gate that is in the log.
        of: Blocks it will run in all, where that is known on entering.
        next: Blocks that were opened; the number of the round that is opened next.
        ended: Blocks that have ended since.
        failed: How many of those failed.
        base: Round it began with, since the run was last retried.
        fault: What it ends with once nothing inside of it is active any more.
        caught: What its body failed with, for the block that takes it.
        last: Index of the block that ended last, and 1; 0 when none has.
        until: Moment its whole wait ends, where `due` can come earlier; Unix seconds.
        child: UUID of the run it waits for, as text.
    """

    no: int
    kind: str
    path: str
    status: str = READY
    visit: int = 1
    attempts: int = 0
    due: float | None = None
    gate: str | None = None
    noted: int = 0
    of: int = 0
    next: int = 0
    ended: int = 0
    failed: int = 0
    base: int = 0
    fault: Fault | None = None
    caught: Fault | None = None
    last: int = 0
    until: float | None = None
    child: str | None = None


class Scope(msgspec.Struct, frozen=True, omit_defaults=True):
    """A block that is being run.

    Attributes:
        done: Completed nodes, as a hexadecimal bit set over the nodes' indexes.
        skipped: Skipped nodes, likewise.
        live: Entered nodes by index.
        fault: The block has failed and only waits for what has to be done at its end.
    """

    done: str = "0"
    skipped: str = "0"
    live: dict[int, Step] = msgspec.field(default_factory=dict)
    fault: Fault | None = None

    def finished(self) -> int:
        """Bit set of the nodes nothing will happen to any more."""
        return int(self.done, 16) | int(self.skipped, 16)


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A signal that came and that no step has taken yet.

    Attributes:
        id: UUID, as text; names its row, which holds the payload.
        name: Of the signal; `callback:` and the key of the callback for an answer to one.
        failed: The other side says that what was waited for failed.
    """

    id: str
    name: str
    failed: bool = False


class Undo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A completed step whose effects can be taken back.

    Attributes:
        no: Number of the step that does it; its row is there, with its input.
        path: Of the completed step.
        scope, index: Where the completed step is.
        fault: Why that cannot be done: its params could not be computed when the step completed.
    """

    no: int
    path: str
    scope: str = ""
    index: int = 0
    fault: Fault | None = None


class Return(msgspec.Struct, frozen=True, omit_defaults=True):
    """A snapshot the run goes back to once compensations are done; see `commands.Rollback`."""

    snapshot: str
    seq: int
    scopes: dict[str, Scope]
    undo: tuple[Undo, ...] = ()
    inputs: dict[str, bytes] = msgspec.field(default_factory=dict)


class RunState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Fold of a run's events.

    Attributes:
        status: Lifecycle: pending, running, completed, failed or cancelled.
        seq: Of the newest event.
        epoch: 1, and one more with every retry, and every rollback after the end.
        visit: 1, and one more with every rollback or revision; steps carry the visit they were entered in.
        rollbacks: How often it went back to a snapshot.
        next_no: Number the next entered step gets.
        scopes: Blocks being run, by key; "" is the root.
        paused_at: Moment of the pause; None while not paused. All moments in the state stand still meanwhile.
        deadline: Moment the run's total clock ends; None without one.
        start_at: Moment it waits for before it starts; None once it has.
        snapshot_seq: Seq of the newest snapshot event.
        fault: Why it failed.
        reason: Short code of why it is in its state, e.g. approval_rejected.
        mail: Signals no step has taken yet, oldest first.
        answered: Callbacks that have been answered, by key.
        undo: Completed steps whose effects can be taken back, in the order of their completion.
        phase: compensating while they are; empty otherwise.
        ending: What the run ends with once that is done; None when it goes back to a snapshot.
        returning: That snapshot.
        not_undone: Paths of steps whose compensation failed.
        compensated: Effects of completed steps were taken back: they do not count as done any more.
    """

    status: str = PENDING
    seq: int = 0
    epoch: int = 1
    visit: int = 1
    rollbacks: int = 0
    next_no: int = 1
    scopes: dict[str, Scope] = msgspec.field(default_factory=dict)
    paused_at: float | None = None
    deadline: float | None = None
    start_at: float | None = None
    snapshot_seq: int = 0
    fault: Fault | None = None
    reason: str = ""
    mail: tuple[Letter, ...] = ()
    answered: tuple[str, ...] = ()
    undo: tuple[Undo, ...] = ()
    phase: str = ""
    ending: Fault | None = None
    returning: Return | None = None
    not_undone: tuple[str, ...] = ()
    compensated: bool = False

    @property
    def clock(self) -> float | None:
        """Moment the run's own timer is set for: its start, or the end of its total clock."""
        return self.deadline if self.start_at is None else self.start_at

    def steps(self) -> list[tuple[str, int, Step]]:
        """Every live step with the key of its scope and its index there."""
        return [(key, index, step) for key, scope in self.scopes.items() for index, step in scope.live.items()]

    def active(self, scope: str) -> bool:
        """Whether something will still happen to a step of a scope."""
        return any(step.status in LIVE for step in self.scopes[scope].live.values())

    def find(self, no: int) -> tuple[str, int, Step] | None:
        """The live step of that number; None when it is not live any more."""
        for key, scope in self.scopes.items():
            for index, step in scope.live.items():
                if step.no == no:
                    return key, index, step
        return None


def shown_status(state: RunState) -> str:
    """What people see: paused over all but an end; waiting_approval when nothing but gates is left."""
    if state.status in ENDED:
        return state.status
    if state.paused_at is not None:
        return PAUSED
    if state.status != RUNNING:
        return state.status
    gates = False
    for scope in state.scopes.values():
        for step in scope.live.values():
            if step.status in (READY, WAITING):
                return RUNNING
            gates = gates or step.status == WAITING_APPROVAL
    return WAITING_APPROVAL if gates else RUNNING


def shown_phase(state: RunState) -> str:
    """What a run is busy with when its status does not say it: compensating, cancelling or failing; mostly empty."""
    if state.status in ENDED or state.phase:
        return state.phase
    root = state.scopes.get("")
    if root is None or root.fault is None:
        return ""
    return "cancelling" if root.fault.code == STOPPED else "failing"


def is_parked(state: RunState) -> bool:
    """Whether nothing of it can be in an executor: it waits for people or time, is paused, or has ended."""
    return not any(step.status == READY for scope in state.scopes.values() for step in scope.live.values())


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RunState)


def encode_state(state: RunState) -> bytes:
    """JSON of a state; equal states give equal bytes."""
    return _encoder.encode(state)


def decode_state(data: bytes | str) -> RunState:
    """The state of its JSON."""
    return _decoder.decode(data)
