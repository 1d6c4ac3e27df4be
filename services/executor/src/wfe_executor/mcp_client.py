"""Runs `mcp` steps with MCP's SDK: one call of a tool of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from mcp import Client, MCPError
from mcp.types import CallToolResult, RequestParamsMeta
from wfe_bus.messages import Failure
from wfe_egress import GuardedSession

from wfe_executor.attempts import Attempt
from wfe_executor.http_answers import is_retryable, retry_after
from wfe_executor.mcp import McpRequest, Server
from wfe_executor.mcp_sessions import OPEN_SECONDS, Session, Sessions
from wfe_executor.outputs import StepFailed, clean, encoded, failure

#: Seconds for a call of a step without an attempt timeout.
CALL_SECONDS = 300.0
#: Pages of a server's list of tools.
MOST_PAGES = 50

T = TypeVar("T")

#: JSON-RPC: the request is at fault, not the moment.
_INVALID = frozenset({-32600, -32601, -32602, -32700})


class McpClient:
    """Calls and lists tools; see `Mcp`."""

    def __init__(self, http: GuardedSession, commands: Sequence[str]) -> None:
        self._sessions = Sessions(http, commands)

    async def close(self) -> None:
        """End every session."""
        await self._sessions.close()

    async def run(self, attempt: Attempt, request: McpRequest) -> bytes | Failure:
        """Call the tool.

        Returns:
            JSON of {"structured", "text", "content"}: the structured content or null, the texts joined, and every
            block as the server sent it. Or the failure: MCP_TOOL_ERROR when the tool says that it failed,
            MCP_INVALID_CALL, MCP_CONNECTION_ERROR, MCP_UNAUTHORIZED, MCP_TIMEOUT, EGRESS_DENIED,
            MCP_COMMAND_DENIED, or of the output's gate.

        Raises:
            StepFailed: Some of these failures.
        """
        attempt.begin()

        async def told(progress: float, total: float | None, message: str | None) -> None:
            attempt.beat({"done": progress, "of": total, "message": message})

        async def call(session: Session) -> CallToolResult:
            client = await self._opened(session)
            return await client.call_tool(
                request.tool,
                request.arguments,
                read_timeout_seconds=None if attempt.lease.attempt_timeout is not None else CALL_SECONDS,
                progress_callback=told,
                meta=cast(RequestParamsMeta, _meta(attempt)),
            )

        result = await self._in_session(attempt, request.server, call)
        output = _output(result)
        if result.is_error:
            details = {"tool": request.tool, "text": clean(output["text"], 4000)}
            message = clean(output["text"], 1000) or "the tool failed without saying why"
            return failure("MCP_TOOL_ERROR", message, details=details)
        return encoded(output)

    async def tools(self, attempt: Attempt, server: Server) -> list[dict[str, Any]]:
        """Every tool of a server: name, description, and its JSON Schema under "parameters".

        Raises:
            StepFailed: As for `run`.
        """

        async def listing(session: Session) -> list[dict[str, Any]]:
            client = await self._opened(session)
            found: list[dict[str, Any]] = []
            cursor: str | None = None
            for _ in range(MOST_PAGES):
                page = await client.list_tools(cursor=cursor)
                found += [
                    {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}
                    for tool in page.tools
                ]
                cursor = page.next_cursor
                if cursor is None:
                    break
            return found

        return await self._in_session(attempt, server, listing)

    async def _opened(self, session: Session) -> Client:
        async with asyncio.timeout(OPEN_SECONDS):
            return await session.ready()

    async def _in_session(self, attempt: Attempt, server: Server, work: Callable[[Session], Awaitable[T]]) -> T:
        problem: StepFailed
        async with self._sessions.use(attempt, server) as session:
            try:
                return await work(session)
            except StepFailed:
                raise
            except MCPError as error:
                if error.code not in _INVALID:
                    session.broken = True
                problem = StepFailed(_of_error(session, error))
            except TimeoutError:
                session.broken = True
                problem = StepFailed(failure("MCP_TIMEOUT", "the server did not answer in time"))
            except Exception as error:  # noqa: BLE001 - whatever the SDK, the server or the network does
                session.broken = True
                problem = StepFailed(_of_connection(session, error))
            raise problem


def _meta(attempt: Attempt) -> dict[str, str]:
    # A server that knows the key can tell a second attempt from a second call. Sessions are shared, so the trace goes
    # with the message and not in a header.
    meta = {"wfe/idempotency-key": attempt.lease.idempotency_key}
    if attempt.lease.traceparent:
        meta["traceparent"] = attempt.lease.traceparent
    return meta


def _output(result: CallToolResult) -> dict[str, Any]:
    content = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]
    texts = [block["text"] for block in content if block.get("type") == "text"]
    return {"structured": result.structured_content, "text": "\n".join(texts), "content": content}


def _of_error(session: Session, error: MCPError) -> Failure:
    known = _of_http(session)
    if known is not None:
        return known
    details: dict[str, Any] = {"code": error.code} | ({"data": error.data} if error.data is not None else {})
    if error.code in _INVALID:
        return failure("MCP_INVALID_CALL", error.message, retryable=False, details=details)
    return failure("MCP_CONNECTION_ERROR", error.message, details=details | _said(session))


def _of_connection(session: Session, error: BaseException) -> Failure:
    known = _of_http(session)
    if known is not None:
        return known
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, MCPError):
        return _of_error(session, error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return failure("MCP_CONNECTION_ERROR", f"the server cannot be reached: {text}", details=_said(session))


def _of_http(session: Session) -> Failure | None:
    """What the server's HTTP said, which the SDK hides behind an error of its own; None when it said nothing."""
    transport = session.transport
    if transport is None:
        return None
    if transport.denied is not None:
        error = transport.denied
        return failure(error.reason, str(error), retryable=False, details=error.metadata)
    status = transport.status
    if status in (401, 403):
        return failure("MCP_UNAUTHORIZED", f"the server answered {status}", retryable=False, details={"status": status})
    if status and is_retryable(status):
        return failure(
            "MCP_CONNECTION_ERROR",
            f"the server answered {status}",
            retry_after=retry_after(transport.retry_after),
            details={"status": status},
        )
    return None


def _said(session: Session) -> dict[str, Any]:
    text = session.stderr()
    return {"stderr": clean(text, 2000)} if text else {}
