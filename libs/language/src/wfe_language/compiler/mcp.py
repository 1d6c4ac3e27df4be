"""Reads `mcp`: one call of a tool of an MCP server; and servers, wherever they are named."""

from __future__ import annotations

from typing import Any

from wfe_engine import plan

from wfe_language.compiler.auth import read_auth, read_headers, read_url
from wfe_language.compiler.reading import Reading
from wfe_language.compiler.values import Scope, Values, list_of, map_of
from wfe_language.faults import Where

MCP_KEYS = ("server", "tool", "arguments")
SERVER_KEYS = ("url", "headers", "auth", "command", "args", "env")
_REMOTE = ("url", "headers", "auth")
_LOCAL = ("command", "args", "env")
_SERVER_MEND = 'Write {url: "https://..."} or {command: ..., args: [...]}.'


def read_mcp(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of a call: server, tool and arguments; arguments that are not given are an empty object."""
    scope = scope.at("in the params of an mcp step", sealing=True)
    mend = 'Write {server: {url: "https://..."}, tool: search, arguments: {...}}.'
    given = reading.object(value, where, MCP_KEYS, required=("server", "tool"), mend=mend)
    params: dict[str, plan.Expression] = {}
    if "server" in given:
        params["server"] = read_server(reading, values, given["server"], (*where, "server"), scope)
    if "tool" in given:
        params["tool"] = values.text(given["tool"], (*where, "tool"), scope, "Name the tool as the server does.")
    arguments = given.get("arguments", {})
    if not isinstance(arguments, dict) and not (isinstance(arguments, str) and "${{" in arguments):
        reading.object(arguments, (*where, "arguments"), (), mend="Write names and values: {query: ...}.")
    params["arguments"] = values.value(arguments, (*where, "arguments"), scope)
    return map_of(params)


def read_server(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """{"url", "headers", "auth"} of a server to call, or {"command", "args", "env"} of one to start."""
    given = reading.object(value, where, SERVER_KEYS, mend=_SERVER_MEND)
    if not isinstance(value, dict):
        return plan.Literal({})
    if ("url" in given) == ("command" in given):
        reading.fault(where, "A server has exactly one of url and command.", _SERVER_MEND)
        return plan.Literal({})
    mine, others = (_REMOTE, _LOCAL) if "url" in given else (_LOCAL, _REMOTE)
    for key in others:
        if key in given:
            reading.key_fault((*where, key), f"{key} does not go with {mine[0]}.", f"Remove {key}.")
    server: dict[str, plan.Expression] = {}
    if "url" in given:
        server["url"] = read_url(reading, values, given["url"], (*where, "url"), scope)
        if "headers" in given:
            server["headers"] = read_headers(reading, values, given["headers"], (*where, "headers"), scope)
        if "auth" in given:
            server["auth"] = read_auth(reading, values, given["auth"], (*where, "auth"), scope)
        return map_of(server)
    command = reading.text(given["command"], (*where, "command"), "Name a command the executor allows.")
    server["command"] = plan.Literal(command if isinstance(command, str) else "")
    if "args" in given:
        inner = (*where, "args")
        listed = reading.list(given["args"], inner, "Write a list: args: [--verbose].")
        texts = [values.text(one, (*inner, at), scope, "Write text, in quotes.") for at, one in enumerate(listed)]
        server["args"] = list_of(texts)
    if "env" in given:
        server["env"] = read_headers(reading, values, given["env"], (*where, "env"), scope)
    return map_of(server)
