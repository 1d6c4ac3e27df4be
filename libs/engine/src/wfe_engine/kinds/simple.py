"""Kinds the core does by itself: set, checkpoint, emit, fail; and wait."""

from __future__ import annotations

import datetime as dt
from typing import Any

from wfe_engine import events as ev
from wfe_engine.advance import BAD_INPUT, OUTPUT_TOO_LARGE, complete_entering, fail_entering, too_large
from wfe_engine.plan import Node
from wfe_engine.rules import ENTER, rule
from wfe_engine.state import Fault
from wfe_engine.turn import Turn, encode

#: Longest span or farthest moment a wait may have; a year.
LONGEST_WAIT = 366 * 86_400.0


@rule(ENTER, "set")
def _set(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    if (fault := too_large(node, encode(params), "step's output", OUTPUT_TOO_LARGE)) is not None:
        fail_entering(turn, scope, node, no, fault)
        return False
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
    except ValueError as fault:
        fail_entering(turn, scope, node, no, Fault(code=BAD_INPUT, message=str(fault), step=node.path), encode(params))
        return False
    turn.emit(ev.StepWaiting(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind, due=due))
    turn.row(scope, node, no, "waiting", input=encode(params), due=due)
    turn.effects.timers[no] = due
    return False


def moment(params: dict[str, Any], now: float) -> float:
    """The moment of {for: seconds} or {until: RFC 3339}; Unix seconds.

    Raises:
        ValueError: It is none, or too far away; says so in one sentence.
    """
    if "for" in params:
        span = params["for"]
        if isinstance(span, bool) or not isinstance(span, int | float) or not 0 <= span <= LONGEST_WAIT:
            raise ValueError(f"`for` must be a span of 0 to 366 days, not {encode(span).decode()[:80]}")
        return now + float(span)
    until = params.get("until")
    try:
        when = dt.datetime.fromisoformat(str(until))
    except ValueError:
        raise ValueError(f"`until` must be a moment in RFC 3339, not {encode(until).decode()[:80]}") from None
    if when.tzinfo is None:
        raise ValueError(f"`until` must name its time zone: {until}")
    if when.timestamp() > now + LONGEST_WAIT:
        raise ValueError(f"`until` is more than a year ahead: {until}")
    return when.timestamp()
