"""Going back up: what a failure or a stop means for the blocks around it.

A step that fails makes its block fail. Everything else that is active in the block is stopped; steps with something
to do at their end (`finally`) do it first, and the block, marked with its fault, waits for them. Then the step the
block belongs to says what follows (`BLOCK_FAILED`): it takes the failure, or fails itself, and so on up to the run.

Steps and scopes that ended so stay in the state: a retried run goes on in them.
"""

from __future__ import annotations

from wfe_engine import compensate
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.plan import CONTAINERS
from wfe_engine.rules import BLOCK_FAILED, GO_ON
from wfe_engine.scopes import ROOT, place, step_prefix
from wfe_engine.state import (
    CANCELLED,
    LIVE,
    READY,
    STEP_RUNNING,
    STOPPED,
    WAITING,
    Fault,
    Step,
)
from wfe_engine.turn import Turn, encode
from wfe_engine.values import Record

_WITHDRAWN = (ev.ApprovalWithdrawn, "withdrawn")
_SUPERSEDED = (ev.ApprovalSuperseded, "superseded")
_STOPPED = Fault(code=STOPPED, message="it was stopped")


def fail_block(turn: Turn, scope: str, fault: Fault, stop: str = "failed") -> None:
    """A block cannot go on: stop what is active in it, and end it once nothing is.

    Args:
        stop: Why, for the executors that hold steps of it.
    """
    here = turn.state.scopes.get(scope)
    if here is None or turn.closing:
        return
    if here.fault is not None and fault.code == STOPPED:
        turn.emit(ev.BlockFailing(scope=scope, fault=fault))  # it ends as stopped, whatever it failed with
    _stop_all(turn, scope, stop)
    present = turn.state.scopes.get(scope)
    if present is None or turn.closing:
        return  # it ended with the last of what was active in it
    if not turn.state.active(scope):
        _block_failed(turn, scope, fault)
    elif present.fault is None:
        turn.emit(ev.BlockFailing(scope=scope, fault=fault))


def fail_container(turn: Turn, scope: str, index: int, fault: Fault, stop: str = "failed") -> None:
    """A step with blocks cannot go on: stop what is active inside, and end it once nothing is."""
    inside = blocks_of(turn, scope, index)
    if any(turn.state.scopes[key].fault is not None for key in inside):
        # What a block inside has failed with is not for this step to take any more, should that block end now.
        _failing(turn, scope, index, fault)
    for key in inside:
        # The last of what was active ends the step, and with it what it is in may end.
        if key in turn.state.scopes and (turn.hard or turn.block(key).role != "finally"):
            _stop_all(turn, key, stop)
    here = turn.state.scopes.get(scope)
    if here is None or index not in here.live or here.live[index].status != STEP_RUNNING:
        return
    waits = not turn.hard and turn.node(scope, index).blocks[-1].role == "finally"
    # A block that ended with what was active in it is gone.
    if waits or any(key in turn.state.scopes and turn.state.active(key) for key in inside):
        _failing(turn, scope, index, fault)
    else:
        end_container(turn, scope, index, fault)


def _failing(turn: Turn, scope: str, index: int, fault: Fault) -> None:
    step = turn.live(scope, index)
    if step.fault is None:
        turn.emit(ev.StepFailing(step=step.path, no=step.no, i=index, scope=scope, fault=fault))
        turn.todo.append(lambda: _look_again(turn, scope, index))


def end_container(turn: Turn, scope: str, index: int, fault: Fault) -> None:
    """A step with blocks has failed, or was stopped, and nothing inside of it is active."""
    step = turn.live(scope, index)
    error = encode(fault)
    stopped = fault.code == STOPPED
    if stopped:
        turn.emit(ev.StepCancelled(step=step.path, no=step.no, i=index, scope=scope))
    else:
        turn.emit(ev.StepFailed(step=step.path, no=step.no, i=index, scope=scope, fault=fault))
        turn.record(scope, turn.node(scope, index).id, Record(status="failed", error=error))
    status = CANCELLED if stopped else "failed"
    turn.effects.change(fx.StepChange(no=step.no, status=status, seq=turn.state.seq, error=None if stopped else error))
    if not stopped:
        here = turn.state.scopes[scope]
        if here.fault is None and not owner_fails(turn, scope):
            fail_block(turn, scope, fault)
            return
    settle_block(turn, scope)


def settle_block(turn: Turn, scope: str) -> None:
    """Something in a block that is failing has ended: end the block, or the step around it, if it was the last."""
    here = turn.state.scopes.get(scope)
    if here is None or turn.state.active(scope):
        return
    if here.fault is not None:
        _block_failed(turn, scope, here.fault)
    elif owner_fails(turn, scope):
        parent, index, _, _ = place(scope)
        _look_again(turn, parent, index)


def blocks_of(turn: Turn, scope: str, index: int) -> list[str]:
    """Keys of the blocks of a step that are being run."""
    prefix = step_prefix(scope, index)
    return [key for key in turn.state.scopes if key.startswith(prefix) and "." not in key[len(prefix) :]]


def owner_fails(turn: Turn, scope: str) -> bool:
    """Whether the step a block belongs to has failed or will, and this is not what it still does at its end."""
    if scope == ROOT:
        return False
    parent, index, _, _ = place(scope)
    step = turn.live(parent, index)
    return step.status != STEP_RUNNING or (step.fault is not None and turn.block(scope).role != "finally")


def _look_again(turn: Turn, scope: str, index: int) -> None:
    """A step with blocks that is failing: do what it has to do at its end, or end it."""
    here = turn.state.scopes.get(scope)
    step = None if here is None else here.live.get(index)
    if step is None or step.status != STEP_RUNNING or step.fault is None or turn.closing:
        return
    if step.kind == "try":
        if turn.state.paused_at is None:
            GO_ON["try"](turn, scope, index)
    elif not any(turn.state.active(key) for key in blocks_of(turn, scope, index)):
        end_container(turn, scope, index, step.fault)


def _block_failed(turn: Turn, scope: str, fault: Fault) -> None:
    if scope == ROOT:
        if not compensate.begins(turn, fault):
            end_run(turn, fault)
        return
    parent, index, block, round_ = place(scope)
    step = turn.live(parent, index)
    if step.fault is not None and step.kind != "try":
        _look_again(turn, parent, index)
    else:
        BLOCK_FAILED[step.kind](turn, parent, index, block, round_, fault)


def end_run(turn: Turn, fault: Fault) -> None:
    """The run ends with a fault; nothing in it is active."""
    if fault.code == STOPPED:
        turn.emit(ev.RunCancelled(terminated=bool(fault.details.get("terminated"))))
    else:
        turn.emit(ev.RunFailed(fault=fault, code=fault.code.lower()))
    compensate.leave(turn)
    turn.effects.timers[0] = None


def _stop_all(turn: Turn, scope: str, stop: str) -> None:
    """Stop every active step of a scope."""
    for index, step in list(turn.state.scopes[scope].live.items()):
        if step.status not in LIVE:
            continue
        if step.kind in CONTAINERS:
            if step.fault is None or turn.hard:
                fail_container(turn, scope, index, _STOPPED, stop)
        else:
            end_step(turn, scope, index, step, CANCELLED, stop)


def end_step(turn: Turn, scope: str, index: int, step: Step, status: str, stop: str) -> None:
    """End one live step without blocks from outside; does nothing to a step that has ended.

    Args:
        status: cancelled or rolled_back. Only the former is an event of its own.
    """
    if step.status not in LIVE:
        return
    if step.gate is not None:
        void, word = _SUPERSEDED if stop == "rolled_back" else _WITHDRAWN
        turn.emit(void(step=step.path, no=step.no, i=index, scope=scope, approval=step.gate))
        turn.effects.close_gate(step.gate, word)
    if step.child is not None:
        wish = "terminate" if turn.hard else "cancel"
        turn.effects.children.append(fx.ChildWish(no=step.no, child=step.child, wish=wish))
    if status == CANCELLED:
        turn.emit(ev.StepCancelled(step=step.path, no=step.no, i=index, scope=scope))
    if step.status == READY:
        turn.effects.finish(fx.Finished(no=step.no, status=status, seq=turn.state.seq, stop=stop))
    else:
        turn.effects.change(fx.StepChange(no=step.no, status=status, seq=turn.state.seq))
    if step.status == WAITING:
        turn.effects.timers[step.no] = None
