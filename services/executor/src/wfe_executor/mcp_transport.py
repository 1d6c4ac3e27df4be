"""Carries the HTTP of MCP's SDK over the guarded session, so that the same rules hold for it as for every call."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import httpx2
from wfe_egress import EgressDenied, GuardedSession

#: Bytes of one answer that is not a stream of events.
ANSWER_BYTES = 20 << 20

# The other client's own business, or no longer true once the body is decompressed.
_NOT_SENT = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "user-agent"})
_NOT_TAKEN = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class GuardedTransport(httpx2.AsyncBaseTransport):
    """A transport of httpx2 that makes its calls with a guarded session.

    Attributes:
        denied: Why the guard refused a call; None as long as it did not. The SDK would hide it.
        status: Status of the last answer that was an error; 0 without one.
        retry_after: What its Retry-After said; None without one.
    """

    def __init__(self, session: GuardedSession) -> None:
        self._session = session
        self.denied: EgressDenied | None = None
        self.status = 0
        self.retry_after: str | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See AsyncBaseTransport."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_SENT}
        body = await request.aread()
        try:
            answer = await self._session.stream(request.method, str(request.url), headers=headers, body=body or None)
        except EgressDenied as error:
            self.denied = error
            raise httpx2.ConnectError(str(error), request=request) from error
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("the call timed out", request=request) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise httpx2.ConnectError(f"{type(error).__name__}: {error}", request=request) from error
        if answer.status >= 400:
            self.status, self.retry_after = answer.status, answer.headers.get("retry-after")
        given = [(name, value) for name, value in answer.headers.items() if name.lower() not in _NOT_TAKEN]
        return httpx2.Response(answer.status, headers=given, stream=_Body(answer, request), request=request)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse, request: httpx2.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        endless = self._answer.content_type == "text/event-stream"
        size = 0
        try:
            async for part in self._answer.content.iter_any():
                size += len(part)
                if size > ANSWER_BYTES and not endless:
                    raise httpx2.ReadError(f"the answer is larger than {ANSWER_BYTES} bytes", request=self._request)
                yield part
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.ReadError(f"{type(error).__name__}: {error}", request=self._request) from error

    async def aclose(self) -> None:
        self._answer.close()
