"""`mcp` steps: what they are, and MCP's SDK brought in when the first of them comes."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from wfe_bus.messages import Failure
from wfe_egress import GuardedSession

from wfe_executor.attempts import Attempt
from wfe_executor.auth import Auth

if TYPE_CHECKING:
    from wfe_executor.mcp_client import McpClient


class Server(msgspec.Struct):
    """A server to call (url), or to start (command)."""

    url: str | None = None
    headers: dict[str, str] = {}
    auth: Auth | None = None
    command: str | None = None
    args: list[str] = []
    env: dict[str, str] = {}


class McpRequest(msgspec.Struct):
    """The request of an `mcp` step.

    Attributes:
        server: Where the tool is.
        tool: Its name there.
        arguments: What it is given.
    """

    server: Server
    tool: str
    arguments: dict[str, Any] = {}


class Mcp:
    """Calls and lists tools. Importing the SDK takes a second or more, which executors without such steps save.

    Args:
        http: What calls to servers go through.
        commands: What may be started; see `Settings.commands`.
    """

    def __init__(self, http: GuardedSession, commands: Sequence[str]) -> None:
        self._http = http
        self._commands = commands
        self._client: McpClient | None = None
        self._lock = asyncio.Lock()

    async def run(self, attempt: Attempt, request: McpRequest) -> bytes | Failure:
        """See `McpClient.run`."""
        return await (await self._loaded()).run(attempt, request)

    async def tools(self, attempt: Attempt, server: Server) -> list[dict[str, Any]]:
        """See `McpClient.tools`."""
        return await (await self._loaded()).tools(attempt, server)

    async def close(self) -> None:
        """End every session."""
        if self._client is not None:
            await self._client.close()

    async def _loaded(self) -> McpClient:
        async with self._lock:
            if self._client is None:
                # In a thread: heartbeats go on meanwhile.
                module = await asyncio.to_thread(importlib.import_module, "wfe_executor.mcp_client")
                self._client = module.McpClient(self._http, self._commands)
            return self._client
