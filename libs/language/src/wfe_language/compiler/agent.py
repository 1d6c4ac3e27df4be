"""Reads `agent`: a model, what it is told, and the tools it may use."""

from __future__ import annotations

import re
from typing import Any

from wfe_engine import plan

from wfe_language.compiler.approvals import read_approval
from wfe_language.compiler.auth import read_headers, read_url, secret_text
from wfe_language.compiler.mcp import read_server
from wfe_language.compiler.reading import Missing, Reading
from wfe_language.compiler.values import Scope, Values, list_of, map_of
from wfe_language.faults import Where
from wfe_language.schemas import make_validator

AGENT_KEYS = (
    "endpoint", "model", "api_key", "headers", "system", "prompt", "messages", "tools", "schema", "temperature",
    "max_tokens", "extra", "limits", "prices", "approval",
)  # fmt: skip
LIMIT_KEYS = ("turns", "tokens", "cost")
PRICE_KEYS = ("input", "output")
TOOL_KEYS = ("call", "mcp", "approval")
CALL_TOOL_KEYS = ("handler", "name", "description", "parameters")
MCP_TOOL_KEYS = ("server", "tools", "prefix")
APPROVAL_KEYS = ("approvers", "policy", "exclude", "expires")
ROLES = ("system", "developer", "user", "assistant", "tool")

#: Turns of an agent that says nothing of it, and of any.
TURNS, MOST_TURNS = 10, 100
MOST_TOOLS = 128
#: Parts of the request that `extra` cannot replace.
OWN_KEYS = ("model", "messages", "tools", "response_format", "temperature", "stream", "n")

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_HANDLER = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,199}", re.ASCII)
_MEND = 'Write {endpoint: "https://.../v1", model: ..., api_key: "${{ secrets.KEY }}", prompt: ...}.'


def read_agent(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of an agent; system and prompt have become messages."""
    sealing = scope.at("in the params of an agent", sealing=True)
    plain = scope.at("in what an agent sends to its model")
    given = reading.object(value, where, AGENT_KEYS, required=("endpoint", "model"), mend=_MEND)
    params: dict[str, plan.Expression] = {}
    if "endpoint" in given:
        params["endpoint"] = read_url(reading, values, given["endpoint"], (*where, "endpoint"), sealing)
    if "model" in given:
        params["model"] = values.text(given["model"], (*where, "model"), plain, "Name the model.")
    if "api_key" in given:
        params["api_key"] = secret_text(reading, values, given["api_key"], (*where, "api_key"), sealing)
    if "headers" in given:
        params["headers"] = read_headers(reading, values, given["headers"], (*where, "headers"), sealing)
    params["messages"] = _messages(reading, values, given, where, plain)
    if "tools" in given:
        params["tools"] = _tools(reading, values, given["tools"], (*where, "tools"), sealing)
    if "schema" in given:
        params["schema"] = plan.Literal(_schema(reading, given["schema"], (*where, "schema")))
    for key, types in (("temperature", ("INT", "UINT", "DOUBLE")), ("max_tokens", ("INT", "UINT"))):
        if key in given:
            params[key] = _number(reading, values, given[key], (*where, key), plain, types)
    if "extra" in given:
        params["extra"] = _extra(reading, values, given["extra"], (*where, "extra"), plain)
    params["limits"] = plan.Literal(_limits(reading, given, where))
    if "prices" in given:
        params["prices"] = plan.Literal(_prices(reading, given["prices"], (*where, "prices")))
    _approval(reading, values, given, where, scope, params)
    return map_of(params)


def _messages(reading: Reading, values: Values, given: dict[str, Any], where: Where, scope: Scope) -> plan.Expression:
    said: list[plan.Expression] = []
    if "system" in given:
        text = values.text(given["system"], (*where, "system"), scope, "Say how the model is to work.")
        said.append(map_of({"role": plan.Literal("system"), "content": text}))
    if ("prompt" in given) == ("messages" in given):
        reading.key_fault(where, "An agent has exactly one of prompt and messages.", "Write prompt: what it is to do.")
        return list_of(said)
    if "prompt" in given:
        text = values.text(given["prompt"], (*where, "prompt"), scope, "Say what the model is to do.")
        return list_of([*said, map_of({"role": plan.Literal("user"), "content": text})])
    inner = (*where, "messages")
    listed = given["messages"]
    if isinstance(listed, str) and "${{" in listed:
        if said:
            reading.key_fault(
                (*where, "system"), "system stands beside messages from an expression.", "Put it into the messages."
            )
        return values.value(listed, inner, scope)
    mend = "Write a list of {role: user, content: ...}."
    for at, message in enumerate(reading.list(listed, inner, mend)):
        one = reading.object(
            message,
            (*inner, at),
            ("role", "content", "name", "tool_calls", "tool_call_id"),
            required=("role",),
            mend=mend,
        )
        if "role" in one:
            reading.choice(one["role"], (*inner, at, "role"), ROLES)
        said.append(values.value(message, (*inner, at), scope))
    if isinstance(listed, list) and not listed:
        reading.fault(inner, "There are no messages.", mend)
    return list_of(said)


def _tools(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    mend = "Write a list of {call: {handler: ...}} and {mcp: {server: ...}}."
    tools = reading.list(value, where, mend)
    if len(tools) > MOST_TOOLS:
        reading.fault(where, f"There are {len(tools)} tools, more than {MOST_TOOLS}.", "Give the model fewer.")
    names: set[str] = set()
    found: list[plan.Expression] = []
    for at, tool in enumerate(tools):
        inner = (*where, at)
        given = reading.object(tool, inner, TOOL_KEYS, mend=mend)
        if isinstance(tool, dict) and ("call" in given) == ("mcp" in given):
            reading.fault(inner, "A tool has exactly one of call and mcp.", mend)
            continue
        parts: dict[str, plan.Expression] = {}
        if "call" in given:
            call = _call_tool(reading, given["call"], (*inner, "call"))
            if call.get("name") in names:
                reading.fault((*inner, "call"), f"There are two tools {call['name']}.", "Give one another name.")
            names.add(call.get("name", ""))
            parts["call"] = plan.Literal(call)
        elif "mcp" in given:
            parts["mcp"] = _mcp_tool(reading, values, given["mcp"], (*inner, "mcp"), scope)
        if "approval" in given:
            chosen = reading.choice(given["approval"], (*inner, "approval"), ("required", "none"))
            parts["approval"] = plan.Literal(chosen if isinstance(chosen, str) else "none")
        found.append(map_of(parts))
    return list_of(found)


def _call_tool(reading: Reading, value: Any, where: Where) -> dict[str, Any]:
    mend = "Write {handler: lookup, description: ..., parameters: {type: object, ...}}."
    given = reading.object(value, where, CALL_TOOL_KEYS, required=("handler", "description"), mend=mend)
    tool: dict[str, Any] = {"parameters": {"type": "object"}}
    if "handler" in given:
        rule = "Use letters, digits and _ . : -, beginning with a letter."
        handler = reading.name(given["handler"], (*where, "handler"), "The handler", _HANDLER, rule)
        if isinstance(handler, str):
            tool |= {"handler": handler, "name": re.sub(r"[^A-Za-z0-9_-]", "_", handler)[:64]}
            if reading.handlers is not None and handler not in reading.handlers:
                reading.fault(
                    (*where, "handler"), f"No executor has a handler {handler[:60]}.",
                    "Start an executor that registers it.",
                )  # fmt: skip
    if "name" in given:
        name = reading.name(
            given["name"], (*where, "name"), "The tool's name", _TOOL_NAME, "Use letters, digits, _ and -, at most 64."
        )
        tool["name"] = name if isinstance(name, str) else ""
    if "description" in given:
        text = reading.text(given["description"], (*where, "description"), "Tell the model what it does.", most=4000)
        tool["description"] = text if isinstance(text, str) else ""
    if "parameters" in given:
        tool["parameters"] = _schema(reading, given["parameters"], (*where, "parameters"))
    return tool


def _mcp_tool(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    mend = 'Write {server: {url: "https://..."}, tools: [search]}.'
    given = reading.object(value, where, MCP_TOOL_KEYS, required=("server",), mend=mend)
    parts: dict[str, plan.Expression] = {}
    if "server" in given:
        parts["server"] = read_server(reading, values, given["server"], (*where, "server"), scope)
    if "tools" in given:
        inner = (*where, "tools")
        listed = reading.list(given["tools"], inner, "Write a list of the server's tools: [search].")
        names = [reading.text(name, (*inner, at), "Name a tool of the server.") for at, name in enumerate(listed)]
        parts["tools"] = plan.Literal([name for name in names if isinstance(name, str)])
    if "prefix" in given:
        rule = "Use letters, digits, _ and -."
        prefix = reading.name(given["prefix"], (*where, "prefix"), "The prefix", _TOOL_NAME, rule)
        parts["prefix"] = plan.Literal(prefix if isinstance(prefix, str) else "")
    return map_of(parts)


def _schema(reading: Reading, value: Any, where: Where) -> dict[str, Any]:
    mend = "Write a JSON Schema: {type: object, properties: {...}}."
    if not isinstance(value, dict):
        reading.object(value, where, (), mend=mend)
        return {}
    try:
        make_validator(value)
    except ValueError as error:
        reading.fault(where, f"The schema is not a valid JSON Schema: {error}.", mend)
    return value


def _number(
    reading: Reading, values: Values, value: Any, where: Where, scope: Scope, types: tuple[str, ...]
) -> plan.Expression:
    if isinstance(value, str) and "${{" in value:
        compiled = values.value(value, where, scope)
        mend = 'Give a number: "${{ vars.temperature }}".'
        if isinstance(compiled, plan.Text):
            reading.fault(where, "The number is text with expressions in it.", mend)
        values.expect(compiled, where, scope, types, mend)
        return compiled
    if "DOUBLE" not in types:
        number = reading.integer(value, where, 1, 10_000_000)
        return plan.Literal(None if isinstance(number, Missing) else number)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        reading.fault(where, "A temperature is a number from 0 to 2.", "Write e.g. 0.2.")
    return plan.Literal(value)


def _extra(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    if not isinstance(value, dict):
        reading.object(value, where, (), mend="Write names and values: {seed: 7}.")
        return plan.Literal({})
    for key in value:
        if key in OWN_KEYS:
            reading.key_fault((*where, key), f"{key} cannot be replaced by extra.", f"Remove {key}.")
    return values.value(value, where, scope)


def _limits(reading: Reading, given: dict[str, Any], where: Where) -> dict[str, Any]:
    limits: dict[str, Any] = {"turns": TURNS}
    if "limits" not in given:
        return limits
    inner = (*where, "limits")
    value = reading.object(given["limits"], inner, LIMIT_KEYS, mend="Write {turns: 10, tokens: 100000, cost: 0.5}.")
    for key, most in (("turns", MOST_TURNS), ("tokens", 100_000_000)):
        if key in value:
            number = reading.integer(value[key], (*inner, key), 1, most)
            limits[key] = 1 if isinstance(number, Missing) else number
    if "cost" in value:
        limits["cost"] = _amount(reading, value["cost"], (*inner, "cost"))
        if "prices" not in given:
            reading.key_fault(
                (*inner, "cost"), "A cost has a limit, and there are no prices.",
                "Add prices: {input: ..., output: ...}, per million tokens.",
            )  # fmt: skip
    return limits


def _prices(reading: Reading, value: Any, where: Where) -> dict[str, float]:
    mend = "Write {input: 2.5, output: 10}: the price of a million tokens."
    given = reading.object(value, where, PRICE_KEYS, required=PRICE_KEYS, mend=mend)
    return {key: _amount(reading, given[key], (*where, key)) for key in PRICE_KEYS if key in given}


def _amount(reading: Reading, value: Any, where: Where) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        reading.fault(where, "An amount is a number that is not negative.", "Write e.g. 0.5.")
        return 0.0
    return float(value)


def _approval(
    reading: Reading,
    values: Values,
    given: dict[str, Any],
    where: Where,
    scope: Scope,
    params: dict[str, plan.Expression],
) -> None:
    tools = given.get("tools")
    gated = [
        at
        for at, tool in enumerate(tools if isinstance(tools, list) else [])
        if isinstance(tool, dict) and tool.get("approval") == "required"
    ]
    if "approval" in given:
        inner = (*where, "approval")
        value = reading.object(
            given["approval"], inner, APPROVAL_KEYS, mend="Write {approvers: {groups: [operators]}}."
        )
        if not gated:
            reading.key_fault(inner, "No tool asks for an approval.", "Mark one: approval: required.")
        if isinstance(given["approval"], dict):
            known = {key: one for key, one in value.items() if key in APPROVAL_KEYS}
            then = known["expires"].get("then") if isinstance(known.get("expires"), dict) else None
            if isinstance(then, str) and then.startswith("branch"):
                place = (*inner, "expires", "then")
                reading.fault(place, "There is no branch to go to; the model is told instead.", "Write then: reject.")
            params["approval"] = read_approval(reading, values, {"title": "-", **known}, inner, scope)
    elif gated:
        reading.key_fault(
            (*where, "tools", gated[0], "approval"), "It is not said who may decide.",
            "Add approval: {approvers: {groups: [...]}} to the agent.",
        )  # fmt: skip
