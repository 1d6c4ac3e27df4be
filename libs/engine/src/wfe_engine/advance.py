"""Going forward: which steps can be entered now, entering them, and what their completion means for the run."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from wfe_engine import compensate
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.approved import approval_of, approved_request
from wfe_engine.plan import CONTAINERS, WORK, Node
from wfe_engine.rules import ENTER, GO_ON, REQUEST
from wfe_engine.scopes import ROOT, UNDO, child_key, depth, place
from wfe_engine.sizes import INPUT_TOO_LARGE, LARGE_BYTES, MOST_BYTES, OUTPUT_TOO_LARGE, too_large, unfit
from wfe_engine.state import STEP_RUNNING, Fault, Scope, Step
from wfe_engine.turn import Turn, encode, expression_fault
from wfe_engine.unwind import fail_block, fail_container, owner_fails
from wfe_engine.values import ExpressionFault, Record, truth

#: Events one decision may bring about; what is left after that many is decided next, from the committed state.
MOST_EVENTS = 500
#: Number of the timer that makes a run go on with what was left.
GO_ON_TIMER = -1

_NEW = Scope()


def settle(turn: Turn) -> None:
    """Look at everything a decision has touched until nothing follows from it any more."""
    while turn.todo:
        if len(turn.events) >= MOST_EVENTS:
            turn.effects.timers[GO_ON_TIMER] = turn.now
            return
        turn.todo.popleft()()


def advance_all(turn: Turn) -> None:
    """Look at every scope and every step with blocks, the innermost first."""
    if turn.state.phase:
        compensate.go_on(turn)
        return
    if turn.state.start_at is not None:
        return
    for scope in sorted(turn.state.scopes, key=depth, reverse=True):
        turn.todo.append(partial(advance, turn, scope))
        for index, step in turn.state.scopes[scope].live.items():
            if step.kind in CONTAINERS:
                go_on_later(turn, scope, index)


def go_on_later(turn: Turn, scope: str, index: int) -> None:
    """Look at a step with blocks before the decision is done."""
    turn.todo.append(partial(go_on, turn, scope, index))


def go_on(turn: Turn, scope: str, index: int) -> None:
    """Go on with a step that has blocks, if it still can."""
    if turn.closing or turn.state.paused_at is not None:
        return
    step = running(turn, scope, index, failing=True)
    # Only a try has something to do once it is failing.
    if step is not None and (step.fault is None or step.kind == "try"):
        GO_ON[step.kind](turn, scope, index)


def running(turn: Turn, scope: str, index: int, *, failing: bool = False) -> Step | None:
    """The step with blocks at a place, as it is now; None when it has ended.

    Args:
        failing: Also when it only waits to fail.
    """
    here = turn.state.scopes.get(scope)
    step = None if here is None else here.live.get(index)
    if step is None or step.status != STEP_RUNNING or not (failing or step.fault is None):
        return None
    return step


def open_block(turn: Turn, scope: str, index: int, block: int, round_: int = 0) -> None:
    """Begin a block of a live step."""
    _enter_free(turn, child_key(scope, index, block, round_), _NEW, None)


def advance(turn: Turn, scope: str = ROOT, candidates: Iterable[int] | None = None) -> None:
    """Enter every node of a scope that can be entered, and end its block when nothing is left in it.

    Args:
        candidates: Indexes of nodes that may have become free; None looks at all.
    """
    here = turn.state.scopes.get(scope)
    if here is not None and here.fault is None and not owner_fails(turn, scope):
        _enter_free(turn, scope, here, candidates)


def _enter_free(turn: Turn, scope: str, here: Scope, candidates: Iterable[int] | None) -> None:
    if turn.state.paused_at is not None or turn.closing:
        return
    nodes = turn.block(scope).nodes
    waiting = list(range(len(nodes)) if candidates is None else candidates)
    while waiting:
        index = waiting.pop(0)
        finished = here.finished()
        node = nodes[index]
        if finished >> index & 1 or index in here.live or not all(finished >> need & 1 for need in node.needs):
            continue
        done = enter(turn, scope, node)
        present = turn.state.scopes.get(scope)
        if present is None or present.fault is not None or turn.closing or owner_fails(turn, scope):
            return
        here = present
        if done:
            waiting.extend(node.dependents)
    if here.finished() == (1 << len(nodes)) - 1:
        _end_block(turn, scope)


def enter(turn: Turn, scope: str, node: Node, again: Step | None = None, *, edited: bool = False) -> bool:
    """Enter a node: skip it, do it at once, or make it wait for an executor, a person or a moment.

    Args:
        again: The step it was, when a retried run enters it once more; it keeps its number.
        edited: Its recorded input was changed by hand.

    Returns:
        Whether it has finished already.
    """
    no = turn.state.next_no if again is None else again.no
    where = "if"
    try:
        condition = node.condition if again is None else None
        if condition is not None and not truth(turn.render(condition, scope), condition):
            _skip(turn, scope, node, no)
            return True
        recorded = None if again is None else turn.env.values.inputs.get(no)
        if node.approved_by >= 0 and recorded is None:
            approved = approved_request(turn, scope, node)
            if isinstance(approved, Fault):
                fail_entering(turn, scope, node, no, approved)
                return False
            if approved is None:
                _skip(turn, scope, node, no)
                return True
            _dispatch(turn, scope, node, no, approved, recorded=False, edited=False)
            return False
        # What a block gives is a last step of its own.
        where = "output" if node.path.endswith("/output") and node is turn.block(scope).nodes[-1] else node.kind
        code = OUTPUT_TOO_LARGE if node.kind == "set" else INPUT_TOO_LARGE
        params = turn.render(node.params, scope, code) if recorded is None else msgspec.json.decode(recorded)
        if recorded is None and node.kind in REQUEST:
            params = REQUEST[node.kind](turn, scope, params)
    except ExpressionFault as fault:
        fail_entering(turn, scope, node, no, expression_fault(fault, node.path, where))
        return False
    if node.kind in WORK:
        request = encode(params)
        if recorded is None and len(request) > MOST_BYTES:
            fail_entering(turn, scope, node, no, too_large(INPUT_TOO_LARGE, node.path))
            return False
        _dispatch(turn, scope, node, no, request, recorded is not None, edited)
        return False
    return ENTER[node.kind](turn, scope, node, no, params)


def _skip(turn: Turn, scope: str, node: Node, no: int) -> None:
    turn.emit(ev.StepSkipped(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind))
    turn.row(scope, node, no, "skipped", ended=True)
    turn.record(scope, node.id, Record(status="skipped"))


def _dispatch(turn: Turn, scope: str, node: Node, no: int, request: bytes, recorded: bool, edited: bool) -> None:
    turn.emit(ev.StepReady(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind))
    common: dict[str, Any] = {
        "no": no,
        "path": node.path,
        "kind": node.kind,
        "queue": node.queue,
        "visit": turn.state.visit,
        "epoch": turn.state.epoch,
        "sealed": node.sealed,
        "max_attempts": node.retry.max_attempts,
        "clocks": node.clocks,
        "available_at": turn.now,
        "scope": scope,
        "iteration": turn.iteration(scope),
    }
    if node.approved_by >= 0:
        common["approval"], common["digest"] = approval_of(turn, scope, node)
    if recorded:
        turn.effects.redispatches.append(fx.Redispatch(request=request if edited else None, **common))
    else:
        turn.effects.dispatches.append(fx.Dispatch(request=request, **common))


def complete_entering(turn: Turn, scope: str, node: Node, no: int, output: Any, given: bytes | None = None) -> bool:
    """A step is done on being entered, or fails because of how large its output is; gives which.

    Args:
        given: What to keep as its input.
    """
    data = encode(output)
    if (why := unfit(data, node.path)) is not None:
        fail_entering(turn, scope, node, no, why, given)
        return False
    turn.emit(ev.StepCompleted(step=node.path, no=no, i=node.index, scope=scope))
    turn.row(scope, node, no, "completed", input=given, output=data, ended=True)
    turn.record(scope, node.id, Record(status="completed", output=data))
    if node.compensate is not None:
        compensate.note(turn, scope, node)
    return True


def fail_entering(turn: Turn, scope: str, node: Node, no: int, fault: Fault, given: bytes | None = None) -> None:
    """A step fails on being entered."""
    turn.emit(ev.StepFailed(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind, fault=fault))
    error = encode(fault)
    turn.row(scope, node, no, "failed", input=given, error=error, ended=True)
    turn.record(scope, node.id, Record(status="failed", error=error))
    fail_block(turn, scope, fault)


def start_container(turn: Turn, scope: str, node: Node, no: int, params: Any, of: int = 0) -> None:
    """A step with blocks is entered; its blocks are opened once the decision comes to look at it."""
    given = encode(params)
    if len(given) > MOST_BYTES:
        fail_entering(turn, scope, node, no, too_large(INPUT_TOO_LARGE, node.path))
        return
    turn.emit(ev.StepStarted(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind, of=of))
    turn.row(scope, node, no, STEP_RUNNING, input=given)
    turn.enter(no, given, params)
    go_on_later(turn, scope, node.index)


def complete_container(turn: Turn, scope: str, index: int, output: bytes, error: bytes | None = None) -> None:
    """A step with blocks has done what it had to do.

    Args:
        error: What failed inside of it all the same; JSON bytes of a `Fault`.
    """
    step = turn.live(scope, index)
    if (why := unfit(output, step.path)) is not None:
        fail_container(turn, scope, index, why)
        return
    turn.emit(ev.StepCompleted(step=step.path, no=step.no, i=index, scope=scope))
    turn.effects.change(fx.StepChange(no=step.no, status="completed", seq=turn.state.seq, output=output, error=error))
    complete_live(turn, scope, index, output, 0, error)


def complete_live(turn: Turn, scope: str, index: int, output: bytes, attempts: int, error: bytes | None = None) -> None:
    """Let what follows a completed step go on; the step's own event and rows are the caller's."""
    if scope == UNDO:
        compensate.go_on(turn)
        return
    node = turn.node(scope, index)
    turn.record(scope, node.id, Record(status="completed", output=output, attempts=attempts, error=error))
    if node.compensate is not None:
        compensate.note(turn, scope, node)
    advance(turn, scope, node.dependents)


def _end_block(turn: Turn, scope: str) -> None:
    if scope == ROOT:
        _complete_run(turn)
        return
    parent, index, block, round_ = place(scope)
    step = turn.live(parent, index)
    turn.emit(ev.BlockEnded(step=step.path, no=step.no, i=index, scope=parent, block=block, round=round_))
    if step.of > 1 and len(turn.result(scope)) > LARGE_BYTES and _gathered(turn, parent, index) > MOST_BYTES:
        fail_container(turn, parent, index, too_large(OUTPUT_TOO_LARGE, step.path))
        return
    go_on_later(turn, parent, index)


def _gathered(turn: Turn, scope: str, index: int) -> int:
    """Bytes of what the blocks of a step have given that gives all of it together."""
    step = turn.live(scope, index)
    several = len(turn.node(scope, index).blocks) > 1
    places = ((at, 0) if several else (0, at) for at in range(step.next))
    return sum(len(turn.result(child_key(scope, index, block, round_))) for block, round_ in places)


def _complete_run(turn: Turn) -> None:
    output: Any = None
    if turn.plan.output is not None:
        try:
            output = turn.render(turn.plan.output, ROOT, OUTPUT_TOO_LARGE)
        except ExpressionFault as fault:
            fail_block(turn, ROOT, expression_fault(fault, "", "output"))
            return
    data = encode(output)
    if (why := unfit(data, "")) is not None:
        fail_block(turn, ROOT, why)
        return
    turn.emit(ev.RunCompleted())
    compensate.leave(turn)
    turn.effects.output = data
    turn.effects.timers[0] = None
