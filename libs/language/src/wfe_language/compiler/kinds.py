"""Reads what each kind of step works with: a function from the value of its key to the node's params."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

from wfe_engine import plan

from wfe_language.compiler.approvals import read_approval
from wfe_language.compiler.http import read_http
from wfe_language.compiler.mcp import read_mcp
from wfe_language.compiler.reading import MISSING, Missing, Reading
from wfe_language.compiler.values import Scope, Values, map_of
from wfe_language.faults import Where, choices, suggest

TEMPLATE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}", re.ASCII)
TEMPLATE_RULE = "Use a-z, 0-9 and -, beginning with a letter or digit, at most 100 characters."

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


_FAILURE = re.compile(r"[A-Z][A-Z0-9_]{0,62}", re.ASCII)
_NOTE = re.compile(r"[a-z][a-z0-9_.-]{0,98}", re.ASCII)


def read_fail(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of a fail: code and message."""
    mend = "Write {code: NOT_FOUND, message: what is wrong}."
    given = reading.object(value, where, ("code", "message"), required=("code", "message"), mend=mend)
    code = reading.optional(
        given,
        where,
        "code",
        lambda v, w: reading.name(v, w, "The code", _FAILURE, "Use A-Z, 0-9 and _, beginning with a letter."),
    )
    message: plan.Expression = plan.Literal("")
    if "message" in given:
        message = values.text(given["message"], (*where, "message"), scope.at("in a fail"), "Say what is wrong.")
    return map_of({"code": plan.Literal(code if isinstance(code, str) else ""), "message": message})


def read_emit(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of an emit: name and data."""
    mend = "Write {name: order.paid, data: {...}}."
    given = reading.object(value, where, ("name", "data"), required=("name",), mend=mend)
    name = reading.optional(
        given,
        where,
        "name",
        lambda v, w: reading.name(v, w, "The name", _NOTE, "Use a-z, 0-9 and _ . -, beginning with a letter."),
    )
    data = values.value(given.get("data"), (*where, "data"), scope.at("in an emit"))
    return map_of({"name": plan.Literal(name if isinstance(name, str) else ""), "data": data})


_SIGNAL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_SIGNAL_RULE = "Use letters, digits and _ . -, beginning with a letter."


def read_wait_for(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of a wait_for: signals, callback, after, then, output, heartbeat."""
    mend = "Write {signal: paid} or {callback: scanned}."
    keys = ("signal", "signals", "callback", "timeout", "heartbeat")
    given = reading.object(value, where, keys, mend=mend)
    if isinstance(value, dict) and not {"signal", "signals", "callback"} & set(given):
        reading.key_fault(where, "A wait_for says what it waits for.", mend)
    if {"signal", "signals"} <= set(given):
        reading.key_fault((*where, "signals"), "signals stands beside signal.", "Keep one of them.")
    params: dict[str, plan.Expression] = {}
    names = [given["signal"]] if "signal" in given else given.get("signals", [])
    if "signal" in given or "signals" in given:
        inner = (*where, "signal" if "signal" in given else "signals")
        mend = "Write a list of names: [paid, refused]."
        if names == []:
            reading.fault(inner, "There are no signals.", mend)
        names = reading.list(names, inner, mend)
        for at, name in enumerate(names):
            reading.name(name, inner if "signal" in given else (*inner, at), "The signal", _SIGNAL, _SIGNAL_RULE)
        params["signals"] = plan.Literal([name for name in names if isinstance(name, str)])
    if "callback" in given:
        name = reading.name(given["callback"], (*where, "callback"), "The callback", _SIGNAL, _SIGNAL_RULE)
        params["callback"] = plan.Literal(name if isinstance(name, str) else "")
        if isinstance(name, str) and name in reading.callbacks:
            reading.fault((*where, "callback"), f"Two steps wait for the callback {name}.", "Choose another name.")
        elif isinstance(name, str):
            reading.callbacks.add(name)
    if "heartbeat" in given:
        if "callback" not in given:
            reading.key_fault((*where, "heartbeat"), "Only a callback has a heartbeat.", "Remove it.")
        seconds = reading.span(given["heartbeat"], (*where, "heartbeat"), most="366d")
        params["heartbeat"] = plan.Literal(60.0 if isinstance(seconds, Missing) else seconds)
    if "timeout" in given:
        params |= _timeout(reading, values, given["timeout"], (*where, "timeout"), scope.at("in a wait_for"))
    return map_of(params)


def _timeout(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> dict[str, plan.Expression]:
    mend = "Write {after: 1h, then: fail} or {after: 1h, then: complete, output: {...}}."
    given = reading.object(value, where, ("after", "then", "output"), required=("after",), mend=mend)
    params: dict[str, plan.Expression] = {}
    if "after" in given:
        params["after"] = _for(reading, values, given["after"], (*where, "after"), scope)
    then = reading.optional(given, where, "then", lambda v, w: reading.choice(v, w, ("fail", "complete")))
    params["then"] = plan.Literal("fail" if isinstance(then, Missing) else then)
    if "output" in given:
        if given.get("then") != "complete":
            reading.key_fault((*where, "output"), "An output without then: complete is never given.", mend)
        params["output"] = values.value(given["output"], (*where, "output"), scope)
    return params


def read_workflow(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of a workflow: template and version as pinned, input, labels."""
    mend = "Write {template: other-template, input: {...}}."
    given = reading.object(value, where, ("template", "version", "input", "labels"), required=("template",), mend=mend)
    here = scope.at("in the input of a workflow step")
    name = reading.optional(
        given, where, "template", lambda v, w: reading.name(v, w, "The template", TEMPLATE_NAME, TEMPLATE_RULE)
    )
    version = reading.optional(given, where, "version", lambda v, w: reading.integer(v, w, 1, 2**31 - 1))
    params: dict[str, plan.Expression] = {
        "template": plan.Literal(""),
        "version": plan.Literal(0),
        "input": values.value(given.get("input", {}), (*where, "input"), here),
        "labels": values.value(given.get("labels", {}), (*where, "labels"), here),
    }
    for key in ("input", "labels"):
        if key in given and not isinstance(given[key], dict) and "${{" not in str(given[key]):
            reading.object(given[key], (*where, key), (), mend="Write names and values.")
    if isinstance(name, str):
        reading.children.add(name)
        _pin(reading, params, name, None if isinstance(version, Missing) else version, where)
    return map_of(params)


def _pin(reading: Reading, params: dict[str, plan.Expression], name: str, version: int | None, where: Where) -> None:
    if reading.templates is None:
        return
    inner = (*where, "template")
    if name not in reading.templates:
        otherwise = "Publish it first; it may not be deprecated."
        reading.fault(inner, f"No published template is called {name}.", suggest(name, reading.templates, otherwise))
        return
    id_, newest = reading.templates[name]
    if version is not None and version > newest:
        reading.fault((*where, "version"), f"{name} has no version {version}.", f"The newest is {newest}.")
    params["template"], params["version"] = plan.Literal(id_), plan.Literal(version or newest)


#: Kinds that hold no steps. Adding one: its reader here, its name in `plan.KINDS`, its keys in the JSON Schema.
KINDS: dict[str, ReadKind] = {
    "http": read_http,
    "call": read_call,
    "mcp": read_mcp,
    "approval": read_approval,
    "wait": read_wait,
    "set": read_set,
    "checkpoint": read_checkpoint,
    "fail": read_fail,
    "emit": read_emit,
    "wait_for": read_wait_for,
    "workflow": read_workflow,
}
#: Kinds the language has and this version does not run.
LATER_KINDS: tuple[str, ...] = ()

#: What an agent is made of; templates do not write it.
INNER_KINDS = frozenset({"model"})

assert set(KINDS) == plan.KINDS - plan.CONTAINERS - INNER_KINDS
