"""try: a body, blocks that take its failures by code, and one that is run in any case."""

from __future__ import annotations

from typing import Any

from wfe_engine.advance import complete_container, open_block, start_container
from wfe_engine.kinds.failures import take_failure
from wfe_engine.plan import Node
from wfe_engine.rules import BLOCK_FAILED, ENTER, GO_ON, rule
from wfe_engine.scopes import child_key
from wfe_engine.state import STOPPED, Fault, Step
from wfe_engine.turn import Turn
from wfe_engine.unwind import blocks_of, end_container, fail_container


@rule(ENTER, "try")
def _enter(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    start_container(turn, scope, node, no, params)
    return False


@rule(GO_ON, "try")
def _go_on(turn: Turn, scope: str, index: int) -> None:
    step, node = turn.live(scope, index), turn.node(scope, index)
    inside = blocks_of(turn, scope, index)
    if (inside and step.fault is None) or any(turn.state.active(key) for key in inside):
        return  # what is inside comes to its own end
    finally_ = len(node.blocks) - 1 if node.blocks[-1].role == "finally" else None
    if finally_ is not None and step.last == finally_ + 1:
        _end(turn, scope, index, node, step)
    elif step.fault is None and not step.last:
        open_block(turn, scope, index, 0)
    elif step.fault is None and step.last == 1 and step.caught is not None:
        taker = _taker(node, step.caught)
        assert taker is not None
        open_block(turn, scope, index, taker)
    elif finally_ is not None and not turn.hard:
        open_block(turn, scope, index, finally_, step.ended)
    else:
        _end(turn, scope, index, node, step)


def _end(turn: Turn, scope: str, index: int, node: Node, step: Step) -> None:
    if step.fault is not None:
        end_container(turn, scope, index, step.fault)
        return
    block = 0 if step.caught is None else _taker(node, step.caught) or 0
    complete_container(turn, scope, index, turn.result(child_key(scope, index, block, 0)))


@rule(BLOCK_FAILED, "try")
def _block_failed(turn: Turn, scope: str, index: int, block: int, round_: int, fault: Fault) -> None:
    step, node = turn.live(scope, index), turn.node(scope, index)
    if node.blocks[block].role == "finally":
        end_container(turn, scope, index, fault)
    elif step.fault is not None:
        _go_on(turn, scope, index)
    elif node.blocks[block].role == "body" and fault.code != STOPPED and _taker(node, fault) is not None:
        take_failure(turn, scope, index, block, round_, fault)
    else:
        fail_container(turn, scope, index, fault)


def _taker(node: Node, fault: Fault) -> int | None:
    """Index of the catch that takes a failure."""
    for at, block in enumerate(node.blocks):
        if block.role == "catch" and (block.codes is None or any(_matches(code, fault.code) for code in block.codes)):
            return at
    return None


def _matches(pattern: str, code: str) -> bool:
    return code.startswith(pattern[:-1]) if pattern.endswith("*") else code == pattern
