"""Taking back what completed steps did: noted when they complete, run in reverse order before the run ends."""

from __future__ import annotations

from msgspec.structs import replace

from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.plan import Node
from wfe_engine.scopes import UNDO
from wfe_engine.state import COMPENSATING, ENDED, STOPPED, Fault, Undo
from wfe_engine.turn import Turn, encode, expression_fault
from wfe_engine.values import ExpressionFault


def note(turn: Turn, scope: str, node: Node) -> None:
    """A step has completed: keep on record how its effects are taken back, with the values of this moment."""
    assert node.compensate is not None
    no = turn.state.next_no
    try:
        given = encode(turn.render(node.compensate.params, scope))
    except ExpressionFault as fault:
        why = expression_fault(fault, node.compensate.path, f"compensate.{node.compensate.kind}")
        turn.emit(ev.CompensationNoted(step=node.path, no=no, i=node.index, scope=scope, undo=no, fault=why))
        turn.row(scope, node.compensate, no, "pending", error=encode(why))
        return
    turn.emit(ev.CompensationNoted(step=node.path, no=no, i=node.index, scope=scope, undo=no))
    turn.row(scope, node.compensate, no, "pending", input=given)


def begins(turn: Turn, fault: Fault) -> bool:
    """Whether something is to be taken back before the run ends so; begins with it."""
    trigger = "cancel" if fault.code == STOPPED else "failure"
    if turn.hard or turn.state.phase or not turn.state.undo or trigger not in turn.plan.compensate_on:
        return False
    turn.emit(ev.RunCompensating(fault=fault))
    go_on(turn)
    return True


def leave(turn: Turn) -> None:
    """The run ends and nothing (more) is taken back: what would have done it is not needed."""
    for undo in turn.state.undo:
        turn.effects.change(fx.StepChange(no=undo.no, status="skipped", seq=turn.state.seq))


def to_undo(turn: Turn) -> list[Undo]:
    """What is still to be taken back, last completed first."""
    kept = set() if turn.state.returning is None else {undo.no for undo in turn.state.returning.undo}
    return [undo for undo in reversed(turn.state.undo) if undo.no not in kept]


def go_on(turn: Turn) -> None:
    """Take back the next step, if the run is at that and nothing is being taken back."""
    state = turn.state
    if state.phase != COMPENSATING or state.status in ENDED or state.paused_at is not None or UNDO in state.scopes:
        return
    left = to_undo(turn)
    while left and left[0].fault is not None:
        _cannot(turn, left.pop(0))
    if not left:
        _finish(turn)
        return
    node, undo = turn.undoing(left[0].no)
    turn.emit(ev.StepReady(step=node.path, no=undo.no, i=0, scope=UNDO, kind=node.kind))
    turn.effects.redispatches.append(
        fx.Redispatch(
            no=undo.no,
            path=node.path,
            kind=node.kind,
            queue=node.queue,
            visit=turn.state.visit,
            epoch=turn.state.epoch,
            sealed=node.sealed,
            max_attempts=node.retry.max_attempts,
            clocks=node.clocks,
            available_at=turn.now,
            scope=UNDO,
            iteration=turn.iteration(undo.scope),
        )
    )


def _cannot(turn: Turn, undo: Undo) -> None:
    """Nobody knows what it would be called with: it fails for the reason its params could not be computed."""
    assert undo.fault is not None
    node, _ = turn.undoing(undo.no)
    turn.emit(
        ev.StepFailed(step=node.path, no=undo.no, i=0, scope=UNDO, fault=undo.fault)
    )  # fmt: skip
    turn.effects.change(fx.StepChange(no=undo.no, status="failed", seq=turn.state.seq, error=encode(undo.fault)))


def _finish(turn: Turn) -> None:
    from wfe_engine.rewind import return_to
    from wfe_engine.unwind import end_run

    if turn.state.returning is not None:
        return_to(turn, turn.state.returning)
        return
    fault = turn.state.ending
    assert fault is not None
    if turn.state.not_undone:
        fault = replace(fault, details={**fault.details, "not_undone": list(turn.state.not_undone)})
    end_run(turn, fault)
