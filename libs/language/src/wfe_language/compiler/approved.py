"""What of gates can only be seen once the steps around them are read: what they approve, what they send back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace
from wfe_engine import plan

from wfe_language.compiler.graph import Order
from wfe_language.compiler.reading import Reading
from wfe_language.faults import Where

#: Methods that change nothing on the other side.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def revises(step: Any) -> bool:
    """Whether a step, as written, is a gate that can send others back."""
    return isinstance(step, dict) and isinstance(step.get("approval"), dict) and "revise" in step["approval"]


def check_revisions(reading: Reading, steps: list[Any], where: Where, arranged: Order) -> None:
    """A fault for two gates that could send back at the same time: nobody knew which reason is meant."""
    found = [at for at, step in enumerate(steps) if revises(step)]
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            ordered = arranged.before[other] >> one & 1 or arranged.before[one] >> other & 1
            if not arranged.cycle and not ordered:
                place = (*where, other, "approval", "revise")
                reading.key_fault(
                    place, "Another gate that revises is open at the same time.", "Let one of them need the other."
                )


def bind(reading: Reading, steps: list[Any], where: Where, nodes: list[plan.Node], ids: list[str]) -> list[plan.Node]:
    """The nodes of a block with `approved_by` as it is written; faults for what cannot be approved so."""
    position = {id_: at for at, id_ in enumerate(ids) if id_}
    taken: dict[int, str] = {}
    for at, step in enumerate(steps):
        if not isinstance(step, dict) or "approved_by" not in step:
            continue
        inner = (*where, at, "approved_by")
        gate = position.get(step["approved_by"]) if isinstance(step["approved_by"], str) else None
        if nodes[at].kind not in plan.WORK:
            reading.key_fault(inner, "Only a step that an executor runs is approved so.", "Remove approved_by.")
        elif gate is None or nodes[gate].kind != "approval":
            reading.fault(inner, "This is no gate of the same list.", "Name the id of an approval step above.")
        elif gate in taken:
            reading.fault(inner, f"The gate approves {taken[gate]} already.", "Give each step a gate of its own.")
        elif isinstance(steps[gate].get("approval"), dict) and "payload" in steps[gate]["approval"]:
            place = (*where, gate, "approval", "payload")
            reading.key_fault(
                place, f"What is shown is what {ids[at]} will do.", "Remove payload, or approved_by of the step."
            )
        else:
            taken[gate] = ids[at]
            nodes[at] = replace(nodes[at], approved_by=gate)
    return nodes


def check_expiries(reading: Reading, root: plan.Block) -> None:
    """A fault for a gate that approves by itself when something follows that cannot be undone, before another gate."""
    _check_block(reading, root, ("steps",), ())


def _check_block(reading: Reading, block: plan.Block, where: Where, outer: tuple[tuple[plan.Block, int], ...]) -> None:
    for node in block.nodes:
        on_expiry = _literal(node.params, "on_expiry") if node.kind == "approval" else None
        if on_expiry == "approve":
            dangerous = _dangerous(block, node.index) or next(
                (found for around, at in reversed(outer) if (found := _dangerous(around, at))), None
            )
            if dangerous is not None:
                reading.fault(
                    _place(where, node),
                    f"The gate {node.path} approves by itself, and {dangerous} after it cannot be undone.",
                    "Use then: reject, fail or branch.",
                )
        for inner in node.blocks:
            _check_block(reading, inner, where, (*outer, (block, node.index)))


def _place(where: Where, node: plan.Node) -> Where:
    return (*where, node.index, "approval", "expires") if "/" not in node.path else where


def _dangerous(block: plan.Block, at: int) -> str | None:
    """Path of a step after one, with no gate between, that changes the world."""
    seen: set[int] = set()
    waiting = list(block.nodes[at].dependents)
    while waiting:
        index = waiting.pop(0)
        if index in seen:
            continue
        seen.add(index)
        node = block.nodes[index]
        if node.kind == "approval":
            continue
        found = next((inner.path for inner in _all(node) if is_effect(inner)), None)
        if found is not None:
            return found
        waiting += node.dependents
    return None


def _all(node: plan.Node) -> Iterator[plan.Node]:
    yield node
    for block in node.blocks:
        for inner in block.nodes:
            yield from _all(inner)


def is_effect(node: plan.Node) -> bool:
    """Whether a step surely changes something outside that the engine cannot take back."""
    method = _literal(node.params, "method") if node.kind == "http" else None
    return node.kind == "http" and isinstance(method, str) and method not in _SAFE


def _literal(params: plan.Expression, key: str) -> Any:
    if isinstance(params, plan.Literal):
        return params.value.get(key) if isinstance(params.value, dict) else None
    if isinstance(params, plan.MapOf):
        found = dict(params.items).get(key)
        return found.value if isinstance(found, plan.Literal) else None
    return None
