"""The world outside: a process of its own that steps call, and that writes down every call before it answers.

`POST /<run>/<step>` is answered with 200; `?flaky=2` answers the first two calls of an Idempotency-Key with 503,
`?broken=1` every call with 422, `?slow=50` after so many milliseconds. A body with `callback` makes it answer at that
URL, again and again until it is heard. `GET /` says when an Idempotency-Key was last seen for the first time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

import aiohttp
import msgspec
from aiohttp import web


class Call(msgspec.Struct):
    """One call, as the witness writes it down.

    Attributes:
        at: When it came; Unix seconds.
        run: UUID of the run.
        step: Name of the step, with its round.
        key: Its Idempotency-Key.
        status: What it was answered with.
    """

    at: float
    run: str
    step: str
    key: str
    status: int


class Witness:
    """The server's state."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._seen: Counter[str] = Counter()
        self._new_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, request: web.Request) -> web.Response:
        """Write a call down and answer it."""
        at, query = time.time(), request.query
        key = request.headers.get("idempotency-key", "")
        count = self._seen[key]
        self._seen[key] += 1
        if not count:
            self._new_at = at
        status = 200
        if "broken" in query:
            status = 422
        elif count < int(query.get("flaky", 0)):
            status = 503
        call = Call(at, request.match_info["run"], request.match_info["step"], key, status)
        self._out.write(msgspec.json.encode(call).decode() + "\n")
        self._out.flush()
        body: Any = await request.json()
        if isinstance(body, dict) and "callback" in body:
            task = asyncio.create_task(call_back(str(body["callback"])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.sleep(int(query.get("slow", 0)) / 1000)
        return web.json_response({"count": count}, status=status)

    async def latest(self, _: web.Request) -> web.Response:
        """When a key was last seen for the first time."""
        return web.json_response({"new_at": self._new_at})


async def call_back(url: str) -> None:
    """Answer a callback until somebody says yes, or that it was answered before."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        while True:
            try:
                async with session.post(url, json={"payload": {"scanned": True}}) as answer:
                    if answer.status < 500 and answer.status not in (404, 429, 499):
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.3)


async def serve(path: Path) -> None:
    """Serve until killed; the port is the first line on standard output."""
    with path.open("a") as out:
        witness = Witness(out)
        app = web.Application()
        app.router.add_post("/{run}/{step}", witness.answer)
        app.router.add_get("/", witness.latest)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sys.stdout.write(f"{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        # Its parent holds the other end; when that goes, so does this process.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
