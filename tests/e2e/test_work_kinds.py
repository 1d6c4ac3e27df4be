"""Agents and MCP tools through the whole engine, with secrets, against real servers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from mcp.server import MCPServer
from wfe_stack.rest import Rest
from wfe_stack.testing_model import fails, model_server, says

KEY = "sk-e2e-canary-4471"

AGENT = """
name: e2e-agent
variables:
  endpoint: {type: string, required: true}
  ticket: {type: string, required: true}
steps:
  - id: classify
    agent:
      endpoint: "${{ vars.endpoint }}"
      model: small
      api_key: "${{ secrets.E2E_MODEL_KEY }}"
      system: Sort tickets.
      prompt: "Sort: ${{ vars.ticket }}"
      schema: {type: object, properties: {topic: {type: string}}, required: [topic]}
      prices: {input: 1, output: 2}
    retry: {max_attempts: 4, initial: 100ms, max: 200ms}
output: {topic: "${{ steps.classify.output.output.topic }}", cost: "${{ steps.classify.output.cost }}"}
"""
MCP = """
name: e2e-mcp
variables:
  url: {type: string, required: true}
steps:
  - id: add
    mcp:
      server: {url: "${{ vars.url }}", auth: {bearer: "${{ secrets.E2E_MCP_KEY }}"}}
      tool: add
      arguments: {a: 2, b: 3}
    retry: {max_attempts: 1}
output: "${{ steps.add.output.structured.sum }}"
"""


async def ran(sam: Rest, template: str, given: dict):
    run = await sam.post("/api/v1/workflows", {"template_id": template, "input": given})
    return await sam.get(f"/api/v1/workflows/{run['id']}", wait_seconds=60)


async def test_an_agents_turn(sam: Rest, root: Rest, publish):
    await root.put("/api/v1/secrets/E2E_MODEL_KEY", {"value": KEY})
    replies = [fails(429, "slow down", retry_after_ms="50"), says('{"subject": 1}'), says('{"topic": "bug"}')]
    async with model_server(*replies, key=KEY) as model:
        done = await ran(sam, await publish(AGENT), {"endpoint": model.url, "ticket": "It broke"})
    assert (done["status"], done["output"]) == ("completed", {"topic": "bug", "cost": 0.00002})
    assert done["steps"][0]["attempts"] == 3, "a limit of rate, a mismatch, and the answer"
    assert model.requests[-1]["messages"][1] == {"role": "user", "content": "Sort: It broke"}
    assert KEY not in json.dumps(done)


class Guarded:
    """An MCP server that wants a token."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        server = MCPServer("e2e")

        @server.tool()
        def add(a: int, b: int) -> dict[str, int]:
            """Add two numbers."""
            return {"sum": a + b}

        self.app = server.streamable_http_app()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            token = dict(scope["headers"]).get(b"authorization", b"").decode()
            self.seen.add(token)
            if token != f"Bearer {KEY}":
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await self.app(scope, receive, send)


@pytest.fixture
async def mcp_url() -> AsyncIterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(Guarded(), log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listening]))
        async with asyncio.timeout(30):
            while not server.started:
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        server.should_exit = True
        await task


async def test_a_tool_of_an_mcp_server(sam: Rest, root: Rest, publish, mcp_url: str):
    template = await publish(MCP)
    await root.put("/api/v1/secrets/E2E_MCP_KEY", {"value": "wrong-token"})
    failed = await ran(sam, template, {"url": mcp_url})
    assert (failed["status"], failed["error"]["code"]) == ("failed", "MCP_UNAUTHORIZED")
    await root.put("/api/v1/secrets/E2E_MCP_KEY", {"value": KEY})
    done = await ran(sam, template, {"url": mcp_url})
    assert (done["status"], done["output"]) == ("completed", 5)
    assert KEY not in json.dumps(done)
