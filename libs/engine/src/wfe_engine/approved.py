"""What later steps have of a gate: the request that was approved, and why it was sent back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from wfe_engine.digests import approval_digest
from wfe_engine.plan import Block, Node
from wfe_engine.scopes import place
from wfe_engine.state import Fault

if TYPE_CHECKING:
    from wfe_engine.turn import Turn

APPROVAL_MISMATCH = "APPROVAL_MISMATCH"
#: `revision` before anything was sent back.
_NO_REVISION: dict[str, Any] = {"reason": "", "round": 0, "by": None, "payload": None, "approval": ""}


def approved_step(block: Block, gate: Node) -> Node | None:
    """The step whose request a gate approves; None when it guards none in particular."""
    return next((node for node in block.nodes if node.approved_by == gate.index), None)


def approved_request(turn: Turn, scope: str, node: Node) -> bytes | Fault | None:
    """The request a step was approved to make: JSON bytes.

    None when it was not approved and is to be skipped; a fault when the approval is not for this step as it is now.
    """
    given = _decision(turn, scope, node)
    if given is None or given.get("decision") != "approve":
        return None
    run = str(turn.env.values.run.get("id", ""))
    digest = approval_digest(run, node.path, turn.iteration(scope), node.kind, given.get("payload"))
    if digest == given.get("digest") and given.get("rollbacks", 0) == turn.state.rollbacks:
        return msgspec.json.encode(given.get("payload"))
    return Fault(
        code=APPROVAL_MISMATCH,
        message="the approval was given for another run, or before the run went back; roll back to the gate",
        step=node.path,
        details={"approval": given.get("approval", "")},
    )


def approval_of(turn: Turn, scope: str, node: Node) -> tuple[str, str]:
    """Id of the approval a step runs under, and the digest of what was approved."""
    given = _decision(turn, scope, node) or {}
    return str(given.get("approval", "")), str(given.get("digest", ""))


def _decision(turn: Turn, scope: str, node: Node) -> dict[str, Any] | None:
    record = turn.recorded(scope, turn.node(scope, node.approved_by).id)
    return record.value if record is not None and isinstance(record.value, dict) else None


def to_do_again(block: Block, gate: Node, first: str) -> tuple[int, ...]:
    """Indexes of the steps that lead from a step to a gate: that step, and what stands between them."""
    start = next(node.index for node in block.nodes if node.id == first)
    after, before = {start}, {gate.index}
    for node in _in_order(block):
        if after & set(node.needs):
            after.add(node.index)
    for node in reversed(_in_order(block)):
        if node.index in before:
            before.update(node.needs)
    return tuple(sorted((after & before) - {gate.index}))


def _in_order(block: Block) -> list[Node]:
    """The nodes so that each comes after those it needs."""
    ordered: list[Node] = []
    placed: set[int] = set()
    waiting = list(block.nodes)
    while waiting:
        free = [node for node in waiting if placed.issuperset(node.needs)]
        ordered += free
        placed.update(node.index for node in free)
        waiting = [node for node in waiting if node.index not in placed]
    return ordered


def revision(turn: Turn, scope: str) -> dict[str, Any]:
    """What expressions see as `revision`: why the nearest gate around sent its steps back, the last time it did."""
    while True:
        newest: dict[str, Any] | None = None
        for node in turn.block(scope).nodes:
            if node.kind != "approval":
                continue
            record = turn.recorded(scope, node.id)
            given = None if record is None else record.value
            if isinstance(given, dict) and given.get("decision") == "revise":
                newest = given if newest is None or given["visit"] > newest["visit"] else newest
        if newest is not None:
            return {
                "reason": newest["comment"],
                "round": newest["round"],
                "by": newest["decided_by"],
                "payload": newest.get("payload"),
                "approval": newest["approval"],
            }
        if not scope:
            return _NO_REVISION
        scope = place(scope)[0]
