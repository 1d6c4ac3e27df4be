"""The tools of an agent: what the model is told of them, and what it calls."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from wfe_executor.attempts import Attempt
from wfe_executor.mcp import Mcp, Server
from wfe_executor.outputs import StepFailed, clean, failure

#: Functions a model may be told of; endpoints take no more.
MOST_FUNCTIONS = 128

_decode = msgspec.json.Decoder().decode


class CallTool(msgspec.Struct):
    """A handler as a tool."""

    handler: str
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class McpTools(msgspec.Struct):
    """Tools of an MCP server.

    Attributes:
        server: Where they are.
        tools: Which of them; all when empty.
        prefix: Stands before their names, with "_" between.
    """

    server: Server
    tools: list[str] = []
    prefix: str = ""


class Tool(msgspec.Struct):
    """One entry of an agent's tools; exactly one of call and mcp."""

    call: CallTool | None = None
    mcp: McpTools | None = None
    approval: str = "none"


async def resolve(mcp: Mcp, attempt: Attempt, tools: list[Tool]) -> list[dict[str, Any]]:
    """The functions that the tools come to; MCP servers are asked for theirs.

    Returns:
        {"name", "description", "parameters", "tool", "target"}: "tool" is the position of its entry, "target" the
        handler, or the tool's name on its server.

    Raises:
        StepFailed: AGENT_TOOL_MISSING, AGENT_TOOLS_INVALID, or why a server could not be asked.
    """
    found: list[dict[str, Any]] = []
    for at, tool in enumerate(tools):
        if tool.call is not None:
            found.append(
                {
                    "name": tool.call.name,
                    "description": tool.call.description,
                    "parameters": tool.call.parameters,
                    "tool": at,
                    "target": tool.call.handler,
                }
            )
        elif tool.mcp is not None:
            found += await _of_server(mcp, attempt, tool.mcp, at)
    names = [one["name"] for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _invalid(f"two tools are called {twice}; give the tools of one server a prefix")
    if len(found) > MOST_FUNCTIONS:
        raise _invalid(f"there are {len(found)} tools, at most {MOST_FUNCTIONS} can be offered; name those it needs")
    return found


async def _of_server(mcp: Mcp, attempt: Attempt, entry: McpTools, at: int) -> list[dict[str, Any]]:
    offered = {one["name"]: one for one in await mcp.tools(attempt, entry.server)}
    missing = [name for name in entry.tools if name not in offered]
    if missing:
        raise StepFailed(
            failure(
                "AGENT_TOOL_MISSING",
                f"the server has no tool {', '.join(missing)}",
                retryable=False,
                details={"missing": missing, "offered": sorted(offered)[:100]},
            )
        )
    prefix = f"{entry.prefix}_" if entry.prefix else ""
    return [
        {
            "name": re.sub(r"[^A-Za-z0-9_-]", "_", prefix + name)[:64],
            "description": offered[name]["description"],
            "parameters": offered[name]["parameters"],
            "tool": at,
            "target": name,
        }
        for name in entry.tools or sorted(offered)
    ]


def functions(resolved: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The functions as the wire has them."""
    return [
        {"type": "function", "function": {name: one[name] for name in ("name", "description", "parameters")}}
        for one in resolved
    ]


def tool_calls(message: dict[str, Any], resolved: list[dict[str, Any]], tools: list[Tool]) -> list[dict[str, Any]]:
    """What the model calls.

    Returns:
        {"id", "name", "kind", "tool", "target", "arguments", "approval"} of each call, kind being call or mcp and
        approval whether a person must allow it first; or {"id", "name", "error"} for one that cannot be made.
    """
    given = message.get("tool_calls")
    known = {one["name"]: one for one in resolved}
    return [_call(one, known, tools) for one in (given if isinstance(given, list) else []) if isinstance(one, dict)]


def _call(given: dict[str, Any], known: dict[str, dict[str, Any]], tools: list[Tool]) -> dict[str, Any]:
    function = given.get("function")
    function = function if isinstance(function, dict) else {}
    name = clean(str(function.get("name") or ""), 200)
    made: dict[str, Any] = {"id": str(given.get("id") or ""), "name": name}
    found = known.get(name)
    if found is None:
        return made | {"error": f"there is no tool {name}"}
    text = function.get("arguments") or "{}"
    try:
        arguments = _decode(text.encode()) if isinstance(text, str) else text
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return made | {"error": f"the arguments are not JSON: {error}"}
    if not isinstance(arguments, dict):
        return made | {"error": "the arguments are not an object"}
    entry = tools[found["tool"]]
    return made | {
        "kind": "call" if entry.call is not None else "mcp",
        "tool": found["tool"],
        "target": found["target"],
        "arguments": arguments,
        "approval": entry.approval == "required",
    }


def _invalid(message: str) -> StepFailed:
    return StepFailed(failure("AGENT_TOOLS_INVALID", message, retryable=False))
