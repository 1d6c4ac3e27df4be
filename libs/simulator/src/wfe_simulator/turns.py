"""What a mocked model says, in the form an executor reports it."""

from __future__ import annotations

from typing import Any

import msgspec

from wfe_simulator.mocks import Answers, Calls, Request


def turn(request: Request, outcome: Answers | Calls) -> dict[str, Any]:
    """The output of one turn of an agent."""
    asked = request.given
    said: dict[str, Any] = {"usage": None, "cost": None, "model": asked.get("model", "")}
    if isinstance(outcome, Answers):
        value = outcome.value
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        more = {"output": value} if "schema" in asked else {}
        return {**said, "message": _message(text), "tool_calls": [], "finish_reason": "stop", **more}
    calls = [
        _call(asked.get("tools") or [], f"call_{at + 1}", name, given) for at, (name, given) in enumerate(outcome.calls)
    ]
    return {**said, "message": _message(None), "tool_calls": calls, "finish_reason": "tool_calls"}


def _message(text: str | None) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _call(tools: list[dict[str, Any]], id_: str, name: str, given: Any) -> dict[str, Any]:
    call: dict[str, Any] = {"id": id_, "name": name}
    for at, tool in enumerate(tools):
        found = _target(tool, name)
        if found is not None:
            kind, target = found
            call |= {"kind": kind, "tool": at, "target": target, "arguments": given}
            return call | ({"approval": True} if tool.get("approval") == "required" else {})
    return call | {"error": f"there is no tool {name}"}


def _target(tool: dict[str, Any], name: str) -> tuple[str, str] | None:
    """Kind and target of a tool of that name; None when it is another."""
    if "call" in tool:
        return ("call", tool["call"]["handler"]) if tool["call"]["name"] == name else None
    prefix = tool["mcp"].get("prefix")
    target = name.removeprefix(f"{prefix}_") if prefix else name
    known = tool["mcp"].get("tools")
    return ("mcp", target) if known is None or target in known else None
