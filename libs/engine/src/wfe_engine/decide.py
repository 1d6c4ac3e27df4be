"""`decide(plan, state, command, env) -> Decision`: what a command brings about, or why it is refused.

A plain function over frozen values. It reads no clock, draws no random number and does no I/O: all of that comes in
`env`. The same arguments always give the same decision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from wfe_engine import commands as cmd
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine import retry
from wfe_engine.advance import advance, cancel_live, complete_live, end_step, enter, fail_run
from wfe_engine.effects import Effects
from wfe_engine.errors import StateConflict
from wfe_engine.plan import Plan
from wfe_engine.state import (
    CANCELLED,
    ENDED,
    FAILED,
    PENDING,
    READY,
    ROLLED_BACK,
    WAITING,
    Fault,
    RunState,
    Scope,
    shown_status,
)
from wfe_engine.turn import Env, Turn, encode
from wfe_engine.values import Record

C = TypeVar("C", bound=cmd.Command)
_RULES: dict[type[cmd.Command], Callable[[Turn, Any], None]] = {}


class Decision(msgspec.Struct, frozen=True):
    """What a command brings about.

    Attributes:
        state: After it.
        events: That happened; their seqs follow the old state's. Empty when nothing changes.
        effects: Rows to write with them.
        added: Records of steps that finished, by `record_key`.
    """

    state: RunState
    events: list[ev.Event]
    effects: Effects
    added: dict[str, Record]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.events or self.effects.timers or self.effects.told)


def decide(plan: Plan, state: RunState, command: cmd.Command, env: Env) -> Decision:
    """What a command brings about.

    Raises:
        StateConflict: The run's state does not allow it; nothing changes.
        Deferred: An expression must be evaluated outside first; then decide again.
    """
    turn = Turn(plan, state, env)
    _RULES[type(command)](turn, command)
    if (
        env.snapshot_every
        and turn.state.seq - turn.state.snapshot_seq >= env.snapshot_every
        and turn.state.status not in ENDED
    ):
        turn.snapshot("periodic")
    return Decision(turn.state, turn.events, turn.effects, turn.added)


def _rule(kind: type[C]) -> Callable[[Callable[[Turn, C], None]], Callable[[Turn, C], None]]:
    def keep(function: Callable[[Turn, C], None]) -> Callable[[Turn, C], None]:
        _RULES[kind] = function
        return function

    return keep


def _refuse(turn: Turn, action: str, allowed: str) -> StateConflict:
    status = shown_status(turn.state)
    return StateConflict(
        f"a run that is {status} cannot be {action}; it must be {allowed}",
        reason="RUN_STATE",
        status=status,
        action=action,
        allowed=allowed,
    )


@_rule(cmd.Start)
def _start(turn: Turn, command: cmd.Start) -> None:
    deadline = None if turn.plan.total is None else turn.now + turn.plan.total
    turn.emit(
        ev.RunCreated(
            template=command.template,
            template_version=command.template_version,
            trigger=command.trigger,
            input=command.input,
            labels=command.labels,
            deadline=deadline,
            forked_from=command.forked_from,
            snapshot=command.snapshot,
            scopes=command.scopes,
            next_no=command.next_no,
        )
    )
    if deadline is not None:
        turn.effects.timers[0] = deadline
    turn.emit(ev.RunStarted())
    _advance_all(turn)


def _advance_all(turn: Turn) -> None:
    for scope in sorted(turn.state.scopes, key=lambda key: -key.count(".")):
        if scope in turn.state.scopes:
            advance(turn, scope)


@_rule(cmd.Advance)
def _advance(turn: Turn, command: cmd.Advance) -> None:
    _advance_all(turn)


@_rule(cmd.Report)
def _report(turn: Turn, command: cmd.Report) -> None:
    found = turn.state.find(command.no)
    if found is None or found[2].status != READY:
        return  # its dispatch row is gone; the commit would refuse the fence anyway
    scope, index, step = found
    node = turn.block(scope).nodes[index]
    attempt = step.attempts + 1
    where: dict[str, Any] = {"step": step.path, "no": step.no, "i": index, "scope": scope}
    by: dict[str, Any] = {"attempt": attempt, "executor": command.executor}
    row: dict[str, Any] = {
        "no": step.no,
        "fence": command.fence,
        "attempts": attempt,
        "executor": command.executor,
        "started_at": command.started_at,
    }
    if command.fault is None:
        output = command.output or b"null"
        turn.emit(ev.StepCompleted(**where, **by))
        turn.effects.finished.append(fx.Finished(status="completed", seq=turn.state.seq, output=output, **row))
        complete_live(turn, scope, index, output, attempt)
        return
    fault = command.fault if command.fault.step else replace(command.fault, step=step.path)
    if retry.is_retried(node.retry, attempt, fault.code, command.retryable):
        due = turn.frozen_now + retry.delay(node.retry, attempt, turn.env.chance, command.retry_after)
        turn.emit(ev.StepRetrying(**where, **by, fault=fault, due=due))
        turn.effects.again.append(
            fx.Again(no=step.no, fence=command.fence, attempt=attempt + 1, available_at=due, error=encode(fault))
        )
        return
    turn.emit(ev.StepFailed(**where, **by, fault=fault))
    turn.effects.finished.append(fx.Finished(status="failed", seq=turn.state.seq, error=encode(fault), **row))
    fail_run(turn, fault)


@_rule(cmd.ClockRanOut)
def _clock_ran_out(turn: Turn, command: cmd.ClockRanOut) -> None:
    found = turn.state.find(command.no)
    if found is None or found[2].status != READY:
        return
    scope, index, step = found
    fault = replace(command.fault, step=step.path)
    turn.emit(ev.StepFailed(step=step.path, no=step.no, i=index, scope=scope, attempt=step.attempts, fault=fault))
    turn.effects.finished.append(
        fx.Finished(
            no=step.no,
            status="failed",
            seq=turn.state.seq,
            fence=command.fence,
            attempts=step.attempts,
            error=encode(fault),
            stop="timeout",
        )
    )
    fail_run(turn, fault)


@_rule(cmd.TimerDue)
def _timer_due(turn: Turn, command: cmd.TimerDue) -> None:
    found = turn.state.find(command.no) if command.no else None
    due = turn.state.deadline if command.no == 0 else found[2].due if found and found[2].status == WAITING else None
    if turn.state.status in ENDED or turn.state.paused_at is not None or due is None:
        turn.effects.timers[command.no] = None  # nothing waits for it any more; a resumed run sets it anew
        return
    if due > turn.now:
        turn.effects.timers[command.no] = due
        return
    if found is None:
        fail_run(turn, Fault(code="RUN_TIMEOUT", message="the run took longer than its template allows"))
        return
    scope, index, step = found
    turn.emit(ev.StepCompleted(step=step.path, no=step.no, i=index, scope=scope))
    turn.effects.changes.append(fx.StepChange(no=step.no, status="completed", seq=turn.state.seq, output=b"null"))
    turn.effects.timers[step.no] = None
    complete_live(turn, scope, index, b"null", 0)


@_rule(cmd.GateClosed)
def _gate_closed(turn: Turn, command: cmd.GateClosed) -> None:
    turn.effects.told.append(command.gate)
    live = [found for found in turn.state.steps() if found[2].gate == command.gate]
    if not live or turn.state.status in ENDED:
        return
    scope, index, step = live[0]
    where: dict[str, Any] = {"step": step.path, "no": step.no, "i": index, "scope": scope}
    gate: dict[str, Any] = {**where, "approval": command.gate}
    if command.expired:
        turn.emit(ev.ApprovalExpired(**gate, outcome=command.outcome))
    elif command.outcome == "approve":
        turn.emit(ev.ApprovalApproved(**gate, comment=command.comment))
    else:
        turn.emit(ev.ApprovalRejected(**gate, comment=command.comment))
    if command.outcome == "approve":
        turn.emit(ev.StepCompleted(**where))
        output = encode({"decision": "approve", "comment": command.comment, "decided_by": command.decided_by or None})
        turn.effects.changes.append(fx.StepChange(no=step.no, status="completed", seq=turn.state.seq, output=output))
        complete_live(turn, scope, index, output, 0)
        return
    code, message = "APPROVAL_REJECTED", "the approval was rejected"
    if command.outcome == "fail":
        code, message = "APPROVAL_EXPIRED", "nobody decided in time"
    elif command.expired:
        message = "the approval was rejected because nobody decided in time"
    fault = Fault(
        code=code,
        message=message + (f": {command.comment}" if command.comment else ""),
        step=step.path,
        details={"approval": command.gate},
    )
    turn.emit(ev.StepFailed(**where, fault=fault))
    turn.effects.changes.append(fx.StepChange(no=step.no, status="failed", seq=turn.state.seq, error=encode(fault)))
    fail_run(turn, fault)


@_rule(cmd.Pause)
def _pause(turn: Turn, command: cmd.Pause) -> None:
    if turn.state.status in ENDED or turn.state.paused_at is not None:
        raise _refuse(turn, "paused", "pending, running or waiting_approval")
    turn.emit(ev.RunPaused())
    turn.effects.hold = True
    for _, _, step in turn.state.steps():
        if step.status == WAITING:
            turn.effects.timers[step.no] = None
    if turn.state.deadline is not None:
        turn.effects.timers[0] = None


@_rule(cmd.Resume)
def _resume(turn: Turn, command: cmd.Resume) -> None:
    if turn.state.paused_at is None:
        raise _refuse(turn, "resumed", "paused")
    paused_for = max(0.0, turn.now - turn.state.paused_at)
    turn.emit(ev.RunResumed(paused_for=paused_for))
    turn.effects.release = paused_for
    for _, _, step in turn.state.steps():
        if step.status == WAITING:
            turn.effects.timers[step.no] = step.due
    if turn.state.deadline is not None:
        turn.effects.timers[0] = turn.state.deadline
    _advance_all(turn)


@_rule(cmd.Cancel)
def _cancel(turn: Turn, command: cmd.Cancel) -> None:
    if turn.state.status in ENDED:
        raise _refuse(turn, "terminated" if command.hard else "cancelled", "one that has not ended")
    cancel_live(turn, "terminated" if command.hard else "cancelled")
    turn.emit(ev.RunCancelled(terminated=command.hard))
    turn.effects.timers[0] = None


@_rule(cmd.Retry)
def _retry(turn: Turn, command: cmd.Retry) -> None:
    if turn.state.status not in (FAILED, CANCELLED):
        raise _refuse(turn, "retried", "failed or cancelled")
    deadline = None if turn.plan.total is None else turn.now + turn.plan.total
    turn.emit(ev.RunRetried(deadline=deadline))
    if deadline is not None:
        turn.effects.timers[0] = deadline
    for scope, index, step in turn.state.steps():
        if step.status not in (FAILED, CANCELLED) or turn.state.status in ENDED:
            continue
        node = turn.block(scope).nodes[index]
        if enter(turn, scope, node, again=step):
            advance(turn, scope, node.dependents)
    _advance_all(turn)


@_rule(cmd.TakeSnapshot)
def _take_snapshot(turn: Turn, command: cmd.TakeSnapshot) -> None:
    turn.snapshot("demand", command.name, command.snapshot)


@_rule(cmd.Rollback)
def _rollback(turn: Turn, command: cmd.Rollback) -> None:
    if turn.state.status == PENDING:
        raise _refuse(turn, "rolled back", "started")
    for scope, index, step in turn.state.steps():
        end_step(turn, scope, index, step, ROLLED_BACK, "rolled_back")
    deadline = None if turn.plan.total is None else turn.frozen_now + turn.plan.total
    turn.emit(
        ev.RunRolledBack(
            snapshot=command.snapshot,
            to_seq=command.seq,
            scopes=frontier(command.scopes),
            reopened=turn.state.status in ENDED,
            deadline=deadline,
        )
    )
    if deadline is not None and turn.state.paused_at is None:
        turn.effects.timers[0] = deadline
    turn.effects.rolled_back = command.seq
    _advance_all(turn)


def frontier(scopes: dict[str, Scope]) -> dict[str, Scope]:
    """The scopes of a snapshot with nothing entered: what was live then is entered anew."""
    return {key: replace(scope, live={}) for key, scope in scopes.items()} or {"": Scope()}
