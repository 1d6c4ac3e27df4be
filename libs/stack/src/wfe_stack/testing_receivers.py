"""Receivers of webhooks: a real web server that answers as each path is told to, and events for them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from wfe_store.pool import Database

from wfe_stack.testing_rows import add_run

Behaviour = Callable[["Got"], Awaitable[web.Response]]


@dataclass(frozen=True)
class Got:
    """A call that came in.

    Attributes:
        path: Of its URL.
        headers: By name in lower case.
        body: As it was sent.
        at: When, on the loop's clock.
    """

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent it carries."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receivers:
    """Answers 204 unless a path is told otherwise; keeps every call."""

    def __init__(self) -> None:
        self.calls: list[Got] = []
        self.url = ""
        self._behaviours: dict[str, Behaviour] = {}
        self._came = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Receivers:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def behave(self, path: str, behaviour: Behaviour) -> None:
        """Let a path answer by a function."""
        self._behaviours[path] = behaviour

    def answer(self, path: str, status: int, headers: dict[str, str] | None = None, text: str = "") -> None:
        """Let a path answer always the same."""

        async def fixed(_got: Got) -> web.Response:
            return web.Response(status=status, headers=headers, text=text)

        self.behave(path, fixed)

    def at(self, path: str) -> list[Got]:
        """The calls of a path so far, oldest first."""
        return [got for got in self.calls if got.path == path]

    async def wait(self, path: str, count: int, seconds: float = 20) -> list[Got]:
        """The calls of a path, once there are that many."""
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: len(self.at(path)) >= count)
        return self.at(path)

    async def _answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        got = Got(request.path, headers, await request.read(), asyncio.get_running_loop().time())
        async with self._came:
            self.calls.append(got)
            self._came.notify_all()
        behaviour = self._behaviours.get(request.path)
        return await behaviour(got) if behaviour else web.Response(status=204)


async def tell(
    database: Database,
    owner_id: uuid.UUID,
    started_by: uuid.UUID,
    kinds: Iterable[str] = ("run.created",),
    *,
    run_id: uuid.UUID | None = None,
    first_seq: int = 1,
    data: str = "{}",
) -> uuid.UUID:
    """Events of a run with their entry in the outbox, as a commit of the scheduler writes them."""
    if run_id is None:
        run_id = await add_run(database, owner_id, started_by)
    kinds = list(kinds)

    async def work(connection: Any) -> None:
        for seq, kind in enumerate(kinds, first_seq):
            await connection.execute(
                "INSERT INTO events (run_id, seq, at, type, actor, data)"
                " VALUES (%s, %s, clock_timestamp(), %s, 'system', %s)",
                (run_id, seq, kind, data),
            )
        await connection.execute(
            "INSERT INTO webhook_outbox (owner_id, run_id, first_seq, last_seq) VALUES (%s, %s, %s, %s)",
            (owner_id, run_id, first_seq, first_seq + len(kinds) - 1),
        )

    await database.transaction(work)
    return run_id
