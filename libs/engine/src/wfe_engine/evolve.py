"""`evolve(state, event, at) -> state`: how each event changes the state. The only code that makes states.

No event is refused here: whether something may happen is decided before (`decide`), what has happened has happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec.structs import replace

from wfe_engine import events as ev
from wfe_engine.scopes import UNDO, child_key, place
from wfe_engine.state import (
    CALLBACK,
    CANCELLED,
    COMPENSATING,
    COMPLETED,
    FAILED,
    READY,
    RUNNING,
    STEP_RUNNING,
    WAITING,
    WAITING_APPROVAL,
    Letter,
    RunState,
    Scope,
    Step,
    Undo,
)  # fmt: skip

E = TypeVar("E", bound=ev.Event)
_RULES: dict[type[ev.Event], Callable[[RunState, ev.Event, float], RunState]] = {}


def evolve(state: RunState, event: ev.Event, at: float) -> RunState:
    """The state after an event that happened at that moment (Unix seconds)."""
    return _RULES[type(event)](state, event, at)


def fold(log: Iterable[tuple[ev.Event, float]], state: RunState | None = None) -> RunState:
    """The state after a whole log of (event, moment), from nothing or from a state."""
    current = RunState() if state is None else state
    for event, at in log:
        current = evolve(current, event, at)
    return current


def _rule(
    kind: type[E],
) -> Callable[[Callable[[RunState, E, float], RunState]], Callable[[RunState, E, float], RunState]]:
    def keep(function: Callable[[RunState, E, float], RunState]) -> Callable[[RunState, E, float], RunState]:
        _RULES[kind] = function  # type: ignore[assignment]
        return function

    return keep


def _with_scope(state: RunState, key: str, scope: Scope, **changes: object) -> RunState:
    return replace(state, seq=state.seq + 1, scopes={**state.scopes, key: scope}, **changes)


def _opened(state: RunState, key: str) -> RunState:
    """With the scope: the first event in a block opens it."""
    if key in state.scopes:
        return state
    if key == UNDO:
        return replace(state, scopes={**state.scopes, key: Scope()})
    parent, index, _, _ = place(key)
    outer = state.scopes[parent]
    owner = outer.live[index]
    owner = replace(owner, next=owner.next + 1)
    outer = replace(outer, live={**outer.live, index: owner})
    return replace(state, scopes={**state.scopes, parent: outer, key: Scope()})


def _entered(state: RunState, event: ev.StepEvent, step: Step) -> RunState:
    state = _opened(state, event.scope)
    scope = state.scopes[event.scope]
    live = {**scope.live, event.i: step}
    return _with_scope(state, event.scope, replace(scope, live=live), next_no=max(state.next_no, event.no + 1))


def _changed(state: RunState, event: ev.StepEvent, **changes: object) -> RunState:
    scope = state.scopes[event.scope]
    step = replace(scope.live[event.i], **changes)
    return _with_scope(state, event.scope, replace(scope, live={**scope.live, event.i: step}))


def _left(scope: Scope, index: int) -> dict[int, Step]:
    return {i: step for i, step in scope.live.items() if i != index}


def _bit(bits: str, index: int) -> str:
    return f"{int(bits, 16) | 1 << index:x}"


@_rule(ev.RunCreated)
def _run_created(state: RunState, event: ev.RunCreated, at: float) -> RunState:
    return replace(
        state,
        seq=state.seq + 1,
        scopes=event.scopes or {"": Scope()},
        next_no=event.next_no,
        deadline=event.deadline,
        start_at=event.start_at,
    )


@_rule(ev.RunStarted)
def _run_started(state: RunState, event: ev.RunStarted, at: float) -> RunState:
    deadline = state.deadline if event.deadline is None else event.deadline
    return replace(state, seq=state.seq + 1, status=RUNNING, start_at=None, deadline=deadline)


@_rule(ev.RunPaused)
def _run_paused(state: RunState, event: ev.RunPaused, at: float) -> RunState:
    return replace(state, seq=state.seq + 1, paused_at=at)


def _later(step: Step, seconds: float) -> Step:
    until = None if step.until is None else step.until + seconds
    return replace(step, due=None if step.due is None else step.due + seconds, until=until)


@_rule(ev.RunResumed)
def _run_resumed(state: RunState, event: ev.RunResumed, at: float) -> RunState:
    scopes = {
        key: replace(
            scope,
            live={i: step if step.due is None else _later(step, event.paused_for) for i, step in scope.live.items()},
        )
        for key, scope in state.scopes.items()
    }
    deadline, start_at = (None if at is None else at + event.paused_for for at in (state.deadline, state.start_at))
    return replace(
        state, seq=state.seq + 1, paused_at=None, scopes=scopes, deadline=deadline, start_at=start_at
    )  # fmt: skip


def _settled(state: RunState) -> RunState:
    return replace(state, seq=state.seq + 1, phase="", ending=None, returning=None)


@_rule(ev.RunCompleted)
def _run_completed(state: RunState, event: ev.RunCompleted, at: float) -> RunState:
    return replace(
        state, seq=state.seq + 1, status=COMPLETED, paused_at=None, phase="", ending=None, fault=None, reason=""
    )


@_rule(ev.RunFailed)
def _run_failed(state: RunState, event: ev.RunFailed, at: float) -> RunState:
    return replace(
        state,
        seq=state.seq + 1,
        status=FAILED,
        paused_at=None,
        phase="",
        ending=None,
        fault=event.fault,
        reason=event.code,
    )


@_rule(ev.RunCancelled)
def _run_cancelled(state: RunState, event: ev.RunCancelled, at: float) -> RunState:
    reason = "terminated" if event.terminated else "cancelled"
    return replace(_settled(state), status=CANCELLED, paused_at=None, reason=reason)


@_rule(ev.RunCompensating)
def _run_compensating(state: RunState, event: ev.RunCompensating, at: float) -> RunState:
    return replace(
        state,
        seq=state.seq + 1,
        phase=COMPENSATING,
        ending=event.fault,
        returning=event.returning,
        compensated=True,
    )


@_rule(ev.CompensationNoted)
def _compensation_noted(state: RunState, event: ev.CompensationNoted, at: float) -> RunState:
    undo = Undo(no=event.undo, path=event.step, scope=event.scope, index=event.i, fault=event.fault)
    return replace(state, seq=state.seq + 1, undo=(*state.undo, undo), next_no=max(state.next_no, event.undo + 1))


def _undone(state: RunState, event: ev.StepEvent, *, failed: bool) -> RunState:
    """A compensation has ended."""
    path = event.step.removesuffix(UNDO)
    return replace(
        state,
        seq=state.seq + 1,
        scopes={key: scope for key, scope in state.scopes.items() if key != UNDO},
        undo=tuple(undo for undo in state.undo if undo.no != event.no),
        not_undone=(*state.not_undone, path) if failed else state.not_undone,
    )


@_rule(ev.RunRetried)
def _run_retried(state: RunState, event: ev.RunRetried, at: float) -> RunState:
    return replace(
        state,
        seq=state.seq + 1,
        status=RUNNING,
        epoch=state.epoch + 1,
        fault=None,
        reason="",
        deadline=event.deadline,
        start_at=None,
        scopes={key: replace(scope, fault=None) for key, scope in state.scopes.items()},
    )


@_rule(ev.RunRolledBack)
def _run_rolled_back(state: RunState, event: ev.RunRolledBack, at: float) -> RunState:
    return replace(
        state,
        seq=state.seq + 1,
        status=RUNNING,
        epoch=state.epoch + (1 if event.reopened else 0),
        visit=state.visit + 1,
        rollbacks=state.rollbacks + 1,
        scopes=event.scopes or {"": Scope()},
        next_no=max(state.next_no, event.next_no),
        undo=event.undo,
        phase="",
        ending=None,
        returning=None,
        not_undone=(),
        compensated=False,
        fault=None,
        reason="",
        deadline=event.deadline,
        start_at=None,
    )


@_rule(ev.SnapshotCreated)
def _snapshot_created(state: RunState, event: ev.SnapshotCreated, at: float) -> RunState:
    return replace(state, seq=state.seq + 1, snapshot_seq=state.seq + 1)


@_rule(ev.StepReady)
def _step_ready(state: RunState, event: ev.StepReady, at: float) -> RunState:
    live = state.scopes[event.scope].live.get(event.i) if event.scope in state.scopes else None
    if live is not None and live.no == event.no:  # a retried run: the same step again, with a fresh budget
        return _changed(state, event, status=READY, attempts=0, due=None)
    return _entered(state, event, Step(no=event.no, kind=event.kind, path=event.step, visit=state.visit))


@_rule(ev.StepStarted)
def _step_started(state: RunState, event: ev.StepStarted, at: float) -> RunState:
    live = state.scopes[event.scope].live.get(event.i) if event.scope in state.scopes else None
    if live is not None and live.no == event.no:
        return _changed(state, event, status=STEP_RUNNING, fault=None, base=live.next)
    step = Step(no=event.no, kind=event.kind, path=event.step, status=STEP_RUNNING, visit=state.visit, of=event.of)
    return _entered(state, event, step)


@_rule(ev.StepFailing)
def _step_failing(state: RunState, event: ev.StepFailing, at: float) -> RunState:
    return _changed(state, event, fault=event.fault)


@_rule(ev.BlockEnded)
def _block_ended(state: RunState, event: ev.BlockEnded, at: float) -> RunState:
    key = child_key(event.scope, event.i, event.block, event.round)
    owner = state.scopes[event.scope].live[event.i]
    failed = event.status != COMPLETED
    caught = event.fault or owner.caught
    counts = {"ended": owner.ended + 1, "failed": owner.failed + failed, "last": event.block + 1}
    state = _changed(state, event, caught=caught, **counts)
    # What a failed block held is settled with it.
    gone = {k for k in state.scopes if k == key or k.startswith(key + ".")}
    return replace(state, scopes={k: scope for k, scope in state.scopes.items() if k not in gone})


@_rule(ev.BlockFailing)
def _block_failing(state: RunState, event: ev.BlockFailing, at: float) -> RunState:
    return _with_scope(state, event.scope, replace(state.scopes[event.scope], fault=event.fault))


@_rule(ev.StepWaiting)
def _step_waiting(state: RunState, event: ev.StepWaiting, at: float) -> RunState:
    step = Step(
        no=event.no,
        kind=event.kind,
        path=event.step,
        status=WAITING,
        visit=state.visit,
        due=event.due,
        until=event.until,
        child=event.child or None,
    )
    if event.callback in state.answered:
        state = replace(state, answered=tuple(key for key in state.answered if key != event.callback))
    return _entered(state, event, step)


@_rule(ev.SignalReceived)
def _signal_received(state: RunState, event: ev.SignalReceived, at: float) -> RunState:
    letter = Letter(id=event.signal, name=event.name, failed=event.failed)
    answered = (*state.answered, event.name) if event.name.startswith(CALLBACK) else state.answered
    return replace(state, seq=state.seq + 1, mail=(*state.mail, letter), answered=answered)


@_rule(ev.SignalTaken)
def _signal_taken(state: RunState, event: ev.SignalTaken, at: float) -> RunState:
    return replace(state, seq=state.seq + 1, mail=tuple(m for m in state.mail if m.id != event.signal))


@_rule(ev.CallbackAlive)
def _callback_alive(state: RunState, event: ev.CallbackAlive, at: float) -> RunState:
    return _changed(state, event, due=event.due)


@_rule(ev.StepRetrying)
def _step_retrying(state: RunState, event: ev.StepRetrying, at: float) -> RunState:
    return _changed(state, event, attempts=event.attempt, due=event.due)


@_rule(ev.StepCompleted)
def _step_completed(state: RunState, event: ev.StepCompleted, at: float) -> RunState:
    if event.scope == UNDO:
        return _undone(state, event, failed=False)
    state = _opened(state, event.scope)
    scope = state.scopes[event.scope]
    done = replace(scope, done=_bit(scope.done, event.i), live=_left(scope, event.i))
    return _with_scope(state, event.scope, done, next_no=max(state.next_no, event.no + 1))


@_rule(ev.StepSkipped)
def _step_skipped(state: RunState, event: ev.StepSkipped, at: float) -> RunState:
    state = _opened(state, event.scope)
    scope = state.scopes[event.scope]
    skipped = replace(scope, skipped=_bit(scope.skipped, event.i), live=_left(scope, event.i))
    return _with_scope(state, event.scope, skipped, next_no=max(state.next_no, event.no + 1))


@_rule(ev.StepFailed)
def _step_failed(state: RunState, event: ev.StepFailed, at: float) -> RunState:
    if event.scope == UNDO:
        return _undone(state, event, failed=True)
    if event.kind:
        step = Step(no=event.no, kind=event.kind, path=event.step, status=FAILED, visit=state.visit)
        return _entered(state, event, step)
    return _changed(state, event, status=FAILED, due=None, gate=None, fault=None)


@_rule(ev.StepCancelled)
def _step_cancelled(state: RunState, event: ev.StepCancelled, at: float) -> RunState:
    if event.scope == UNDO:
        return _undone(state, event, failed=True)
    return _changed(state, event, status=CANCELLED, due=None, gate=None, fault=None)


@_rule(ev.ApprovalRequested)
def _approval_requested(state: RunState, event: ev.ApprovalRequested, at: float) -> RunState:
    step = Step(
        no=event.no, kind="approval", path=event.step, status=WAITING_APPROVAL, visit=state.visit, gate=event.approval
    )
    return _entered(state, event, step)


@_rule(ev.ApprovalRevised)
def _approval_revised(state: RunState, event: ev.ApprovalRevised, at: float) -> RunState:
    scope = state.scopes[event.scope]
    kept = ~sum(1 << index for index in event.again)
    undone = replace(
        scope,
        done=f"{int(scope.done, 16) & kept:x}",
        skipped=f"{int(scope.skipped, 16) & kept:x}",
        live=_left(scope, event.i),
    )
    return _with_scope(state, event.scope, undone, visit=state.visit + 1)


def _gate_noted(state: RunState, event: ev.Event, at: float) -> RunState:
    assert isinstance(event, ev.GateNoted)
    return _changed(state, event, noted=event.note)


def _noted(state: RunState, event: ev.Event, at: float) -> RunState:
    return replace(state, seq=state.seq + 1)


_RULES.update(dict.fromkeys(ev.NOTED.values(), _gate_noted))
_JUST_NOTED = (
    ev.Emitted, ev.StepEdited, ev.ApprovalApproved, ev.ApprovalRejected, ev.ApprovalExpired, ev.ApprovalWithdrawn,
    ev.ApprovalSuperseded, ev.ApprovalBypassed, ev.ApprovalLinkUsed,
)  # fmt: skip
_RULES.update(dict.fromkeys(_JUST_NOTED, _noted))
