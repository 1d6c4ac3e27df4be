"""A web site on the loopback for the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class Site:
    """Answers whatever the test put under a path, and keeps the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[Any, bytes]] = []
        self.url = ""
        self.silent = asyncio.Event()
        self.silent.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request, body))
        await self.silent.wait()
        answer = self.answers.get(request.path)
        if answer is None:
            return web.Response(status=404)
        made = answer(request, body) if answer.__code__.co_argcount else answer()
        return await made if asyncio.iscoroutine(made) else made


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    """A site while the block runs."""
    made = Site()
    app = web.Application(client_max_size=10**8)
    app.router.add_route("*", "/{path:.*}", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        made.silent.set()
        await runner.cleanup()
