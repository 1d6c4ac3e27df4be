"""The rest of the world, for templates of the gallery: what their handlers and their HTTP calls reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP that is not a plain 200."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """A handler fails."""

    code: str
    retryable: bool = False


@dataclass
class Stage:
    """Answers `METHOD /path` as `script` says: with a value, the next of a list (the last goes on), or what a function
    makes of the query and the JSON body. Handlers are `POST /handlers/<name>`.

    Attributes:
        url: Without a slash at its end.
        script: What to answer; anything else gets 404.
        heard: Method with path, and body, of every call in order.
    """

    url: str = ""
    script: dict[str, Any] = field(default_factory=dict)
    heard: list[tuple[str, Any]] = field(default_factory=list)

    async def __aenter__(self) -> Stage:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def play(self, script: dict[str, Any]) -> None:
        """Answer by this script from now on, and forget what was heard."""
        self.script = {key: list(value) if isinstance(value, list) else value for key, value in script.items()}
        self.heard = []

    def inputs(self, handler: str) -> list[Any]:
        """What a handler was called with."""
        return [body["input"] for key, body in self.heard if key == f"POST /handlers/{handler}"]

    async def _serve(self, request: web.Request) -> web.Response:
        key = f"{request.method} {request.path}"
        body = await request.json() if request.can_read_body else None
        self.heard.append((key, body))
        if key not in self.script:
            return web.json_response({"error": f"nothing plays {key}"}, status=404)
        said = self.script[key]
        if isinstance(said, list):
            said = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(said, Callable):
            said = said({**request.query, **(body or {})})
        if isinstance(said, Fault):
            return web.json_response({"error": {"code": said.code, "retryable": said.retryable}})
        if request.path.startswith("/handlers/"):
            return web.json_response({"output": said})
        reply = said if isinstance(said, Reply) else Reply(200, said)
        return web.json_response(reply.body, status=reply.status, headers=reply.headers)
