"""Sessions with MCP servers, kept open between the steps of one run.

A session may hold state on the server's side and was opened with somebody's credentials, so it is never shared
between runs. A step of the same run that comes to another executor opens one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TextIO, cast

import httpx2
import msgspec
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from wfe_egress import GuardedSession

from wfe_executor.attempts import Attempt
from wfe_executor.auth import auth_header
from wfe_executor.mcp import Server
from wfe_executor.mcp_transport import GuardedTransport
from wfe_executor.outputs import StepFailed, failure

#: Seconds a session is kept without a call, and how many of those at most.
IDLE_SECONDS = 60.0
MOST_IDLE = 64
#: Seconds to open a session.
OPEN_SECONDS = 30.0
#: Bytes of one event of a stream.
EVENT_BYTES = 20 << 20
#: Characters of a local server's stderr that a failure shows.
STDERR_CHARS = 2000

# They write addresses and messages of calls into the log, where nothing redacts them.
for _name in ("mcp", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_encode = msgspec.json.Encoder(order="sorted").encode


class Session:
    """One open session, in a task of its own: the SDK's scopes must be left by the task that entered them.

    Attributes:
        client: The SDK's client.
        transport: What is known of its HTTP; None for a local server.
        users: Calls under way.
        used_at: Monotonic time of the last call's end.
        broken: It is not to be used again.
    """

    def __init__(self, server: Server, headers: dict[str, str], http: GuardedSession) -> None:
        self.client: Client | None = None
        self.transport = GuardedTransport(http) if server.url is not None else None
        self.users = 0
        self.used_at = time.monotonic()
        self.broken = False
        self._server = server
        self._headers = headers
        self._stderr: TextIO | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._task = asyncio.create_task(self._live())

    async def ready(self) -> Client:
        """The client, once the server has answered.

        Raises:
            Exception: Whatever kept it from being opened.
        """
        await asyncio.shield(self._ready)
        assert self.client is not None
        return self.client

    async def close(self) -> None:
        """End the session, and a local server with it."""
        self.broken = True
        self._leave.set()
        done, _ = await asyncio.wait([self._task], timeout=5.0)
        if not done:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5.0)

    def stderr(self) -> str:
        """The end of what a local server said on its error output."""
        if self._stderr is None or self._stderr.closed:
            return ""
        with contextlib.suppress(OSError, ValueError):
            self._stderr.seek(0)
            return self._stderr.read()[-STDERR_CHARS:]
        return ""

    async def _live(self) -> None:
        try:
            async with self._opened() as client:
                self.client = client
                if not self._ready.done():
                    self._ready.set_result(None)
                await self._leave.wait()
        except Exception as error:  # noqa: BLE001 - whatever the SDK, the server or the network does
            if not self._ready.done():
                self._ready.set_exception(error)
                self._ready.exception()  # it may be nobody's by now
        finally:
            self.broken = True
            if not self._ready.done():
                self._ready.cancel()
            if self._stderr is not None:
                self._stderr.close()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Client]:
        server = self._server
        if self.transport is not None and server.url is not None:
            # What bounds a call's time is the step; a stream of events may be silent for long.
            http = httpx2.AsyncClient(transport=self.transport, headers=self._headers, timeout=None, trust_env=False)
            async with (
                http,
                Client(streamable_http_client(server.url, http_client=http, max_sse_event_size=EVENT_BYTES)) as client,
            ):
                yield client
            return
        self._stderr = cast(TextIO, tempfile.TemporaryFile("w+", errors="replace"))  # noqa: SIM115 - closed in _live
        parameters = StdioServerParameters(command=server.command or "", args=server.args, env=server.env)
        async with Client(stdio_client(parameters, errlog=self._stderr)) as client:
            yield client


class Sessions:
    """The open sessions of an executor.

    Args:
        http: What calls to servers go through.
        commands: What may be started: commands, each with the arguments it must begin with.
    """

    def __init__(self, http: GuardedSession, commands: Sequence[str]) -> None:
        self._http = http
        self._commands = [shlex.split(one) for one in commands]
        self._open: dict[bytes, Session] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def use(self, attempt: Attempt, server: Server) -> AsyncIterator[Session]:
        """A session with the server for one call, opened now or by an earlier step of the run.

        A block that ends with an exception other than StepFailed leaves a session nobody uses again.

        Raises:
            StepFailed: REQUEST_INVALID, MCP_COMMAND_DENIED.
        """
        headers = self._checked(attempt, server)
        key = self._key(attempt, server, headers)
        session = self._open.get(key)
        if session is None or session.broken:
            session = self._open[key] = Session(server, headers, self._http)
        session.users += 1
        try:
            yield session
        except StepFailed:
            raise
        except BaseException:
            # Also after a cancellation: the answer that is still to come must meet nobody else.
            if session.users == 1:
                session.broken = True
            raise
        finally:
            session.users -= 1
            session.used_at = time.monotonic()
            if session.broken and session.users == 0:
                self._drop(key, session)
            self._tidy()

    async def close(self) -> None:
        """End every session."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for key, session in list(self._open.items()):
            self._drop(key, session)
        while self._closing:
            await asyncio.wait(self._closing)

    def _checked(self, attempt: Attempt, server: Server) -> dict[str, str]:
        if (server.url is None) == (server.command is None):
            raise StepFailed(failure("REQUEST_INVALID", "a server has exactly one of url and command", retryable=False))
        if server.command is not None:
            words = [server.command, *server.args]
            if not any(words[: len(known)] == known for known in self._commands if known):
                raise StepFailed(
                    failure(
                        "MCP_COMMAND_DENIED",
                        f"this executor does not start {server.command[:200]!r} with these arguments;"
                        " WFE_MCP_COMMANDS names what it starts",
                        retryable=False,
                    )
                )
            return {}
        headers = {name.lower(): value for name, value in server.headers.items()}
        if server.auth is not None:
            name, value = auth_header(attempt, server.auth)
            headers[name] = value
        return headers

    def _key(self, attempt: Attempt, server: Server, headers: dict[str, str]) -> bytes:
        facts: list[Any] = [server.url, headers, server.command, server.args, server.env]
        return hashlib.sha256(attempt.lease.run + _encode(facts)).digest()

    def _drop(self, key: bytes, session: Session) -> None:
        if self._open.get(key) is session:
            del self._open[key]
        task = asyncio.create_task(session.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _tidy(self) -> None:
        """Close what has been idle for too long, or is too many; come again while there is something."""
        now = time.monotonic()
        idle = sorted(
            ((one.used_at, key, one) for key, one in self._open.items() if one.users == 0), key=lambda found: found[0]
        )
        for at, (used_at, key, session) in enumerate(idle):
            if now - used_at >= IDLE_SECONDS or len(idle) - at > MOST_IDLE or session.broken:
                self._drop(key, session)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._open:
            self._sweeper = asyncio.get_running_loop().call_later(IDLE_SECONDS / 2, self._tidy)
