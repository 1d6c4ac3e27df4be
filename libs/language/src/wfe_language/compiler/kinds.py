"""Reads what each kind of step works with: a function from the value of its key to the node's params."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

from wfe_engine import plan

from wfe_language.compiler.agent import read_agent
from wfe_language.compiler.approvals import read_approval
from wfe_language.compiler.http import read_http
from wfe_language.compiler.mcp import read_mcp
from wfe_language.compiler.reading import MISSING, Missing, Reading
from wfe_language.compiler.values import Scope, Values, map_of
from wfe_language.faults import Where, choices, suggest

ReadKind = Callable[[Reading, Values, Any, Where, Scope], plan.Expression]

_HANDLER = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,199}", re.ASCII)


def read_call(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of a call: handler and input; an input that is not given is an empty object."""
    scope = scope.at("in the params of a call step", sealing=True)
    mend = "Write {handler: summarise, input: {...}}."
    given = reading.object(value, where, ("handler", "input"), required=("handler",), mend=mend)
    handler: str | Missing = MISSING
    if "handler" in given:
        inner = (*where, "handler")
        rule = "Use letters, digits and _ . : -, beginning with a letter."
        handler = reading.name(given["handler"], inner, "The handler", _HANDLER, rule)
        if isinstance(handler, str) and reading.handlers is not None and handler not in reading.handlers:
            known = sorted(reading.handlers)
            otherwise = f"Known: {choices(known)}." if known else "Start an executor that registers it."
            reading.fault(inner, f"No executor has a handler {handler[:60]}.", suggest(handler, known, otherwise))
    return map_of(
        {
            "handler": plan.Literal(handler if isinstance(handler, str) else ""),
            "input": values.value(given.get("input", {}), (*where, "input"), scope),
        }
    )


def read_wait(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of a wait: {for: seconds} or {until: RFC 3339 text}, or expressions that give just that."""
    scope = scope.at("in a wait")
    mend = "Write {for: 10m} or {until: 2030-01-31T12:00:00Z}."
    given = reading.object(value, where, ("for", "until"), mend=mend)
    if isinstance(value, dict) and len(set(given) & {"for", "until"}) != 1:
        reading.fault(where, "A wait has exactly one of for and until.", mend)
    if "until" in given:
        return map_of({"until": _until(reading, values, given["until"], (*where, "until"), scope)})
    if "for" in given:
        return map_of({"for": _for(reading, values, given["for"], (*where, "for"), scope)})
    return plan.Literal({})


def _for(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    if isinstance(value, str) and "${{" in value:
        compiled = values.value(value, where, scope)
        mend = 'Give seconds as a number: for: "${{ vars.minutes * 60 }}".'
        if isinstance(compiled, plan.Text):
            reading.fault(where, "The span is text with expressions in it.", mend)
        values.expect(compiled, where, scope, ("INT", "UINT", "DOUBLE"), mend)
        return compiled
    seconds = reading.span(value, where, least=0, most="366d")
    return plan.Literal(0.0 if isinstance(seconds, Missing) else seconds)


def _until(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    mend = "Write it with date, time and zone: 2030-01-31T12:00:00Z."
    if isinstance(value, str) and "${{" in value:
        compiled = values.value(value, where, scope)
        values.expect(compiled, where, scope, ("STRING", "TIMESTAMP"), mend)
        return compiled
    text = reading.text(value, where, mend, most=60)
    if isinstance(text, str) and parse_moment(text) is None:
        reading.fault(where, f"{text!r} is not a moment by RFC 3339.", mend)
    return plan.Literal(text if isinstance(text, str) else "")


def parse_moment(text: str) -> datetime.datetime | None:
    """An RFC 3339 moment; None when it is none, or has no zone."""
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", text):
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def read_set(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of a set: the object that becomes its output."""
    if not isinstance(value, dict) or not value:
        reading.fault(where, "A set gives an object of at least one value.", 'Write {total: "${{ vars.a + vars.b }}"}.')
        return plan.Literal({})
    return values.value(value, where, scope.at("in a set"))


def read_checkpoint(reading: Reading, _values: Values, value: Any, where: Where, _scope: Scope) -> plan.Expression:
    """Params of a checkpoint: its name, given as text or as {name}."""
    mend = "Write a name: checkpoint: before-publish."
    if isinstance(value, dict):
        given = reading.object(value, where, ("name",), required=("name",), mend=mend)
        where, value = (*where, "name"), given.get("name", "-")
    name = reading.text(value, where, mend, most=100)
    return plan.Literal({"name": name if isinstance(name, str) else ""})


#: Kinds of this version. Adding one: its reader here, its name in `plan.KINDS`, its keys in the JSON Schema.
KINDS: dict[str, ReadKind] = {
    "http": read_http,
    "call": read_call,
    "agent": read_agent,
    "mcp": read_mcp,
    "approval": read_approval,
    "wait": read_wait,
    "set": read_set,
    "checkpoint": read_checkpoint,
}
#: Kinds the language has and this version does not run.
LATER_KINDS = (
    "parallel", "foreach", "switch", "loop", "try", "workflow", "wait_for", "emit", "fail",
)  # fmt: skip

assert set(KINDS) == plan.KINDS
