"""Kinds the core does by itself: set, checkpoint, emit, fail; and wait."""

from __future__ import annotations

import datetime as dt
from typing import Any

from wfe_engine import events as ev
from wfe_engine.advance import complete_entering, fail_entering
from wfe_engine.plan import Node
from wfe_engine.rules import ENTER, rule
from wfe_engine.state import Fault
from wfe_engine.turn import Turn, encode
from wfe_engine.unsuitable import Unsuitable, shown

#: Longest span or farthest moment a wait may have; a year.
LONGEST_WAIT = 366 * 86_400.0


@rule(ENTER, "set")
def _set(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    return complete_entering(turn, scope, node, no, params)


@rule(ENTER, "checkpoint")
def _checkpoint(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    complete_entering(turn, scope, node, no, None, encode(params))
    turn.snapshot("checkpoint", str(params.get("name") or node.id))
    return True


@rule(ENTER, "emit")
def _emit(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    name = str(params["name"])
    turn.emit(ev.Emitted(step=node.path, no=no, i=node.index, scope=scope, name=name, data=params.get("data")))
    return complete_entering(turn, scope, node, no, None, encode(params))


@rule(ENTER, "fail")
def _fail(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    message = params["message"]
    text = message if isinstance(message, str) else encode(message).decode()
    fault = Fault(code=str(params["code"]), message=text[:2000], step=node.path)
    fail_entering(turn, scope, node, no, fault, encode(params))
    return False


@rule(ENTER, "wait")
def _wait(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    try:
        due = moment(params, turn.now)
    except Unsuitable as why:
        fail_entering(turn, scope, node, no, why.fault(node), encode(params))
        return False
    turn.emit(ev.StepWaiting(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind, due=due))
    turn.row(scope, node, no, "waiting", input=encode(params), due=due)
    turn.effects.timers[no] = due
    return False


def moment(params: dict[str, Any], now: float) -> float:
    """The moment of {for: seconds} or {until: RFC 3339}; Unix seconds.

    Raises:
        Unsuitable: It is none, or too far away.
    """
    if "for" in params:
        span = params["for"]
        if isinstance(span, bool) or not isinstance(span, int | float) or not 0 <= span <= LONGEST_WAIT:
            raise Unsuitable("for", f"it must be a span of 0 to 366 days, in seconds, not {shown(span)}")
        return now + float(span)
    until = params.get("until")
    try:
        when = dt.datetime.fromisoformat(str(until))
    except ValueError:
        raise Unsuitable("until", f"it must be a moment in RFC 3339, not {shown(until)}") from None
    if when.tzinfo is None:
        raise Unsuitable("until", f"it must name its time zone, not {shown(until)}")
    if when.timestamp() > now + LONGEST_WAIT:
        raise Unsuitable("until", f"it must be at most a year ahead, not {shown(until)}")
    return when.timestamp()
