"""A model server for tests: the wire format of OpenAI's chat completions over real HTTP, answering what it is told.

It refuses what the real ones refuse: unknown roles, tools of another shape, tool answers nobody asked for, tool
calls that were never answered, a wrong key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


@dataclass
class ModelServer:
    """Answers each request with the next of `replies`; the last one goes on for ever.

    Attributes:
        url: Base URL, ending in /v1.
        key: The API key it wants; any when empty.
        replies: What to answer; see `says`, `calls` and `fails`. A function is given the request.
        requests: Bodies of the requests, in order; also those it refused.
        headers: Their headers, names in lower case.
        gate: Answers wait for it.
    """

    url: str = ""
    key: str = ""
    replies: list[Any] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        body = await request.json()
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        wrong = _wrong(body)
        if wrong:
            return _error(400, wrong, "invalid_request_error")
        await self.gate.wait()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        made = reply(body) if callable(reply) else reply
        return made if isinstance(made, web.StreamResponse) else web.json_response(made)


@asynccontextmanager
async def model_server(*replies: Any, key: str = "") -> AsyncIterator[ModelServer]:
    """A model server while the block runs."""
    made = ModelServer(replies=list(replies), key=key)
    made.gate.set()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield made
    finally:
        made.gate.set()
        await runner.cleanup()


def says(
    content: str | None, *, finish: str = "stop", tokens: tuple[int, int] = (10, 5), **more: Any
) -> dict[str, Any]:
    """An answer in words."""
    message = {"role": "assistant", "content": content, "refusal": None, **more}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "test-model-2026",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
    }


def calls(*wanted: tuple[str, Any], tokens: tuple[int, int] = (10, 5)) -> dict[str, Any]:
    """An answer that calls tools: names with arguments; text stands for the arguments as it is."""
    made = [
        {
            "id": f"call_{at}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for at, (name, given) in enumerate(wanted, 1)
    ]
    return says(None, finish="tool_calls", tokens=tokens, tool_calls=made)


def fails(status: int, message: str = "no", code: str = "", **headers: str) -> Callable[[Any], web.Response]:
    """An error in OpenAI's format."""

    def answer(_body: Any) -> web.Response:
        made = _error(status, message, code)
        made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        return made

    return answer


def _error(status: int, message: str, code: str) -> web.Response:
    said = {"error": {"message": message, "type": code or "error", "param": None, "code": code or None}}
    return web.json_response(said, status=status)


def _wrong(body: dict[str, Any]) -> str:
    """What a real server would refuse; empty when it would not."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "you must provide a model parameter"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "[] is too short - 'messages'"
    open_calls: set[str] = set()
    for message in messages:
        role = message.get("role")
        if role not in _ROLES:
            return f"Invalid value: {role!r} for 'messages.role'"
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                return "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            return "an assistant message with 'tool_calls' must be followed by tool messages for each tool_call_id"
        open_calls = {call["id"] for call in message.get("tool_calls") or ()}
        if role != "assistant" and message.get("content") is None:
            return f"Invalid value for 'content' of a {role} message: null"
    if open_calls:
        return "an assistant message with 'tool_calls' must be followed by tool messages for each tool_call_id"
    for tool in body.get("tools", ()):
        function = tool.get("function", {})
        if tool.get("type") != "function" or not function.get("name"):
            return "Invalid value for 'tools'"
        if not isinstance(function.get("parameters", {}), dict):
            return "Invalid schema for function"
    form = body.get("response_format")
    if form is not None and (form.get("type") != "json_schema" or "schema" not in form.get("json_schema", {})):
        return "Invalid value for 'response_format'"
    return ""
