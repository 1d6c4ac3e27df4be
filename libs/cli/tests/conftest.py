from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner
from wfe_cli.main import app

TEMPLATE = "0190163d-8694-739b-aea5-000000000001"
RUN = "0190163d-8694-739b-aea5-000000000002"
GATE = "0190163d-8694-739b-aea5-000000000003"


def a_run(**changes: Any) -> dict[str, Any]:
    """A run as the server shows it."""
    return {
        "id": RUN,
        "status": "running",
        "phase": "",
        "reason": "",
        "notice": "",
        "template": {"id": TEMPLATE, "name": "hello", "version": 2},
        "labels": {"team": "web"},
        "created_at": "2026-01-01T10:00:00Z",
        "started_at": "2026-01-01T10:00:00Z",
        "steps": [{"path": "greet", "kind": "call", "status": "running", "attempts": 1, "max_attempts": 3}],
        "events": [],
        "events_total": 0,
        "approvals": [],
        **changes,
    }


def a_refusal(reason: str, message: str, **violations: str) -> dict[str, Any]:
    """An error as the server says it."""
    details: list[dict[str, Any]] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    if violations:
        found = [{"field": name, "description": text} for name, text in violations.items()]
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "field_violations": found})
    return {"code": 3, "message": message, "details": details}


@dataclass
class Asked:
    """A request the server got."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeServer:
    """Answers by method and path, in a thread of its own, as commands run loops of their own."""

    RUN = RUN
    TEMPLATE = TEMPLATE
    GATE = GATE
    run = staticmethod(a_run)
    refusal = staticmethod(a_refusal)

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], list[tuple[int, Any]]] = field(default_factory=dict)

    def on(self, method: str, path: str, body: Any, status: int = 200) -> None:
        """Answer a call; the last answer for it goes on for ever."""
        self.answers.setdefault((method, path), []).append((status, body))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.asked.append(
            Asked(
                request.method,
                request.path,
                dict(request.query),
                {name.lower(): value for name, value in request.headers.items()},
                json.loads(text) if text else None,
            )
        )
        known = self.answers.get((request.method, request.path))
        if not known:
            return web.json_response(a_refusal("NOT_FOUND", f"nothing at {request.path}"), status=404)
        status, body = known.pop(0) if len(known) > 1 else known[0]
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/event-stream")
        return web.json_response(body, status=status)


@pytest.fixture
def server():
    found = FakeServer()
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    ended = asyncio.Event()

    async def serve() -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", found.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    yield found
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


@pytest.fixture
def wfe(server, tmp_path, monkeypatch):
    """Runs a command against the server, with keys of the three people."""
    monkeypatch.chdir(tmp_path)
    for name in ("WFE_URL", "WFE_API_KEY", "WFE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".wfe").mkdir()
    keys = {name: f"wfe_{name}" for name in ("sam", "ada", "root")}
    (tmp_path / ".wfe" / "keys.json").write_text(json.dumps(keys))

    def run(*words: str, input: str | None = None):
        return CliRunner().invoke(app, ["--url", server.url, *words], input=input)

    return run
