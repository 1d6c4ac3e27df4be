"""parallel: every block at once. switch: the first block whose condition is met."""

from __future__ import annotations

from typing import Any

from wfe_engine.advance import (
    complete_container,
    complete_entering,
    fail_entering,
    open_block,
    running,
    start_container,
)
from wfe_engine.kinds.failures import failed_in, gathered, take_failure
from wfe_engine.plan import Node
from wfe_engine.rules import BLOCK_FAILED, ENTER, GO_ON, rule
from wfe_engine.scopes import child_key
from wfe_engine.state import Fault
from wfe_engine.turn import Turn, encode, expression_fault
from wfe_engine.unwind import fail_container
from wfe_engine.values import ExpressionFault, truth


@rule(ENTER, "parallel")
def _enter_parallel(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    start_container(turn, scope, node, no, params, of=len(node.blocks))
    return False


@rule(GO_ON, "parallel")
def _go_on_parallel(turn: Turn, scope: str, index: int) -> None:
    node = turn.node(scope, index)
    while (step := running(turn, scope, index)) is not None and step.next < step.of:
        open_block(turn, scope, index, step.next)
    if step is None or step.ended < step.of:
        return
    output, errors = {}, []
    for block, inner in enumerate(node.blocks):
        key = child_key(scope, index, block, 0)
        output[inner.name] = turn.result(key)
        error = failed_in(turn, key)
        if error is not None:
            errors.append({"branch": inner.name, **error})
    data = b"{" + b",".join(encode(name) + b":" + value for name, value in output.items()) + b"}"
    complete_container(turn, scope, index, data, gathered(errors, step.of, step.path))


@rule(BLOCK_FAILED, "parallel")
def _parallel_failed(turn: Turn, scope: str, index: int, block: int, round_: int, fault: Fault) -> None:
    if turn.params(turn.live(scope, index))["on_failure"] == "collect":
        take_failure(turn, scope, index, block, round_, fault)
    else:
        fail_container(turn, scope, index, fault)


@rule(ENTER, "switch")
def _enter_switch(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    try:
        chosen = _chosen(turn, scope, node)
    except ExpressionFault as fault:
        fail_entering(turn, scope, node, no, expression_fault(fault, node.path, "switch.cases"))
        return False
    if chosen is None:
        return complete_entering(turn, scope, node, no, None, encode({"case": None}))
    start_container(turn, scope, node, no, {"case": node.blocks[chosen].name, "block": chosen}, of=1)
    return False


def _chosen(turn: Turn, scope: str, node: Node) -> int | None:
    for at, block in enumerate(node.blocks):
        if block.condition is None:
            return at
        try:
            if truth(turn.render(block.condition, scope), block.condition):
                return at
        except ExpressionFault as fault:
            fault.place = (at, *fault.place)
            raise
    return None


@rule(GO_ON, "switch")
def _go_on_switch(turn: Turn, scope: str, index: int) -> None:
    step = turn.live(scope, index)
    block = turn.params(step)["block"]
    if not step.next:
        open_block(turn, scope, index, block)
    elif step.ended:
        complete_container(turn, scope, index, turn.result(child_key(scope, index, block, 0)))


@rule(BLOCK_FAILED, "switch")
def _switch_failed(turn: Turn, scope: str, index: int, block: int, round_: int, fault: Fault) -> None:
    fail_container(turn, scope, index, fault)
