"""HTTP calls that pass the guard: checked URL, checked addresses, bounded answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from wfe_egress.guard import EgressDenied, Guard

#: Bytes of a body that are read when the call does not say.
ANSWER_BYTES = 1024 * 1024

#: Seconds to connect, all addresses together.
CONNECT_SECONDS = 10.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OF_ORIGIN = ("authorization", "cookie", "proxy-authorization")
_OF_BODY = ("content-type", "content-length", "content-encoding")


class AnswerTooLarge(Exception):
    """The body went over the limit; reading stopped and the connection was closed.

    Attributes:
        status: HTTP status of the answer.
        limit: Bytes that were allowed, after decompression.
    """

    reason = "RESPONSE_TOO_LARGE"

    def __init__(self, status: int, limit: int) -> None:
        self.status = status
        self.limit = limit
        super().__init__(f"the body is larger than {limit} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status.
        headers: As they came; names compare without case.
        body: All of it, decompressed.
        url: Where it came from.
        hops: Redirects that were followed to get there.
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    url: str
    hops: int = 0

    def text(self) -> str:
        """The body as text by the charset it names, UTF-8 without one; what does not fit becomes U+FFFD."""
        kind = self.headers.get("content-type", "")
        charset = kind.lower().partition("charset=")[2].split(";")[0].strip(" \"'") or "utf-8"
        try:
            return self.body.decode(charset, "replace")
        except (LookupError, ValueError):
            return self.body.decode("utf-8", "replace")


class GuardedResolver(AbstractResolver):
    """A resolver that gives addresses only if every one of them passes the guard.

    The connection is made to exactly these addresses, so a name that changes its mind between check and
    connection (DNS rebinding) gains nothing.
    """

    def __init__(self, guard: Guard, inner: AbstractResolver | None = None) -> None:
        self._guard = guard
        self._inner = inner or ThreadedResolver()
        self.vouched: dict[str, None] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See AbstractResolver.

        Raises:
            EgressDenied: One address did not pass, or there was none.
            OSError: The name could not be resolved.
        """
        found = await self._inner.resolve(host, port, family)
        if not found:
            raise EgressDenied(host, "the name has no address")
        for entry in found:
            self._guard.check_address(host, entry["host"])
        if self._guard.allows_host(host):
            for entry in found:
                self.vouched[entry["host"]] = None
            while len(self.vouched) > 1000:
                self.vouched.pop(next(iter(self.vouched)))
        return found

    async def close(self) -> None:
        """See AbstractResolver."""
        await self._inner.close()


class GuardedSession:
    """Makes HTTP calls through a guard; keeps connections open between calls. Close it, or use `async with`.

    No cookies, no proxies and no .netrc from the environment, no redirects unless asked for.
    """

    def __init__(self, guard: Guard, *, resolver: AbstractResolver | None = None, limit: int = 200) -> None:
        self._guard = guard
        self._resolver = GuardedResolver(guard, resolver)
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            limit=limit,
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            raise_for_status=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers={"User-Agent": "wfe"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        await self._resolver.close()

    async def request(
        self,
        method: str,
        url: str | URL,
        *,
        headers: Mapping[str, str] | None = None,
        params: list[tuple[str, str]] | None = None,
        body: bytes | None = None,
        timeout: float | None = 60.0,  # noqa: ASYNC109 - covers the whole exchange, redirects included
        max_bytes: int = ANSWER_BYTES,
        redirects: int = 0,
        private: Collection[str] = (),
    ) -> Answer:
        """Make one call and read its answer.

        Args:
            method: Any HTTP method.
            url: http or https, without user and password.
            headers: Sent as they are; Host and lengths are the client's own.
            params: Added to the URL's query.
            body: Bytes to send; the caller names their content type.
            timeout: Seconds for everything; None without limit.
            max_bytes: Largest body that is read, after decompression.
            redirects: How many to follow; each hop is checked like the first. 0 gives back the 3xx itself.
            private: Headers that are for this origin alone; a hop to another one goes without them, and without
                authorization and cookies.

        Raises:
            EgressDenied: The guard refused the URL, an address of it, or a hop.
            AnswerTooLarge: The body is larger than max_bytes.
            TimeoutError: It took longer than the timeout.
            aiohttp.ClientError, OSError: The call failed on the way.
            ValueError: The method or a header cannot be sent.
        """
        target = self._guard.check_url(url)
        if params:
            target = target.extend_query(params)
        sent = CIMultiDict(headers or {})
        hops = 0
        async with asyncio.timeout(timeout):
            while True:
                answer, location = await self._once(method, target, sent, body, max_bytes, redirects > 0)
                if location is None:
                    return replace(answer, hops=hops)
                redirects -= 1
                hops += 1
                hop = self._hop(target, location)
                if answer.status == 303 or (answer.status in (301, 302) and method.upper() == "POST"):
                    method, body = "GET", None
                    _drop(sent, _OF_BODY)
                if hop.origin() != target.origin():
                    _drop(sent, (*_OF_ORIGIN, *private))
                target = hop

    async def stream(
        self, method: str, url: str | URL, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """Make one call and give back its answer unread; no redirects, no limit of time or size. Close it.

        Raises:
            EgressDenied: The guard refused the URL or an address of it.
            aiohttp.ClientError, OSError: The call failed on the way.
            ValueError: The method or a header cannot be sent.
        """
        target = self._guard.check_url(url)
        return await self._session.request(method, target, headers=headers, data=body, allow_redirects=False)

    async def _once(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes | None,
        max_bytes: int,
        follow: bool,
    ) -> tuple[Answer, str | None]:
        async with self._session.request(method, url, headers=headers, data=body, allow_redirects=False) as response:
            location = response.headers.get("location") if response.status in _REDIRECTS else None
            follow = follow and location is not None
            read = b"" if follow else await _read(response, max_bytes)
            answer = Answer(status=response.status, headers=response.headers, body=read, url=str(url))
            return answer, location if follow else None

    def _hop(self, origin: URL, location: str) -> URL:
        try:
            target = origin.join(URL(location))
        except (ValueError, LookupError) as error:  # the last for "http://[::1]@"
            raise EgressDenied(origin.host or "", "it redirects to something that is not a URL") from error
        return self._guard.check_url(target)

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for one address: the last check, on the very address that is connected to."""
        family, kind, proto, _, sockaddr = info
        address = str(sockaddr[0])
        if address not in self._resolver.vouched:
            self._guard.check_address(address, address)
        made = socket.socket(family, kind, proto)
        made.setblocking(False)
        return made


def guarded_session(guard: Guard, *, resolver: AbstractResolver | None = None, limit: int = 200) -> GuardedSession:
    """A session whose every call passes the guard. Needs a running loop.

    Args:
        guard: The rules.
        resolver: Where names are looked up; the system's resolver by default. Its answers are checked.
        limit: Connections at one time.
    """
    return GuardedSession(guard, resolver=resolver, limit=limit)


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    if (response.content_length or 0) > max_bytes and response.method != "HEAD":
        response.close()
        raise AnswerTooLarge(response.status, max_bytes)
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > max_bytes:
            response.close()
            raise AnswerTooLarge(response.status, max_bytes)
        parts.append(part)
    return b"".join(parts)


def _drop(headers: CIMultiDict[str], names: Collection[str]) -> None:
    for name in names:
        headers.popall(name, None)
