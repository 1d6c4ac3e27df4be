"""Going forward: which steps can be entered now, entering them, and what their end means for the run."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.plan import WORK, Node
from wfe_engine.state import CANCELLED, ENDED, READY, WAITING, WAITING_APPROVAL, Fault, Step
from wfe_engine.turn import Turn, encode
from wfe_engine.values import ExpressionFault, Record

EXPRESSION_ERROR, BAD_INPUT = "EXPRESSION_ERROR", "BAD_INPUT"
#: Longest span or farthest moment a wait may have; a year.
LONGEST_WAIT = 366 * 86_400.0


def advance(turn: Turn, scope: str = "", candidates: Iterable[int] | None = None) -> None:
    """Enter every node of a scope that can be entered, and finish the scope when nothing is left in it.

    Args:
        candidates: Indexes of nodes that may have become free; None looks at all.
    """
    if turn.state.paused_at is not None or turn.state.status in ENDED:
        return
    nodes = turn.block(scope).nodes
    waiting = list(range(len(nodes)) if candidates is None else candidates)
    while waiting:
        index = waiting.pop(0)
        here = turn.state.scopes[scope]
        finished = here.finished()
        node = nodes[index]
        if finished >> index & 1 or index in here.live or not all(finished >> need & 1 for need in node.needs):
            continue
        if enter(turn, scope, node):
            waiting.extend(node.dependents)
        if turn.state.status in ENDED:
            return
    if turn.state.scopes[scope].finished() == (1 << len(nodes)) - 1:
        _finish_scope(turn, scope)


def enter(turn: Turn, scope: str, node: Node, again: Step | None = None) -> bool:
    """Enter a node: skip it, do it at once, or make it wait for an executor, a person or a moment.

    Args:
        again: The step it was, when a retried run enters it once more; it keeps its number.

    Returns:
        Whether it has finished already.
    """
    no = turn.state.next_no if again is None else again.no
    try:
        if node.condition is not None and again is None:
            met = turn.render(node.condition, scope)
            if not isinstance(met, bool):
                raise ExpressionFault(f"`if` must give true or false, not {encode(met).decode()[:80]}", "if")
            if not met:
                _skip(turn, scope, node, no)
                return True
        recorded = None if again is None else turn.env.values.inputs.get(no)
        params = turn.render(node.params, scope) if recorded is None else msgspec.json.decode(recorded)
    except ExpressionFault as fault:
        why = Fault(
            code=EXPRESSION_ERROR,
            message=f"{fault.expression}: {fault.message}",
            step=node.path,
            details={"expression": fault.expression},
        )
        fail_unentered(turn, scope, node, no, why, None)
        return False
    if node.kind in WORK:
        _dispatch(turn, scope, node, no, encode(params), recorded is not None)
        return False
    return _ENTER[node.kind](turn, scope, node, no, params)


def _skip(turn: Turn, scope: str, node: Node, no: int) -> None:
    turn.emit(ev.StepSkipped(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind))
    turn.effects.steps.append(_row(turn, node, no, "skipped", ended=True))
    turn.record(scope, node.id, Record(status="skipped"))


def _row(turn: Turn, node: Node, no: int, status: str, **more: Any) -> fx.StepRow:
    return fx.StepRow(
        no=no,
        path=node.path,
        kind=node.kind,
        status=status,
        seq=turn.state.seq,
        visit=turn.state.visit,
        **more,
    )


def _dispatch(turn: Turn, scope: str, node: Node, no: int, request: bytes, recorded: bool) -> None:
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
    }
    if recorded:
        turn.effects.redispatches.append(fx.Redispatch(**common))
    else:
        turn.effects.dispatches.append(fx.Dispatch(request=request, **common))


def _complete_at_once(turn: Turn, scope: str, node: Node, no: int, params: bytes | None, output: Any) -> bool:
    turn.emit(ev.StepCompleted(step=node.path, no=no, i=node.index, scope=scope))
    data = encode(output)
    turn.effects.steps.append(_row(turn, node, no, "completed", input=params, output=data, ended=True))
    turn.record(scope, node.id, Record(status="completed", output=data))
    return True


def _enter_set(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    return _complete_at_once(turn, scope, node, no, None, params)


def _enter_checkpoint(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    _complete_at_once(turn, scope, node, no, encode(params), None)
    turn.snapshot("checkpoint", str(params.get("name") or node.id))
    return True


def _enter_wait(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    try:
        due = _moment(params, turn.now)
    except ValueError as fault:
        why = Fault(code=BAD_INPUT, message=str(fault), step=node.path)
        fail_unentered(turn, scope, node, no, why, encode(params))
        return False
    turn.emit(ev.StepWaiting(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind, due=due))
    turn.effects.steps.append(_row(turn, node, no, "waiting", input=encode(params), due=due))
    turn.effects.timers[no] = due
    return False


def _moment(params: dict[str, Any], now: float) -> float:
    if "for" in params:
        span = params["for"]
        if isinstance(span, bool) or not isinstance(span, int | float) or not 0 <= span <= LONGEST_WAIT:
            raise ValueError(f"`for` must be a span of 0 to 366 days, not {encode(span).decode()[:80]}")
        return now + float(span)
    until = params.get("until")
    try:
        moment = dt.datetime.fromisoformat(str(until))
    except ValueError:
        raise ValueError(f"`until` must be a moment in RFC 3339, not {encode(until).decode()[:80]}") from None
    if moment.tzinfo is None:
        raise ValueError(f"`until` must name its time zone: {until}")
    if moment.timestamp() > now + LONGEST_WAIT:
        raise ValueError(f"`until` is more than a year ahead: {until}")
    return moment.timestamp()


def _enter_approval(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    replaces = turn.env.values.gates.get(no, "")
    turn.snapshot("gate", node.id)
    gate = turn.env.new_id()
    expires_after = params.get("expires_after")
    expires = None if expires_after is None else turn.now + float(expires_after)
    title = str(params.get("title") or node.id)
    payload = None if params.get("payload") is None else encode(params["payload"])
    turn.emit(
        ev.ApprovalRequested(
            step=node.path, no=no, i=node.index, scope=scope, approval=gate, title=title, expires=expires,
            replaces=replaces,
        )
    )  # fmt: skip
    digest = hashlib.sha256(
        msgspec.json.encode([turn.plan.name, node.path, turn.state.visit, params.get("payload")], order="sorted")
    ).hexdigest()
    turn.effects.gates.append(
        fx.GateRow(
            id=gate,
            no=no,
            path=node.path,
            title=title,
            body=str(params.get("body") or ""),
            payload=payload,
            policy=encode(params.get("policy") or {}),
            digest=digest,
            expires_at=expires,
            on_expiry=str(params.get("on_expiry") or "reject"),
            replaces=replaces or None,
        )
    )
    turn.effects.steps.append(_row(turn, node, no, WAITING_APPROVAL, input=encode(params), gate=gate, due=expires))
    return False


_ENTER = {
    "set": _enter_set,
    "checkpoint": _enter_checkpoint,
    "wait": _enter_wait,
    "approval": _enter_approval,
}


def fail_unentered(turn: Turn, scope: str, node: Node, no: int, fault: Fault, params: bytes | None) -> None:
    """A step fails on being entered."""
    turn.emit(ev.StepFailed(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind, fault=fault))
    turn.effects.steps.append(_row(turn, node, no, "failed", input=params, error=encode(fault), ended=True))
    fail_run(turn, fault)


def complete_live(turn: Turn, scope: str, index: int, output: bytes, attempts: int) -> None:
    """Let what follows a completed step go on; the step's own event and rows are the caller's."""
    node = turn.block(scope).nodes[index]
    turn.record(scope, node.id, Record(status="completed", output=output, attempts=attempts))
    advance(turn, scope, node.dependents)


def _finish_scope(turn: Turn, scope: str) -> None:
    output: Any = None
    if turn.plan.output is not None:
        try:
            output = turn.render(turn.plan.output, "")
        except ExpressionFault as fault:
            fail_run(turn, Fault(code=EXPRESSION_ERROR, message=f"output: {fault.expression}: {fault.message}"))
            return
    turn.emit(ev.RunCompleted())
    turn.effects.output = encode(output)
    turn.effects.timers[0] = None


def fail_run(turn: Turn, fault: Fault, code: str = "") -> None:
    """The run fails; what is still live in it is cancelled."""
    cancel_live(turn, "failed")
    turn.emit(ev.RunFailed(fault=fault, code=code or fault.code.lower()))
    turn.effects.timers[0] = None


def cancel_live(turn: Turn, stop: str) -> None:
    """Cancel every step something could still happen to.

    Args:
        stop: Why, for the executors that hold some.
    """
    for scope, index, step in turn.state.steps():
        end_step(turn, scope, index, step, CANCELLED, stop)


def end_step(turn: Turn, scope: str, index: int, step: Step, status: str, stop: str) -> None:
    """End one live step from outside; does nothing to a step that has ended.

    Args:
        status: cancelled or rolled_back. Only the former is an event of its own.
    """
    if step.status not in (READY, WAITING, WAITING_APPROVAL):
        return
    if step.gate is not None:
        turn.emit(ev.ApprovalWithdrawn(step=step.path, no=step.no, i=index, scope=scope, approval=step.gate))
        turn.effects.closed_gates.append(fx.GateClose(id=step.gate, status="withdrawn"))
    if status == CANCELLED:
        turn.emit(ev.StepCancelled(step=step.path, no=step.no, i=index, scope=scope))
    if step.status == READY:
        turn.effects.finished.append(fx.Finished(no=step.no, status=status, seq=turn.state.seq, stop=stop))
    else:
        turn.effects.changes.append(fx.StepChange(no=step.no, status=status, seq=turn.state.seq))
    if step.status == WAITING:
        turn.effects.timers[step.no] = None
