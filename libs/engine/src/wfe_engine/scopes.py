"""Keys of scopes: which block of which step is being run, in which round.

The root scope has the key "". The key of a block inside a step is the key of the scope the step is in, a dot, and
`step/block/round`: the index of the step in its block, the index of the block in the step, and the round, which is 0
but for steps that run a block again and again.
"""

from __future__ import annotations

from wfe_engine.plan import Block, Plan

ROOT = ""
#: Where compensations are run, one after the other.
UNDO = "~"


def child_key(scope: str, index: int, block: int, round_: int) -> str:
    """Key of a block of the step `index` of a scope."""
    return f"{scope}.{index}/{block}/{round_}" if scope else f"{index}/{block}/{round_}"


def parent_key(scope: str) -> str:
    """Key of the scope a scope's step is in."""
    return scope.rpartition(".")[0]


def place(scope: str) -> tuple[str, int, int, int]:
    """The parts of a key: (scope of the step, index of the step, index of the block, round)."""
    parent, _, last = scope.rpartition(".")
    index, block, round_ = last.split("/")
    return parent, int(index), int(block), int(round_)


def step_prefix(scope: str, index: int) -> str:
    """What the keys of all blocks of a step begin with, and of what is inside of those."""
    return f"{scope}.{index}/" if scope else f"{index}/"


def depth(scope: str) -> int:
    """How many steps a scope is inside of."""
    return scope.count(".") + 1 if scope else 0  # what compensates comes before the root


def block_at(plan: Plan, scope: str) -> Block:
    """The block a scope runs."""
    if scope == ROOT:
        return plan.root
    parent, index, block, _ = place(scope)
    return block_at(plan, parent).nodes[index].blocks[block]
