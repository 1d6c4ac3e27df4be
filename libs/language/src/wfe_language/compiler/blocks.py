"""Reads blocks of steps inside of steps: what every kind that holds some has in common."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from typing import Any, Protocol

from msgspec.structs import replace as with_fields
from wfe_engine import plan

from wfe_language.compiler.reading import Reading
from wfe_language.compiler.values import Scope, Values
from wfe_language.faults import Where

#: Branches of a parallel, cases of a switch, catches of a try.
MOST_BLOCKS = 100

_STEPS_MEND = "Write a list of steps, each beginning with `- id:`, or {steps: [...], output: ...}."
_EMPTY = plan.Block((), ())


class Blocks(Protocol):
    """Reads blocks of steps; the reader of the whole template is one."""

    reading: Reading
    values: Values

    def inner(self, value: Any, where: Where, scope: Scope, prefix: str) -> tuple[plan.Block, Scope]:
        """A list of steps inside of a step, and what is seen once all of them have ended.

        Args:
            scope: What they can see.
            prefix: Of their paths.
        """


Structure = tuple[plan.Expression, tuple[plan.Block, ...]]
ReadStructure = Callable[[Blocks, Any, Where, Scope, str], Structure]


class Either:
    """Ids that have ended: of the blocks around, and all of one block."""

    def __init__(self, outer: Container[str], inner: frozenset[str]) -> None:
        self.outer, self.inner = outer, inner

    def __contains__(self, id_: object) -> bool:
        return id_ in self.inner or id_ in self.outer


def read_block(
    blocks: Blocks, value: Any, where: Where, scope: Scope, prefix: str, *, name: str, role: str = "body"
) -> plan.Block:
    """A list of steps, or {steps, output}; without an output the last step's is the block's."""
    if not isinstance(value, list):
        given = blocks.reading.object(value, where, ("steps", "output"), mend=_STEPS_MEND)
        if isinstance(value, dict) and "steps" not in given:
            blocks.reading.key_fault(where, "The key steps is missing.", "Add `steps:`.")
        return read_body(blocks, given, where, scope, prefix, name=name, role=role)
    block, _ = blocks.inner(value, where, _inside(scope), prefix)
    return with_fields(block, name=name, role=role)


def read_body(
    blocks: Blocks,
    given: dict[str, Any],
    where: Where,
    scope: Scope,
    prefix: str,
    *,
    name: str = "",
    role: str = "body",
) -> plan.Block:
    """The block of `steps` and `output` among the keys of an object; that steps must be there is checked already."""
    return read_body_and_end(blocks, given, where, scope, prefix, name=name, role=role)[0]


def read_body_and_end(
    blocks: Blocks,
    given: dict[str, Any],
    where: Where,
    scope: Scope,
    prefix: str,
    *,
    name: str = "",
    role: str = "body",
) -> tuple[plan.Block, Scope]:
    """The same, and what is seen once all of its steps have ended."""
    inside = _inside(scope)
    if "steps" not in given:
        return with_fields(_EMPTY, name=name, role=role), inside
    block, ended = blocks.inner(given["steps"], (*where, "steps"), inside, prefix)
    block = with_fields(block, name=name, role=role)
    if "output" in given:
        output = blocks.values.value(given["output"], (*where, "output"), ended.at("in an output"))
        block = _with_output(block, output, prefix)
    return block, ended


def _inside(scope: Scope) -> Scope:
    """What the blocks of a step can see."""
    return replace(scope, step="", within=(*scope.within, scope.step) if scope.step else scope.within)


def _with_output(block: plan.Block, output: plan.Expression, prefix: str) -> plan.Block:
    """The block with one more step, after all others, that gives its output."""
    count = len(block.nodes)
    last = plan.Node(
        id="output", index=count, path=f"{prefix}output", kind="set", params=output, needs=tuple(range(count)),
        retry=plan.Retry(),
    )  # fmt: skip
    nodes = tuple(with_fields(node, dependents=(*node.dependents, count)) for node in block.nodes)
    return with_fields(block, nodes=(*nodes, last), result=count)
