"""An MCP server made with the SDK: over stdio when run, over HTTP by `app`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

#: What the tools were called with, and tools that were cancelled.
calls: list[Any] = []
cancelled: list[str] = []

server = MCPServer("tests")
#: Counts within one process: state a session would find again.
counter = {"value": 0}


@server.tool()
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    calls.append((a, b))
    return {"sum": a + b}


@server.tool()
def count() -> str:
    """How often this process was asked."""
    counter["value"] += 1
    return f"asked {counter['value']} times by {os.getpid()}"


@server.tool()
def fail(text: str) -> str:
    """Fail."""
    raise ToolError(f"it did not work: {text}")


@server.tool()
def environment(name: str) -> str:
    """A variable of the server's environment."""
    return os.environ.get(name, "unset")


@server.tool()
async def slow(seconds: float, ctx: Context) -> str:
    """Wait, telling how far it is."""
    calls.append("slow")
    try:
        await ctx.report_progress(1, 2, "half")
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        cancelled.append("slow")
        raise
    return "done"


@server.tool()
def trace(ctx: Context) -> str:
    """The trace context that came with the call."""
    return str((ctx.request_context.meta or {}).get("traceparent"))


@server.tool()
def die() -> str:
    """End the process."""
    sys.stderr.write("last words\n")
    sys.stderr.flush()
    os._exit(3)


if __name__ == "__main__":
    server.run("stdio")
