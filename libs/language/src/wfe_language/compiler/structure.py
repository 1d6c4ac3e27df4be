"""Reads the kinds that hold blocks of steps: parallel, switch, foreach, loop, try."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as with_fields
from wfe_engine import plan

from wfe_language.compiler.blocks import (
    MOST_BLOCKS,
    Blocks,
    ReadStructure,
    Structure,
    read_block,
    read_body,
    read_body_and_end,
)
from wfe_language.compiler.choosing import read_switch, read_try
from wfe_language.compiler.reading import Missing, Reading
from wfe_language.compiler.values import Scope, Values, map_of
from wfe_language.faults import Where, choices
from wfe_language.loader import LARGEST_INTEGER

#: Rounds of a loop.
MOST_ROUNDS = 10_000
#: Items of a foreach, and how many of them at once.
MOST_ITEMS = MOST_CONCURRENCY = 1000

_BRANCH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", re.ASCII)


def read_parallel(blocks: Blocks, value: Any, where: Where, scope: Scope, path: str) -> Structure:
    """Branches by name, all at once."""
    reading = blocks.reading
    mend = "Write {branches: {left: [...], right: [...]}}."
    given = reading.object(value, where, ("branches", "on_failure"), required=("branches",), mend=mend)
    branches = given.get("branches", {})
    if not isinstance(branches, dict):
        reading.object(branches, (*where, "branches"), (), mend=mend)
        branches = {}
    elif "branches" in given and not 1 <= len(branches) <= MOST_BLOCKS:
        reading.fault((*where, "branches"), f"There are {len(branches)} branches.", f"Write 1 to {MOST_BLOCKS}.")
    found = []
    for name, branch in list(branches.items())[:MOST_BLOCKS]:
        inner = (*where, "branches", name)
        reading.name(name, inner, "The branch", _BRANCH, "Use letters, digits, _ and -, beginning with a letter.")
        found.append(read_block(blocks, branch, inner, scope, f"{path}/{name}/", name=name))
    policy = _on_failure(reading, given, where, ("stop", "collect"))
    return plan.Literal({"on_failure": policy}), tuple(found)


def read_foreach(blocks: Blocks, value: Any, where: Where, scope: Scope, path: str) -> Structure:
    """A block for every item of a list or a range."""
    reading, values = blocks.reading, blocks.values
    keys = ("items", "range", "concurrency", "on_failure", "steps", "output")
    mend = 'Write {items: "${{ vars.list }}", steps: [...]}.'
    given = reading.object(value, where, keys, required=("steps",), mend=mend)
    here = scope.at("in a foreach")
    params: dict[str, plan.Expression] = {}
    if isinstance(value, dict) and ("items" in given) == ("range" in given):
        reading.key_fault(where, "A foreach has exactly one of items and range.", mend)
    elif "items" in given:
        params["items"] = _items(reading, values, given["items"], (*where, "items"), here)
    elif "range" in given:
        params["range"] = _range(reading, values, given["range"], (*where, "range"), here)
    params["concurrency"] = _concurrency(reading, values, given.get("concurrency", 10), (*where, "concurrency"), here)
    params["on_failure"] = plan.Literal(_on_failure(reading, given, where, ("stop", "collect"), tolerate=True))
    inside = replace(scope, locals=scope.locals | {"item", "index"})
    return map_of(params), (read_body(blocks, given, where, inside, f"{path}/"),)


def _items(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    mend = 'Write a list, or one expression that gives a list: "${{ vars.list }}".'
    if isinstance(value, str):
        return _one(values, value, where, scope, ("LIST",), mend)
    if len(reading.list(value, where, mend)) > MOST_ITEMS:
        reading.fault(where, f"There are {len(value)} items, more than {MOST_ITEMS}.", "Split the list.")
    return values.value(value, where, scope)


def _range(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    mend = "Write {from: 1, to: 10}; both ends are in it."
    given = reading.object(value, where, ("from", "to", "step"), required=("to",), mend=mend)
    before = len(reading.faults)
    bounds: dict[str, plan.Expression] = {}
    for key, bound in given.items():
        inner = (*where, key)
        if isinstance(bound, str) and "${{" in bound:
            bounds[key] = _one(values, bound, inner, scope, ("INT", "UINT"), "Give a whole number.")
        elif key == "step" and bound == 0 and isinstance(bound, int):
            reading.fault(inner, "A step of 0 never comes to an end.", "Use 1, or -1 to count down.")
        else:
            number = reading.integer(bound, inner, -LARGEST_INTEGER, LARGEST_INTEGER)
            bounds[key] = plan.Literal(1 if isinstance(number, Missing) else number)
    fixed = [bound.value for bound in bounds.values() if isinstance(bound, plan.Literal)]
    if given.get("to") is not None and len(fixed) == len(given) and len(reading.faults) == before:
        start, to, step = given.get("from", 1), given["to"], given.get("step", 1)
        count = len(range(start, to + (1 if step > 0 else -1), step))
        if not 1 <= count <= MOST_ITEMS:
            reading.fault(where, f"The range has {count} items.", f"Give it 1 to {MOST_ITEMS}; step: -1 counts down.")
    return map_of(bounds)


def _concurrency(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    if isinstance(value, str) and "${{" in value:
        return _one(values, value, where, scope, ("INT", "UINT"), f"Give 1 to {MOST_CONCURRENCY}.")
    number = reading.integer(value, where, 1, MOST_CONCURRENCY)
    return plan.Literal(1 if isinstance(number, Missing) else number)


def _one(values: Values, value: str, where: Where, scope: Scope, types: tuple[str, ...], mend: str) -> plan.Expression:
    """Text that is exactly one expression, which gives one of some CEL types."""
    before = len(values.reading.faults)
    compiled = values.value(value, where, scope)
    if len(values.reading.faults) > before:
        return compiled
    if isinstance(compiled, plan.Text | plan.Literal):
        said = "text with expressions in it" if isinstance(compiled, plan.Text) else "plain text"
        values.reading.fault(where, f"Here stands {said}.", mend)
    else:
        values.expect(compiled, where, scope, types, mend)
    return compiled


def read_loop(blocks: Blocks, value: Any, where: Where, scope: Scope, path: str) -> Structure:
    """A block again and again, while or until a condition holds, at most so often."""
    reading = blocks.reading
    keys = ("while", "until", "max", "on_max", "steps", "output")
    mend = 'Write {until: "${{ ... }}", max: 10, steps: [...]}.'
    given = reading.object(value, where, keys, required=("steps", "max"), mend=mend)
    most = reading.optional(given, where, "max", lambda v, w: reading.integer(v, w, 1, MOST_ROUNDS))
    on_max = reading.optional(given, where, "on_max", lambda v, w: reading.choice(v, w, ("fail", "complete")))
    inside = replace(scope, locals=scope.locals | {"index"}, loops=scope.loops | {scope.step})
    block, ended = read_body_and_end(blocks, given, where, inside, f"{path}/")
    role = "until" if "until" in given else "while"
    condition: plan.Expression | None = None
    if isinstance(value, dict) and ("while" in given) == ("until" in given):
        reading.key_fault(where, "A loop has exactly one of while and until.", mend)
    elif role in given:
        # An until is asked after a round and sees its steps; a while is asked before.
        seen = ended if role == "until" else replace(inside, step="")
        place = seen.at("in an until" if role == "until" else "in a while")
        condition = blocks.values.condition(given[role], (*where, role), place)
    params = {
        "max": 1 if isinstance(most, Missing) else most,
        "on_max": "fail" if isinstance(on_max, Missing) else on_max,
    }
    return plan.Literal(params), (with_fields(block, role=role, condition=condition),)


def _on_failure(
    reading: Reading, given: dict[str, Any], where: Where, words: tuple[str, ...], *, tolerate: bool = False
) -> Any:
    value, inner = given.get("on_failure", "stop"), (*where, "on_failure")
    if tolerate and isinstance(value, dict):
        mend = "Write {tolerate: 3} or {tolerate: 10%}."
        entry = reading.object(value, inner, ("tolerate",), required=("tolerate",), mend=mend)
        if "tolerate" not in entry:
            return "stop"
        most = entry["tolerate"]
        if isinstance(most, str) and re.fullmatch(r"(?:[0-9]{1,2}|100)%", most):
            return {"percent": int(most[:-1])}
        if isinstance(most, str):
            reading.fault((*inner, "tolerate"), f"{most[:20]!r} is not a number or a percentage.", mend)
            return "stop"
        number = reading.integer(most, (*inner, "tolerate"), 0, MOST_ITEMS)
        return {"tolerate": 0 if isinstance(number, Missing) else number}
    if not isinstance(value, str) or value not in words:
        more = " or {tolerate: 10%}" if tolerate else ""
        reading.fault(inner, f"on_failure is not one of {choices(words)}{more}.", f"Use {choices(words)}{more}.")
        return "stop"
    return value


#: Kinds that hold blocks.
STRUCTURES: dict[str, ReadStructure] = {
    "parallel": read_parallel,
    "switch": read_switch,
    "foreach": read_foreach,
    "loop": read_loop,
    "try": read_try,
}

assert set(STRUCTURES) == plan.CONTAINERS - {"agent"}
