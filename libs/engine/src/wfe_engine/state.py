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
ENDED = frozenset({COMPLETED, FAILED, CANCELLED})

#: Status of a step while it is live in the state. ready covers running: leases are not part of the state.
READY, WAITING = "ready", "waiting"
#: Status of steps that only rows know.
STEP_RUNNING, SKIPPED, ROLLED_BACK = "running", "skipped", "rolled_back"
#: Live steps that something will still happen to.
LIVE = frozenset({READY, WAITING, WAITING_APPROVAL, STEP_RUNNING})
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
        snapshot_seq: Seq of the newest snapshot event.
        fault: Why it failed.
        reason: Short code of why it is in its state, e.g. approval_rejected.
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
    snapshot_seq: int = 0
    fault: Fault | None = None
    reason: str = ""

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
