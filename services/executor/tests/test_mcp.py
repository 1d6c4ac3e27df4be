"""`mcp` steps against real servers made with MCP's SDK, over streamable HTTP and over stdio."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_server
import msgspec
import pytest
import uvicorn
from executor_fakes import FakeScheduler, lease
from wfe_bus.messages import SEALED

SCRIPT = str(Path(mcp_server.__file__))
CANARY = "mcp-canary-8812"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Remote:
    """The server over HTTP, with what it was asked, and the statuses it is to answer instead."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: list[dict[str, str]] = []
        self.status = 0
        self.app = mcp_server.server.streamable_http_app()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
            if self.status:
                headers = [(b"retry-after", b"7"), (b"content-type", b"text/plain")]
                await send({"type": "http.response.start", "status": self.status, "headers": headers})
                await send({"type": "http.response.body", "body": b"no"})
                return
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Remote]:
    remote = Remote()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        remote.url = f"http://127.0.0.1:{port}/mcp"
        config = uvicorn.Config(remote, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None
        task = asyncio.create_task(server.serve([listening]))
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.01)
        yield remote
        server.should_exit = True
        await task


@pytest.fixture
def remote(running: Remote) -> Remote:
    running.headers.clear()
    running.status = 0
    return running


@pytest.fixture
async def call(scheduler: FakeScheduler, start: Any) -> Any:
    executor = await start(mcp_commands=f"{sys.executable} {SCRIPT}, other")

    async def once(server: Any, tool: str, fields: dict[str, Any] | None = None, **arguments: Any) -> Any:
        request = {"server": server, "tool": tool, "arguments": arguments}
        step = lease(kind="mcp", request=msgspec.json.encode(request), sealed=True, **(fields or {}))
        scheduler.secrets[step.run] = {"TOKEN": CANARY}
        await scheduler.hand(executor.id, step)
        outcome = await scheduler.until(
            lambda: next((one for one in scheduler.outcomes.get(step.run, []) if one.no == step.no), None), 60
        )
        assert CANARY not in repr(outcome)
        return outcome.failure or json.loads(outcome.output)

    once.executor = executor
    return once


def local(**more: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": [SCRIPT], **more}


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_a_tool_is_called(call: Any, remote: Remote, transport: str) -> None:
    server = {"url": remote.url} if transport == "http" else local()
    output = await call(server, "add", a=2, b=3)
    assert output["structured"] == {"sum": 5}
    assert json.loads(output["text"]) == {"sum": 5}
    assert output["content"][0]["type"] == "text"
    failure = await call(server, "fail", text="so")
    assert (failure.code, failure.retryable) == ("MCP_TOOL_ERROR", True)
    assert "it did not work: so" in failure.message
    assert failure.details["tool"] == "fail"
    failure = await call(server, "nothing")
    assert failure.code in ("MCP_INVALID_CALL", "MCP_TOOL_ERROR")
    assert "nothing" in failure.message


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_the_trace_goes_with_the_call(call: Any, remote: Remote, transport: str) -> None:
    server = {"url": remote.url} if transport == "http" else local()
    assert (await call(server, "trace", {"traceparent": TRACE}))["text"] == TRACE
    assert (await call(server, "trace"))["text"] == "None"


async def test_credentials_go_out_and_nowhere_else(call: Any, remote: Remote) -> None:
    secret = {SEALED: [{"secret": "TOKEN"}]}
    await call({"url": remote.url, "auth": {"bearer": secret}, "headers": {"X-Team": "red"}}, "add", a=1, b=1)
    assert {one.get("authorization") for one in remote.headers} == {f"Bearer {CANARY}"}
    assert remote.headers[0]["x-team"] == "red"
    output = await call(local(env={"KEY": secret}), "environment", name="KEY")
    assert output["text"] == "[redacted]"
    assert (await call(local(), "environment", name="WFE_NATS_PASSWORD"))["text"] == "unset"


async def test_one_run_keeps_its_session_and_another_gets_its_own(call: Any) -> None:
    run = lease().run
    first = await call(local(), "count", {"run": run, "no": 1})
    second = await call(local(), "count", {"run": lease().run, "no": 1})
    again = (await call(local(), "count", {"run": run, "no": 2}))["text"]
    assert first["text"].startswith("asked 1 times by ")
    assert second["text"].startswith("asked 1 times by ")
    assert again == first["text"].replace("asked 1", "asked 2")


@pytest.mark.parametrize("command", ["other2", sys.executable, "sh"])
async def test_only_allowed_commands_are_started(call: Any, command: str) -> None:
    failure = await call({"command": command, "args": ["-c", "print(1)"]}, "add", a=1, b=1)
    assert (failure.code, failure.retryable) == ("MCP_COMMAND_DENIED", False)
    assert "WFE_MCP_COMMANDS" in failure.message


async def test_the_guard_holds_for_servers_too(call: Any) -> None:
    failure = await call({"url": "http://169.254.169.254/mcp"}, "add", a=1, b=1)
    assert (failure.code, failure.retryable) == ("EGRESS_DENIED", False)


@pytest.mark.parametrize(
    ("status", "code", "retryable", "wait"),
    [(401, "MCP_UNAUTHORIZED", False, None), (403, "MCP_UNAUTHORIZED", False, None),
     (503, "MCP_CONNECTION_ERROR", True, 7.0), (429, "MCP_CONNECTION_ERROR", True, 7.0)],
)  # fmt: skip
async def test_what_the_servers_http_says(
    call: Any, remote: Remote, status: int, code: str, retryable: bool, wait: float | None
) -> None:
    remote.status = status
    failure = await call({"url": remote.url}, "add", a=1, b=1)
    assert (failure.code, failure.retryable, failure.retry_after) == (code, retryable, wait)
    assert failure.details == {"status": status}


async def test_a_server_that_is_not_there_or_dies_can_be_tried_again(call: Any) -> None:
    failure = await call({"url": "http://127.0.0.1:1/mcp"}, "add", a=1, b=1)
    assert (failure.code, failure.retryable) == ("MCP_CONNECTION_ERROR", True)
    run = lease().run
    failure = await call(local(), "die", {"run": run, "no": 1})
    assert (failure.code, failure.retryable) == ("MCP_CONNECTION_ERROR", True)
    output = await call(local(), "add", {"run": run, "no": 2}, a=1, b=1)
    assert output["structured"] == {"sum": 2}


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_progress_is_told_and_a_stopped_step_is_cancelled(
    call: Any, scheduler: FakeScheduler, remote: Remote, transport: str
) -> None:
    server = {"url": remote.url} if transport == "http" else local()
    mcp_server.cancelled.clear()
    request = {"server": server, "tool": "slow", "arguments": {"seconds": 60}}
    step = lease(kind="mcp", request=msgspec.json.encode(request))
    await scheduler.hand(call.executor.id, step)

    def progress() -> Any:
        return [p.progress for beat in scheduler.beats for p in beat.progress if p.run == step.run]

    said = await scheduler.until(progress, 60)
    assert json.loads(said[0]) == {"done": 1.0, "of": 2.0, "message": "half"}
    beats = len(scheduler.beats)
    await scheduler.until(lambda: len(scheduler.beats) > beats + 2, 60)
    await scheduler.stop_work(call.executor.id, step)
    await scheduler.until(lambda: not list(call.executor.slots), 60)
    assert step.run not in scheduler.outcomes
    if transport == "http":
        await scheduler.until(lambda: mcp_server.cancelled, 60)


async def test_an_attempts_timeout_ends_a_call(call: Any, remote: Remote) -> None:
    failure = await call({"url": remote.url}, "slow", {"attempt_timeout": 1.0}, seconds=60)
    assert failure.code == "ATTEMPT_TIMEOUT"
