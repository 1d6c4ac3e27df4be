"""Mending a run by hand: going on after an end, with other inputs, or with steps settled by a person."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from wfe_engine import commands as cmd
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.advance import advance, advance_all, complete_live, enter
from wfe_engine.approved import approved_step
from wfe_engine.errors import NotFound, StateConflict
from wfe_engine.plan import CONTAINERS
from wfe_engine.rewind import early_finals
from wfe_engine.scopes import UNDO, depth, place
from wfe_engine.state import CANCELLED, FAILED, LIVE, READY, STEP_RUNNING, WAITING, Step, shown_status
from wfe_engine.turn import Turn
from wfe_engine.unwind import owner_fails
from wfe_engine.values import Record


def retry(turn: Turn, command: cmd.Retry) -> None:
    """Go on after a failure or a cancellation: what failed or was stopped is entered again."""
    _reopen(turn)
    for no, given in command.edits.items():
        found = turn.state.find(no)
        if found is None or found[2].status not in (FAILED, CANCELLED) or found[2].kind in CONTAINERS:
            raise NotFound(f"step {no} is none that would be run again", step=no, reason="STEP_NOT_STOPPED")
        if found[0] != UNDO and turn.node(*found[:2]).approved_by >= 0:
            message = f"what {found[2].path} does was approved as it is; roll back to its gate to change it there"
            raise StateConflict(message, reason="STEP_APPROVED", step=no)
        _edited(turn, *found, "input", turn.env.values.params(no), given)
        turn.env.values.record(no, given, msgspec.json.decode(given))
    _enter_again(turn, set(command.edits))


def settle(turn: Turn, command: cmd.SettleStep) -> None:
    """Complete or skip a step by hand; a run that had failed or was cancelled goes on."""
    found = turn.state.find(command.no)
    if found is None or found[0] == UNDO:
        raise NotFound(f"step {command.no} is not one that can be settled", reason="STEP_NOT_LIVE", step=command.no)
    scope, index, step = found
    if step.kind in CONTAINERS:
        raise StateConflict("a step with blocks is settled through the steps inside", reason="STEP_HAS_BLOCKS")
    if (
        command.output is not None
        and step.kind == "approval"
        and approved_step(turn.block(scope), turn.node(scope, index))
    ):
        raise StateConflict("a gate that approves a step is decided, not completed", reason="STEP_IS_GATE")
    ended = turn.state.status in (FAILED, CANCELLED)
    if ended:
        _reopen(turn)
        if scope not in turn.state.scopes:
            message = "the step is part of what is done after a failure, and will be done anew"
            raise StateConflict(message, reason="STEP_RUNS_AGAIN", step=command.no)
    elif step.status not in LIVE:
        raise StateConflict(f"step {command.no} has ended", reason="STEP_ENDED", step=command.no)
    _edited(turn, scope, index, step, "output", None, command.output)
    if ended:
        _enter_again(turn, set(), partial(_settle, turn, scope, index, step, command.output))
    else:
        _settle(turn, scope, index, step, command.output)


def _reopen(turn: Turn) -> None:
    if turn.state.status not in (FAILED, CANCELLED):
        status = shown_status(turn.state)
        raise StateConflict(
            f"a run that is {status} cannot be retried; it must be failed or cancelled",
            reason="RUN_STATE",
            status=status,
            action="retried",
            allowed="failed or cancelled",
        )
    if turn.state.compensated:
        raise StateConflict(
            "what the run's steps did was taken back; start it anew, or roll it back to before them",
            reason="RUN_COMPENSATED",
        )
    deadline = None if turn.plan.total is None else turn.now + turn.plan.total
    turn.emit(ev.RunRetried(deadline=deadline))
    if deadline is not None:
        turn.effects.timers[0] = deadline
    for scope, index, block, key in early_finals(turn.plan, turn.state.scopes):
        if key in turn.state.scopes:
            step = turn.live(scope, index)
            turn.emit(
                ev.BlockEnded(
                    step=step.path, no=step.no, i=index, scope=scope, block=block, round=place(key)[3], status=FAILED
                )
            )


def _enter_again(turn: Turn, edited: set[int], first: Callable[[], None] | None = None) -> None:
    stopped = [found for found in turn.state.steps() if found[2].status in (FAILED, CANCELLED)]
    stopped.sort(key=lambda found: depth(found[0]))
    for scope, index, step in stopped:
        if step.kind in CONTAINERS and step.next:
            turn.emit(
                ev.StepStarted(step=step.path, no=step.no, i=index, scope=scope, kind=step.kind, of=step.of)
            )  # fmt: skip
            turn.effects.change(fx.StepChange(no=step.no, status=STEP_RUNNING, seq=turn.state.seq, ended=False))
    if first is not None:
        first()
    for scope, index, step in stopped:
        here = turn.state.scopes.get(scope)
        if here is None or here.fault is not None or turn.closing or owner_fails(turn, scope):
            continue  # what was entered again before it failed at once
        if (step.kind in CONTAINERS and step.next) or index not in here.live or here.live[index].no != step.no:
            continue
        node = turn.node(scope, index)
        if enter(turn, scope, node, again=step, edited=step.no in edited):
            advance(turn, scope, node.dependents)
    advance_all(turn)


def _edited(turn: Turn, scope: str, index: int, step: Step, what: str, before: Any, after: bytes | None) -> None:
    value = None if after is None else msgspec.json.decode(after)
    turn.emit(
        ev.StepEdited(step=step.path, no=step.no, i=index, scope=scope, what=what, before=before, after=value)
    )  # fmt: skip


def _settle(turn: Turn, scope: str, index: int, step: Step, output: bytes | None) -> None:
    where: dict[str, Any] = {"step": step.path, "no": step.no, "i": index, "scope": scope}
    status = "skipped" if output is None else "completed"
    if step.gate is not None and step.status in LIVE:
        turn.emit(ev.ApprovalWithdrawn(**where, approval=step.gate))
        turn.effects.close_gate(step.gate, "withdrawn")
    if step.child is not None and step.status in LIVE:
        turn.effects.children.append(fx.ChildWish(no=step.no, child=step.child, wish="cancel"))
    if step.status == WAITING:
        turn.effects.timers[step.no] = None
    if output is None:
        turn.emit(ev.StepSkipped(**where, kind=step.kind))
    else:
        turn.emit(ev.StepCompleted(**where))
    if step.status == READY:
        turn.effects.finish(
            fx.Finished(no=step.no, status=status, seq=turn.state.seq, output=output, stop="settled")
        )  # fmt: skip
    else:
        turn.effects.change(fx.StepChange(no=step.no, status=status, seq=turn.state.seq, output=output))
    if output is not None:
        complete_live(turn, scope, index, output, step.attempts)
        return
    node = turn.node(scope, index)
    turn.record(scope, node.id, Record(status="skipped"))
    advance(turn, scope, node.dependents)
