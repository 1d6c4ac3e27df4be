"""foreach: a block for every item. loop: a block again and again until a condition says so."""

from __future__ import annotations

from typing import Any

from wfe_engine.advance import (
    MOST_EVENTS,
    complete_container,
    complete_entering,
    fail_entering,
    go_on_later,
    open_block,
    running,
    start_container,
)
from wfe_engine.kinds.failures import BLOCKS_FAILED, failed_in, gathered, take_failure
from wfe_engine.plan import Node
from wfe_engine.rules import BLOCK_FAILED, ENTER, GO_ON, rule
from wfe_engine.scopes import child_key
from wfe_engine.state import Fault, Step
from wfe_engine.turn import Turn, encode, expression_fault
from wfe_engine.unsuitable import Unsuitable, shown
from wfe_engine.unwind import fail_container
from wfe_engine.values import ExpressionFault, truth

#: Items of a foreach.
MOST_ITEMS = 1000
LOOP_LIMIT = "LOOP_LIMIT"


@rule(ENTER, "foreach")
def _enter_foreach(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    try:
        items = _items(params)
        concurrency = params["concurrency"]
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= MOST_ITEMS:
            raise Unsuitable("concurrency", f"it must be 1 to {MOST_ITEMS}, not {shown(concurrency)}")
    except Unsuitable as why:
        fail_entering(turn, scope, node, no, why.fault(node))
        return False
    if not items:
        return complete_entering(turn, scope, node, no, [], encode({"items": []}))
    given = {"items": items, "concurrency": concurrency, "on_failure": params["on_failure"]}
    start_container(turn, scope, node, no, given, of=len(items))
    return False


def _items(params: dict[str, Any]) -> list[Any]:
    if "range" in params:
        bounds = [params["range"].get(name, 1) for name in ("from", "to", "step")]
        if any(isinstance(bound, bool) or not isinstance(bound, int) for bound in bounds) or bounds[2] == 0:
            why = f"it must be whole numbers with a step that is not 0, not {shown(params['range'])}"
            raise Unsuitable("range", why)
        start, to, step = bounds
        span = range(start, to + (1 if step > 0 else -1), step)
        if len(span) > MOST_ITEMS:
            raise Unsuitable("range", f"there are {len(span)} items, more than {MOST_ITEMS}")
        return list(span)
    items = params["items"]
    if not isinstance(items, list):
        raise Unsuitable("items", f"it must be a list, not {shown(items)}")
    if len(items) > MOST_ITEMS:
        raise Unsuitable("items", f"there are {len(items)} items, more than {MOST_ITEMS}")
    return items


@rule(GO_ON, "foreach")
def _go_on_foreach(turn: Turn, scope: str, index: int) -> None:
    concurrency = turn.params(turn.live(scope, index))["concurrency"]
    while (step := running(turn, scope, index)) is not None:
        if step.next >= step.of or step.next - step.ended >= concurrency:
            break
        if len(turn.events) >= MOST_EVENTS:
            go_on_later(turn, scope, index)
            return
        open_block(turn, scope, index, 0, step.next)
    if step is None or step.ended < step.of:
        return
    keys = [child_key(scope, index, 0, n) for n in range(step.of)]
    failures = [(n, failed_in(turn, key)) for n, key in enumerate(keys)] if step.failed else []
    errors = [{"index": n, **error} for n, error in failures if error is not None]
    output = b"[" + b",".join(turn.result(key) for key in keys) + b"]"
    complete_container(turn, scope, index, output, gathered(errors, step.of, step.path))


@rule(BLOCK_FAILED, "foreach")
def _foreach_failed(turn: Turn, scope: str, index: int, block: int, round_: int, fault: Fault) -> None:
    step = turn.live(scope, index)
    policy = turn.params(step)["on_failure"]
    if policy == "stop":
        fail_container(turn, scope, index, fault)
        return
    tolerated = _tolerated(policy, step)
    if step.failed < tolerated:
        take_failure(turn, scope, index, block, round_, fault)
    else:
        message = f"{step.failed + 1} of {step.of} items failed, more than the {tolerated} that may; the last with "
        details = {"index": round_, "code": fault.code, "step": fault.step}
        why = Fault(code=BLOCKS_FAILED, message=message + fault.message, step=step.path, details=details)
        fail_container(turn, scope, index, why)


def _tolerated(policy: Any, step: Step) -> int:
    if policy == "collect":
        return step.of
    if "percent" in policy:
        return int(step.of * policy["percent"] / 100)
    return int(policy["tolerate"])


@rule(ENTER, "loop")
def _enter_loop(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    start_container(turn, scope, node, no, params)
    return False


@rule(GO_ON, "loop")
def _go_on_loop(turn: Turn, scope: str, index: int) -> None:
    step = turn.live(scope, index)
    if step.next > step.ended:
        return  # a round is under way
    node, params = turn.node(scope, index), turn.params(step)
    try:
        over = _over(turn, scope, index, node, step)
    except ExpressionFault as fault:
        fail_container(turn, scope, index, expression_fault(fault, node.path, f"loop.{node.blocks[0].role}"))
        return
    if over or (step.next - step.base >= params["max"] and params["on_max"] == "complete"):
        last = child_key(scope, index, 0, step.next - 1)
        complete_container(turn, scope, index, turn.result(last) if step.next else b"null")
    elif step.next - step.base >= params["max"]:
        message = f"it is not done after {params['max']} rounds"
        why = Fault(code=LOOP_LIMIT, message=message, step=step.path, details={"max": params["max"]})
        fail_container(turn, scope, index, why)
    else:
        open_block(turn, scope, index, 0, step.next)


def _over(turn: Turn, scope: str, index: int, node: Node, step: Step) -> bool:
    block = node.blocks[0]
    assert block.condition is not None
    if block.role == "until" and not step.next:
        return False
    # An until is asked of the round that has just ended, a while of the one that would begin.
    round_ = step.next - 1 if block.role == "until" else step.next
    met = truth(turn.render(block.condition, child_key(scope, index, 0, round_)), block.condition)
    return met if block.role == "until" else not met


@rule(BLOCK_FAILED, "loop")
def _loop_failed(turn: Turn, scope: str, index: int, block: int, round_: int, fault: Fault) -> None:
    fail_container(turn, scope, index, fault)
