"""A client of the REST API: what the command line, the samples and the tests speak with.

Answers are plain JSON values. Calls that are safe to repeat are repeated while the server is away or busy.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from wfe_stack.lazily import Lazily

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = Lazily("aiohttp")

#: Seconds a call that is safe to repeat is repeated for.
REPEAT_SECONDS = 20.0
_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE = 2.0
#: Answers after which the same call may succeed a moment later. 499: the service ended as the call arrived.
_PASSING = frozenset({429, 499, 502, 503, 504})
ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request."""

    field: str
    description: str


class RestFault(Exception):
    """A call did not succeed; the message is one line."""


class Unreachable(RestFault):
    """There was no answer."""


class Refused(RestFault):
    """The server refused the call.

    Attributes:
        status: HTTP status.
        reason: Code of the error, e.g. RUN_NOT_PAUSED; empty when the answer names none.
        message: One sentence for people.
        metadata: Facts that go with the reason.
        violations: What is wrong with which field.
        body: The answer as JSON, or its text.
    """

    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self.body = body
        error = body if isinstance(body, dict) else {}
        said = body if isinstance(body, str) and body else f"HTTP {status}"
        self.message = str(error.get("message") or said)
        self.reason = ""
        self.metadata: dict[str, Any] = {}
        violations: list[Violation] = []
        for detail in error.get("details") or ():
            kind = str(detail.get("@type", "")).rpartition("/")[2]
            if kind == "google.rpc.ErrorInfo":
                self.reason = detail.get("reason", "")
                self.metadata = detail.get("metadata") or {}
            elif kind == "google.rpc.BadRequest":
                found = detail.get("field_violations") or detail.get("fieldViolations") or ()
                violations += [Violation(v.get("field", ""), v.get("description", "")) for v in found]
        self.violations = tuple(violations)
        super().__init__(self.message)


class Rest:
    """The REST API as one caller; an async context manager.

    Args:
        url: Base URL, e.g. http://127.0.0.1:8080.
        key: API key or token; None to call without.
        repeat_seconds: How long calls that are safe to repeat are repeated.
    """

    def __init__(self, url: str, key: str | None, *, repeat_seconds: float = REPEAT_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._repeat_seconds = repeat_seconds
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=90)
        # One read buffer must hold the longest line of a watch.
        self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, read_bufsize=1 << 20)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def get(self, path: str, **query: Any) -> Any:
        """GET, repeated while the server is away. Query values that are None are left out."""
        return await self.call("GET", path, query=query, repeat=True)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None) -> Any:
        """POST a JSON object, once; with an idempotency key, repeated while the server is away."""
        return await self.call("POST", path, body=body or {}, key=key, repeat=key is not None)

    async def put(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """PUT a JSON object, repeated while the server is away."""
        return await self.call("PUT", path, body=body or {}, repeat=True)

    async def delete(self, path: str) -> Any:
        """DELETE, repeated while the server is away."""
        return await self.call("DELETE", path, repeat=True)

    async def start(self, body: Mapping[str, Any], *, key: str | None = None) -> dict[str, Any]:
        """Start a run. Always with an idempotency key, so that a lost answer never starts a second run."""
        run: dict[str, Any] = await self.post("/api/v1/workflows", body, key=key or str(uuid.uuid4()))
        return run

    async def wait_ended(self, run_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """The run, once it completed, failed or was cancelled.

        Raises:
            TimeoutError: It did not in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = max(1, min(30, int(deadline - time.monotonic())))
            run: dict[str, Any] = await self.get(f"/api/v1/workflows/{run_id}", wait_seconds=left)
            if run["status"] in ENDED:
                return run
            if time.monotonic() > deadline:
                raise TimeoutError(f"the run {run_id} is {run['status']} after {seconds:g} s")

    async def watch(self, run_id: str, after: int = 0) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a run as they happen, until it has ended. A lost stream is taken up again."""
        seq = after
        failing_since: float | None = None
        patience = self._repeat_seconds
        while True:
            try:
                async for event in self._events(run_id, seq):
                    failing_since = None
                    # There was a stream, so there is a server, and it will come back.
                    patience = max(patience, REPEAT_SECONDS)
                    seq = event["seq"]
                    yield event
                run = await self.get(f"/api/v1/workflows/{run_id}")
                if run["status"] in ENDED and run["events_total"] <= seq:
                    return
            except (Unreachable, Refused) as fault:
                if isinstance(fault, Refused) and fault.status not in _PASSING:
                    raise
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > patience:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        key: str | None = None,
        repeat: bool = False,
    ) -> Any:
        """Any call.

        Args:
            method: HTTP method.
            path: Path, with a leading slash.
            query: Query parameters; those that are None are left out.
            body: JSON body; none when None.
            key: Idempotency key.
            repeat: Whether to repeat the call while the server is away or busy.

        Raises:
            Refused: The server said no.
            Unreachable: It did not answer.
        """
        deadline = time.monotonic() + (self._repeat_seconds if repeat else 0)
        pause = _PAUSE_SECONDS
        while True:
            try:
                return await self._once(method, path, query or {}, body, key)
            except (Unreachable, Refused) as fault:
                passing = isinstance(fault, Unreachable) or fault.status in _PASSING
                if not passing or time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def _once(self, method: str, path: str, query: Mapping[str, Any], body: Any, key: str | None) -> Any:
        params = [(name, text) for name, value in query.items() for text in _texts(value)]
        headers = {"idempotency-key": key} if key else {}
        data = None
        if body is not None:
            headers["content-type"] = "application/json"
            # A stream: the client warns of large bytes.
            data = io.BytesIO(json.dumps(body).encode())
        try:
            async with self._session.request(
                method, self.url + path, params=params, data=data, headers=headers
            ) as answer:
                text = await answer.text()
                if answer.status >= 400:
                    raise Refused(answer.status, _parsed(text))
                return _parsed(text)
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise Unreachable(f"{self.url} does not answer: {_why(fault)}") from fault

    async def _events(self, run_id: str, after: int) -> AsyncIterator[dict[str, Any]]:
        timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=None)
        try:
            async with self._session.get(
                f"{self.url}/api/v1/workflows/{run_id}/watch",
                params={"after": str(after)},
                headers={"accept": "text/event-stream"},
                timeout=timeout,
            ) as answer:
                if answer.status >= 400:
                    raise Refused(answer.status, _parsed(await answer.text()))
                async for line in answer.content:
                    if line.startswith(b"data:"):
                        event = json.loads(line[5:])
                        if "seq" not in event:  # an error after the stream began
                            raise Unreachable(f"the watch ended: {event.get('message', 'no reason given')}")
                        yield event
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as fault:
            raise Unreachable(f"{self.url} does not answer: {_why(fault)}") from fault


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return [str(value)]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text.strip()


def _why(fault: BaseException) -> str:
    if isinstance(fault, aiohttp.ClientConnectorError):
        return fault.os_error.strerror or "no connection"
    return str(fault) or type(fault).__name__
