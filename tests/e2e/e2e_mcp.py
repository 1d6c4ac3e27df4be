"""An MCP server of the SDK with one tool, over streamable HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from mcp.server import MCPServer


@asynccontextmanager
async def documents() -> AsyncIterator[str]:
    """Its address while the block runs; the tool is `search`."""
    server = MCPServer("docs")

    @server.tool()
    def search(query: str) -> str:
        """Search the documents."""
        return f"found: {query}"

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        running = uvicorn.Server(
            uvicorn.Config(server.streamable_http_app(), log_level="error", timeout_graceful_shutdown=1)
        )
        task = asyncio.create_task(running.serve([listening]))
        async with asyncio.timeout(30):
            while not running.started:
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        running.should_exit = True
        await task
