"""A server outside of the engine that steps call: it counts, and answers as a test tells it to."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Call:
    """One call.

    Attributes:
        at: When it arrived; Unix seconds.
        key: Its Idempotency-Key.
        body: Its JSON, or None.
        headers: By lower-case name.
        dropped_at: When the caller hung up before it was answered; None when it did not.
    """

    at: float
    key: str
    body: Any
    headers: dict[str, str]
    dropped_at: float | None = None


@dataclass
class Place:
    """One path of the witness.

    Attributes:
        calls: In the order they came.
        answers: (status, headers) of the next answers; a header may be a function that gives its value. 200 when
            there is none left.
        gate: Calls wait here before they are answered.
        delay: Seconds before an answer.
    """

    calls: list[Call] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str | Callable[[], str]]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    delay: float = 0.0

    def __post_init__(self) -> None:
        self.gate.set()

    def hold(self) -> None:
        """Answer nothing until `release`."""
        self.gate.clear()

    def release(self) -> None:
        """Answer what waits and what comes."""
        self.gate.set()

    def answer(self, status: int, times: int = 1, **headers: str | Callable[[], str]) -> None:
        """Answer the next calls so; underscores in the names of headers stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers += [(status, named)] * times

    @property
    def keys(self) -> list[str]:
        """Idempotency-Keys of the calls, in order."""
        return [call.key for call in self.calls]


class Witness:
    """The server; an async context manager. Any path there is; `witness[path]` is its place."""

    def __init__(self) -> None:
        self.url = ""
        self._places: defaultdict[str, Place] = defaultdict(Place)
        self._runner: web.AppRunner | None = None

    def __getitem__(self, path: str) -> Place:
        return self._places[path]

    async def __aenter__(self) -> Witness:
        app = web.Application(client_max_size=32 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        place = self._places[request.match_info["path"]]
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.json() if request.content_type == "application/json" else None
        call = Call(time.time(), headers.get("idempotency-key", ""), body, headers)
        place.calls.append(call)
        number = len(place.calls)
        try:
            await place.gate.wait()
            await asyncio.sleep(place.delay)
        except asyncio.CancelledError:
            call.dropped_at = time.time()
            raise
        status, named = place.answers.pop(0) if place.answers else (200, {})
        made = {name: value if isinstance(value, str) else value() for name, value in named.items()}
        return web.json_response({"call": number, "got": body}, status=status, headers=made)
