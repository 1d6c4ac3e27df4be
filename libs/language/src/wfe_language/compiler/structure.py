"""Reads the kinds that hold blocks of steps: parallel, switch, foreach, loop, try."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from msgspec.structs import replace as with_fields
from wfe_engine import plan

from wfe_language.compiler.reading import Missing, Reading
from wfe_language.compiler.values import Scope, Values, map_of
from wfe_language.faults import Where, choices

#: Branches of a parallel, cases of a switch, catches of a try.
MOST_BLOCKS = 100
MOST_ROUNDS = 10_000
MOST_CONCURRENCY = 1000

_BRANCH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", re.ASCII)
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,62}\*?|\*", re.ASCII)
_STEPS_MEND = "Write a list of steps, each beginning with `- id:`."


class Blocks(Protocol):
    """Reads blocks of steps; the reader of the whole template is one."""

    reading: Reading
    values: Values

    def inner(self, value: Any, where: Where, scope: Scope, prefix: str) -> tuple[plan.Block, frozenset[str]]:
        """A list of steps inside of a step, and their ids.

        Args:
            scope: What they can see.
            prefix: Of their paths.
        """


Structure = tuple[plan.Expression, tuple[plan.Block, ...]]
ReadStructure = Callable[[Blocks, Any, Where, Scope, str], Structure]


def read_parallel(blocks: Blocks, value: Any, where: Where, scope: Scope, path: str) -> Structure:
    """Branches by name, all at once."""
    reading = blocks.reading
    mend = "Write {branches: {left: [...], right: [...]}}."
    given = reading.object(value, where, ("branches", "on_failure"), required=("branches",), mend=mend)
    branches = given.get("branches", {})
    if not isinstance(branches, dict):
        reading.object(branches, (*where, "branches"), (), mend=mend)
        branches = {}
    elif not 1 <= len(branches) <= MOST_BLOCKS:
        reading.fault((*where, "branches"), f"There are {len(branches)} branches.", f"Write 1 to {MOST_BLOCKS}.")
    found = []
    for name, branch in list(branches.items())[:MOST_BLOCKS]:
        inner = (*where, "branches", name)
        reading.name(name, inner, "The branch", _BRANCH, "Use letters, digits, _ and -, beginning with a letter.")
        found.append(_block(blocks, branch, inner, scope, f"{path}/{name}/", name=name))
    policy = _on_failure(reading, given, where, ("stop", "collect"))
    return plan.Literal({"on_failure": policy}), tuple(found)


def read_switch(blocks: Blocks, value: Any, where: Where, scope: Scope, path: str) -> Structure:
    """Cases in order; the first that is met is run."""
    reading = blocks.reading
    mend = 'Write {cases: [{if: "${{ ... }}", steps: [...]}], else: [...]}.'
    given = reading.object(value, where, ("value", "cases", "else"), required=("cases",), mend=mend)
    subject = given.get("value")
    if "value" in given:
        blocks.values.value(subject, (*where, "value"), scope.at("in a switch"))
        if not (isinstance(subject, str) and re.fullmatch(r"\$\{\{.*\}\}", subject.strip(), re.DOTALL)):
            reading.fault((*where, "value"), "The value of a switch is one expression.", 'Write "${{ vars.kind }}".')
            subject = None
    cases = reading.list(given.get("cases", []), (*where, "cases"), mend) if "cases" in given else []
    if "cases" in given and not 1 <= len(cases) <= MOST_BLOCKS:
        reading.fault((*where, "cases"), f"There are {len(cases)} cases.", f"Write 1 to {MOST_BLOCKS}.")
    found = []
    for at, case in enumerate(cases[:MOST_BLOCKS]):
        inner = (*where, "cases", at)
        entry = reading.object(case, inner, ("if", "is", "steps", "output"), required=("steps",), mend=mend)
        condition = _case(blocks, entry, inner, scope, subject)
        body = {key: entry[key] for key in ("steps", "output") if key in entry}
        block = _block(blocks, body, inner, scope, f"{path}/{at + 1}/", name=str(at + 1), role="case")
        found.append(with_fields(block, condition=condition))
    if "else" in given:
        found.append(_block(blocks, given["else"], (*where, "else"), scope, f"{path}/else/", name="else", role="else"))
    return plan.Literal({}), tuple(found)


def _case(
    blocks: Blocks, entry: dict[str, Any], where: Where, scope: Scope, subject: str | None
) -> plan.Expression | None:
    reading = blocks.reading
    if not entry:
        return None
    if ("if" in entry) == ("is" in entry):
        reading.key_fault(where, "A case has exactly one of if and is.", 'Write if: "${{ ... }}", or is: with value:.')
        return None
    if "if" in entry:
        return blocks.values.condition(entry["if"], (*where, "if"), scope.at("in a case"))
    inner = (*where, "is")
    wanted = entry["is"] if isinstance(entry["is"], list) else [entry["is"]]
    if not wanted or any(not isinstance(item, str | int | float | bool | None) for item in wanted):
        reading.fault(inner, "A case is compared to plain values.", "Write is: urgent or is: [a, b].")
        return None
    if subject is None:
        reading.fault(inner, "There is no value to compare with.", 'Add value: "${{ ... }}" beside cases.')
        return None
    source = subject.strip()[3:-2].strip()
    literals = ", ".join(json.dumps(item) for item in wanted)
    return blocks.values.condition(f"${{{{ ({source}) in [{literals}] }}}}", inner, scope.at("in a case"))


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
        params["items"] = values.value(given["items"], (*where, "items"), here)
        if isinstance(given["items"], list | str):
            values.expect(params["items"], (*where, "items"), here, ("LIST",), "Give a list.")
        else:
            reading.list(given["items"], (*where, "items"), "Write a list or an expression that gives one.")
    elif "range" in given:
        params["range"] = _range(reading, values, given["range"], (*where, "range"), here)
    params["concurrency"] = _concurrency(reading, values, given.get("concurrency", 10), (*where, "concurrency"), here)
    params["on_failure"] = plan.Literal(_on_failure(reading, given, where, ("stop", "collect"), tolerate=True))
    body = {key: given[key] for key in ("steps", "output") if key in given}
    inside = replace(scope, locals=scope.locals | {"item", "index"})
    return map_of(params), (_block(blocks, body, where, inside, f"{path}/"),)


def _range(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    mend = "Write {from: 1, to: 10}; both ends are in it."
    given = reading.object(value, where, ("from", "to", "step"), required=("to",), mend=mend)
    bounds: dict[str, plan.Expression] = {}
    for key, bound in given.items():
        inner = (*where, key)
        if isinstance(bound, str) and "${{" in bound:
            bounds[key] = values.value(bound, inner, scope)
            values.expect(bounds[key], inner, scope, ("INT", "UINT"), "Give a whole number.")
        else:
            number = reading.integer(bound, inner, -(2**53) + 1, 2**53 - 1)
            bounds[key] = plan.Literal(1 if isinstance(number, Missing) else number)
    return map_of(bounds)


def _concurrency(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    if isinstance(value, str) and "${{" in value:
        compiled = values.value(value, where, scope)
        values.expect(compiled, where, scope, ("INT", "UINT"), f"Give 1 to {MOST_CONCURRENCY}.")
        return compiled
    number = reading.integer(value, where, 1, MOST_CONCURRENCY)
    return plan.Literal(1 if isinstance(number, Missing) else number)


def read_loop(blocks: Blocks, value: Any, where: Where, scope: Scope, path: str) -> Structure:
    """A block again and again, while or until a condition holds, at most so often."""
    reading = blocks.reading
    keys = ("while", "until", "max", "on_max", "steps", "output")
    mend = 'Write {until: "${{ ... }}", max: 10, steps: [...]}.'
    given = reading.object(value, where, keys, required=("steps", "max"), mend=mend)
    most = reading.optional(given, where, "max", lambda v, w: reading.integer(v, w, 1, MOST_ROUNDS))
    on_max = reading.optional(given, where, "on_max", lambda v, w: reading.choice(v, w, ("fail", "complete")))
    body = {key: given[key] for key in ("steps", "output") if key in given}
    inside = replace(scope, locals=scope.locals | {"index"}, loops=scope.loops | {scope.step}, step="")
    block, seen = _read_block(blocks, body, where, inside, f"{path}/")
    role = "until" if "until" in given else "while"
    condition: plan.Expression | None = None
    if isinstance(value, dict) and ("while" in given) == ("until" in given):
        reading.key_fault(where, "A loop has exactly one of while and until.", mend)
    elif role in given:
        # An until is asked after a round and sees its steps; a while is asked before.
        there = replace(inside, steps=inside.steps | seen, before=Either(inside.before, seen))
        place = (there if role == "until" else inside).at(f"in {'an until' if role == 'until' else 'a while'}")
        condition = blocks.values.condition(given[role], (*where, role), place)
    params = {
        "max": 1 if isinstance(most, Missing) else most,
        "on_max": "fail" if isinstance(on_max, Missing) else on_max,
    }
    return plan.Literal(params), (with_fields(block, role=role, condition=condition),)


class Either:
    """Ids that have ended: those of the blocks around, and some more."""

    def __init__(self, outer: Any, inner: frozenset[str]) -> None:
        self.outer, self.inner = outer, inner

    def __contains__(self, id_: object) -> bool:
        return id_ in self.inner or id_ in self.outer


def read_try(blocks: Blocks, value: Any, where: Where, scope: Scope, path: str) -> Structure:
    """A body, what takes its failures, and what is run in any case."""
    reading = blocks.reading
    mend = "Write {steps: [...], catch: [{codes: [HTTP_STATUS], steps: [...]}], finally: [...]}."
    given = reading.object(value, where, ("steps", "output", "catch", "finally"), required=("steps",), mend=mend)
    if isinstance(value, dict) and not {"catch", "finally"} & set(given):
        reading.key_fault(where, "A try has a catch, a finally, or both.", mend)
    body = {key: given[key] for key in ("steps", "output") if key in given}
    found = [_block(blocks, body, where, scope, f"{path}/body/", name="body")]
    inside = replace(scope, locals=scope.locals | {"error"})
    given_catch = given.get("catch", [])
    several = isinstance(given_catch, list)
    for at, catch in enumerate(given_catch[:MOST_BLOCKS] if several else [given_catch]):
        inner = (*where, "catch", at) if several else (*where, "catch")
        entry = reading.object(catch, inner, ("codes", "steps", "output"), required=("steps",), mend=mend)
        name = "catch" if at == 0 else f"catch-{at + 1}"
        handler = {key: entry[key] for key in ("steps", "output") if key in entry}
        block = _block(blocks, handler, inner, inside, f"{path}/{name}/", name=name, role="catch")
        codes = _codes(reading, entry["codes"], (*inner, "codes")) if "codes" in entry else None
        found.append(with_fields(block, codes=codes))
    if "finally" in given:
        place = (*where, "finally")
        found.append(
            _block(blocks, given["finally"], place, inside, f"{path}/finally/", name="finally", role="finally")
        )
    return plan.Literal({}), tuple(found)


def _codes(reading: Reading, value: Any, where: Where) -> tuple[str, ...]:
    mend = "Write codes of failures: [HTTP_STATUS, ATTEMPT_TIMEOUT] or [HTTP_*]."
    codes = reading.list(value, where, mend)
    if isinstance(value, list) and not value:
        reading.fault(where, "There are no codes.", "Leave codes out to take every failure.")
    for at, code in enumerate(codes):
        reading.name(code, (*where, at), "The code", _CODE, mend)
    return tuple(code for code in codes if isinstance(code, str))


def _on_failure(
    reading: Reading, given: dict[str, Any], where: Where, words: tuple[str, ...], *, tolerate: bool = False
) -> Any:
    value, inner = given.get("on_failure", "stop"), (*where, "on_failure")
    if tolerate and isinstance(value, dict):
        mend = "Write {tolerate: 3} or {tolerate: 10%}."
        entry = reading.object(value, inner, ("tolerate",), required=("tolerate",), mend=mend)
        most = entry.get("tolerate")
        if isinstance(most, str) and re.fullmatch(r"(?:\d{1,2}|100)%", most):
            return {"percent": int(most[:-1])}
        number = reading.integer(most, (*inner, "tolerate"), 0, MOST_CONCURRENCY) if entry else 0
        return {"tolerate": 0 if isinstance(number, Missing) else number}
    if not isinstance(value, str) or value not in words:
        more = " or {tolerate: 10%}" if tolerate else ""
        reading.fault(inner, f"on_failure is not one of {choices(words)}{more}.", f"Use {choices(words)}{more}.")
        return "stop"
    return value


def _block(
    blocks: Blocks, value: Any, where: Where, scope: Scope, prefix: str, *, name: str = "", role: str = "body"
) -> plan.Block:
    inside = replace(scope, step="")
    return with_fields(_read_block(blocks, value, where, inside, prefix)[0], name=name, role=role)


def _read_block(
    blocks: Blocks, value: Any, where: Where, scope: Scope, prefix: str
) -> tuple[plan.Block, frozenset[str]]:
    """A list of steps, or {steps, output}; without an output the last step's is the block's."""
    if isinstance(value, list):
        return blocks.inner(value, where, scope, prefix)
    given = blocks.reading.object(value, where, ("steps", "output"), mend=_STEPS_MEND)
    if "steps" not in given:
        if "output" in given:
            blocks.reading.key_fault(where, "The key steps is missing.", "Add `steps:`.")
        return plan.Block((), ()), frozenset()
    block, seen = blocks.inner(given["steps"], (*where, "steps"), scope, prefix)
    if "output" not in given:
        return block, seen
    everything = replace(scope, steps=scope.steps | seen, before=Either(scope.before, seen))
    output = blocks.values.value(given["output"], (*where, "output"), everything.at("in an output"))
    return _with_output(block, output, prefix), seen


def _with_output(block: plan.Block, output: plan.Expression, prefix: str) -> plan.Block:
    """The block with one more step, after all others, that gives its output."""
    count = len(block.nodes)
    last = plan.Node(
        id="output", index=count, path=f"{prefix}output", kind="set", params=output, needs=tuple(range(count)),
        retry=plan.Retry(),
    )  # fmt: skip
    nodes = tuple(with_fields(node, dependents=(*node.dependents, count)) for node in block.nodes)
    return with_fields(block, nodes=(*nodes, last), result=count)


#: Kinds that hold blocks.
STRUCTURES: dict[str, ReadStructure] = {
    "parallel": read_parallel,
    "switch": read_switch,
    "foreach": read_foreach,
    "loop": read_loop,
    "try": read_try,
}

assert set(STRUCTURES) == plan.CONTAINERS
