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
from wfe_engine import compensate, mending, retry
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.advance import GO_ON_TIMER, advance_all, complete_live, settle
from wfe_engine.effects import Effects
from wfe_engine.errors import StateConflict
from wfe_engine.kinds import waiting
from wfe_engine.kinds.approval import gate_closed, gate_notes
from wfe_engine.kinds.children import child_ended
from wfe_engine.plan import Plan
from wfe_engine.rewind import renumbered, roll_back, rows_of_containers
from wfe_engine.scopes import ROOT, UNDO
from wfe_engine.state import (
    CANCELLED,
    ENDED,
    READY,
    STOPPED,
    WAITING,
    Fault,
    RunState,
    shown_status,
)
from wfe_engine.turn import Env, Turn, encode
from wfe_engine.unwind import end_run, end_step, fail_block
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
        entered: Inputs of steps with blocks that were entered, by number: JSON bytes and value.
        signals: Payloads of signals that came, by id; JSON bytes.
    """

    state: RunState
    events: list[ev.Event]
    effects: Effects
    added: dict[str, Record]
    entered: dict[int, tuple[bytes, Any]]
    signals: dict[str, bytes]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.events or self.effects.timers or self.effects.told or self.effects.noted)


def decide(plan: Plan, state: RunState, command: cmd.Command, env: Env) -> Decision:
    """What a command brings about.

    Raises:
        StateConflict: The run's state does not allow it; nothing changes.
        Deferred: An expression must be evaluated outside first; then decide again.
    """
    turn = Turn(plan, state, env)
    _RULES[type(command)](turn, command)
    settle(turn)
    if isinstance(command, cmd.GateClosed):
        # Of two gates that were decided before the run has taken in either, each may void the other.
        closed = turn.effects.closed_gates
        closed[:] = [replace(gate, decided=True) for gate in closed]
    if (
        env.snapshot_every
        and turn.state.seq - turn.state.snapshot_seq >= env.snapshot_every
        and turn.state.status not in ENDED
        and not turn.state.phase
    ):
        turn.snapshot("periodic")
    return Decision(turn.state, turn.events, turn.effects, turn.added, turn.entered, turn.signals)


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
    start_at = None if command.start_at is None or command.start_at <= turn.now else command.start_at
    deadline = None if turn.plan.total is None or start_at is not None else turn.now + turn.plan.total
    scopes, next_no = renumbered(command.scopes, command.next_no)
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
            scopes=scopes,
            next_no=next_no,
            start_at=start_at,
        )
    )
    if turn.state.clock is not None:
        turn.effects.timers[0] = turn.state.clock
    if start_at is not None:
        return
    turn.emit(ev.RunStarted())
    rows_of_containers(turn, command.inputs)
    advance_all(turn)


@_rule(cmd.Advance)
def _advance(turn: Turn, command: cmd.Advance) -> None:
    advance_all(turn)


@_rule(cmd.Report)
def _report(turn: Turn, command: cmd.Report) -> None:
    found = turn.state.find(command.no)
    if found is None or found[2].status != READY:
        return  # its dispatch row is gone; the commit would refuse the fence anyway
    scope, index, step = found
    node = turn.node(scope, index)
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
    if fault.code == STOPPED:
        fault = replace(fault, code="HANDLER_ERROR")
    if retry.is_retried(node.retry, attempt, fault.code, command.retryable):
        due = turn.frozen_now + retry.delay(node.retry, attempt, turn.env.chance, command.retry_after)
        turn.emit(ev.StepRetrying(**where, **by, fault=fault, due=due))
        turn.effects.again.append(
            fx.Again(no=step.no, fence=command.fence, attempt=attempt + 1, available_at=due, error=encode(fault))
        )
        return
    turn.emit(ev.StepFailed(**where, **by, fault=fault))
    turn.effects.finished.append(fx.Finished(status="failed", seq=turn.state.seq, error=encode(fault), **row))
    _failed(turn, scope, node.id, fault, attempt)


def _failed(turn: Turn, scope: str, step_id: str, fault: Fault, attempts: int) -> None:
    if scope == UNDO:
        compensate.go_on(turn)
        return
    turn.record(scope, step_id, Record(status="failed", error=encode(fault), attempts=attempts))
    fail_block(turn, scope, fault)


@_rule(cmd.ClockRanOut)
def _clock_ran_out(turn: Turn, command: cmd.ClockRanOut) -> None:
    found = turn.state.find(command.no)
    if found is None or found[2].status != READY:
        return
    scope, index, step = found
    step_id = turn.node(scope, index).id  # of a compensation nothing is left once it has ended
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
    _failed(turn, scope, step_id, fault, step.attempts)


@_rule(cmd.TimerDue)
def _timer_due(turn: Turn, command: cmd.TimerDue) -> None:
    if command.no == GO_ON_TIMER:
        turn.effects.timers[GO_ON_TIMER] = None
        advance_all(turn)
        return
    found = turn.state.find(command.no) if command.no else None
    due = turn.state.clock if command.no == 0 else found[2].due if found and found[2].status == WAITING else None
    if turn.state.status in ENDED or turn.state.paused_at is not None or due is None:
        turn.effects.timers[command.no] = None  # nothing waits for it any more; a resumed run sets it anew
        return
    if due > turn.now:
        turn.effects.timers[command.no] = due
        return
    if found is None and turn.state.phase:
        turn.effects.timers[0] = None  # it is ending already
        return
    if found is None and turn.state.start_at is not None:
        total = turn.plan.total
        turn.emit(ev.RunStarted(deadline=None if total is None else turn.now + total))
        turn.effects.timers[0] = turn.state.deadline
        advance_all(turn)
        return
    if found is None:
        fail_block(turn, ROOT, Fault(code="RUN_TIMEOUT", message="the run took longer than its template allows"))
        return
    scope, index, step = found
    if step.kind == "wait_for":
        waiting.due(turn, scope, index, step)
    else:
        waiting.complete(turn, scope, index, step, b"null")


_RULES[cmd.GateClosed] = gate_closed
_RULES[cmd.GateNotes] = gate_notes
_RULES[cmd.Signal] = waiting.signal
_RULES[cmd.Alive] = waiting.alive
_RULES[cmd.ChildEnded] = child_ended


@_rule(cmd.Pause)
def _pause(turn: Turn, command: cmd.Pause) -> None:
    if turn.state.status in ENDED or turn.state.paused_at is not None:
        raise _refuse(turn, "paused", "pending, running or waiting_approval")
    turn.emit(ev.RunPaused())
    turn.effects.hold = True
    for _, _, step in turn.state.steps():
        if step.status == WAITING:
            turn.effects.timers[step.no] = None
    if turn.state.clock is not None:
        turn.effects.timers[0] = None


@_rule(cmd.Resume)
def _resume(turn: Turn, command: cmd.Resume) -> None:
    if turn.state.paused_at is None:
        raise _refuse(turn, "resumed", "paused")
    paused_for = max(0.0, turn.now - turn.state.paused_at)
    turn.emit(ev.RunResumed(paused_for=paused_for))
    turn.effects.release = paused_for
    for _, _, step in turn.state.steps():
        if step.status == WAITING and step.due is not None:
            turn.effects.timers[step.no] = step.due
    if turn.state.clock is not None:
        turn.effects.timers[0] = turn.state.clock
    advance_all(turn)


@_rule(cmd.Cancel)
def _cancel(turn: Turn, command: cmd.Cancel) -> None:
    if turn.state.status in ENDED:
        raise _refuse(turn, "terminated" if command.hard else "cancelled", "one that has not ended")
    turn.hard = command.hard
    fault = Fault(code=STOPPED, message="the run was stopped", details={"terminated": True} if command.hard else {})
    if turn.state.phase:
        _cancel_compensating(turn, fault)
        return
    fail_block(turn, ROOT, fault, "terminated" if command.hard else "cancelled")


def _cancel_compensating(turn: Turn, fault: Fault) -> None:
    """Compensations go on under a gentle cancel, and end with it; the hard one stops them."""
    if not turn.hard:
        turn.emit(ev.RunCompensating(fault=fault))
        return
    _end_compensating(turn, fault, "terminated")


def _end_compensating(turn: Turn, fault: Fault, stop: str) -> None:
    for scope, index, step in turn.state.steps():
        if scope == UNDO:
            end_step(turn, scope, index, step, CANCELLED, stop)
    end_run(turn, fault)


_RULES[cmd.Retry] = mending.retry
_RULES[cmd.SettleStep] = mending.settle


@_rule(cmd.Break)
def _break(turn: Turn, command: cmd.Break) -> None:
    turn.hard = True
    fault = Fault(code="INTERNAL_ERROR", message=command.message)
    if turn.state.status in ENDED:
        return
    if turn.state.phase:
        _end_compensating(turn, fault, "failed")
    else:
        fail_block(turn, ROOT, fault)


@_rule(cmd.TakeSnapshot)
def _take_snapshot(turn: Turn, command: cmd.TakeSnapshot) -> None:
    if turn.state.phase:
        raise StateConflict("the run is taking back what its steps did", reason="RUN_STATE")
    if turn.state.compensated:
        raise StateConflict(
            "what the run's steps did was taken back; there is nothing to return to", reason="RUN_COMPENSATED"
        )
    turn.snapshot("demand", command.name, command.snapshot)


_RULES[cmd.Rollback] = roll_back
