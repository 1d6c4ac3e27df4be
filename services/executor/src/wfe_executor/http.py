"""Runs `http` steps: one call through the egress guard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from wfe_bus.messages import OUTPUT_BYTES, Failure
from wfe_egress import AnswerTooLarge, EgressDenied, GuardedSession

from wfe_executor.attempts import Attempt
from wfe_executor.auth import Auth, auth_header
from wfe_executor.http_answers import matches, output_of, unexpected
from wfe_executor.outputs import StepFailed, encoded, failure

#: Seconds for a call of a step without an attempt timeout.
CALL_SECONDS = 300.0
#: Bytes of an answer's body, when the step does not say.
ANSWER_BYTES = 512 * 1024
#: Redirects that are followed at most.
MOST_REDIRECTS = 10

_CLASS = re.compile(r"[1-5]xx\Z")
_METHOD = re.compile(r"[A-Z]{1,20}\Z")
_READS = ("auto", "json", "text", "bytes")

_encode = msgspec.json.Encoder().encode


class HttpRequest(msgspec.Struct):
    """The request of an `http` step.

    Attributes:
        method: Any HTTP method.
        url: http or https.
        headers: Texts, numbers and booleans by name; null leaves one out.
        query: Values or arrays of values by name, added to the URL's own; null leaves one out.
        json: Sent as JSON. Only one of json, form and body.
        form: Like query, sent as application/x-www-form-urlencoded.
        body: Sent as it is, in UTF-8, as text/plain unless the headers say otherwise.
        auth: Who makes it; a redirect to another origin goes without.
        expect: Statuses that are a success: integers, or classes like "2xx".
        read: How the body of the answer is taken: auto, json, text or bytes.
        max_bytes: Largest body of an answer; never more than an output may have.
        redirects: How many are followed.
    """

    url: str
    method: str = "GET"
    headers: dict[str, Any] = {}
    query: dict[str, Any] = {}
    json: Any = msgspec.UNSET
    form: dict[str, Any] | None = None
    body: str | None = None
    auth: Auth | None = None
    expect: tuple[int | str, ...] = ("2xx",)
    read: str = "auto"
    max_bytes: int = ANSWER_BYTES
    redirects: int = 0


async def run_http(session: GuardedSession, attempt: Attempt, request: HttpRequest) -> bytes | Failure:
    """Make the call.

    Returns:
        JSON of {"status", "headers", "body"}: headers by their names in lower case, the body parsed when it
        is JSON, else as text; under "body_base64" instead of "body" when it is neither JSON nor UTF-8. After a
        redirect also "url", where it came from.
        Or the failure: HTTP_<status>, HTTP_ERROR, HTTP_TIMEOUT, EGRESS_DENIED, RESPONSE_TOO_LARGE,
        RESPONSE_INVALID, or of the output's gate.

    Raises:
        StepFailed: REQUEST_INVALID, nothing was sent; RESPONSE_INVALID.
    """
    _check(request)
    body, headers, private = _outgoing(attempt, request)
    limit = min(max(0, request.max_bytes), OUTPUT_BYTES)
    attempt.begin()
    try:
        answer = await session.request(
            request.method.upper(),
            request.url,
            headers=headers,
            params=_pairs(request.query, "query parameter"),
            body=body,
            timeout=None if attempt.lease.attempt_timeout is not None else CALL_SECONDS,
            max_bytes=limit,
            redirects=min(max(0, request.redirects), MOST_REDIRECTS),
            private=private,
        )
    except EgressDenied as error:
        return failure(error.reason, str(error), retryable=False, details=error.metadata)
    except AnswerTooLarge as error:
        details = {"status": error.status, "limit": error.limit}
        return failure(error.reason, str(error), retryable=False, details=details)
    except ValueError as error:
        raise _invalid(f"the call cannot be made: {error}") from error
    except TimeoutError as error:
        return failure("HTTP_TIMEOUT", str(error) or "the call timed out", details={"error": type(error).__name__})
    except (aiohttp.ClientError, OSError, EOFError) as error:
        return failure("HTTP_ERROR", said(error), details={"error": type(error).__name__})
    if not matches(answer.status, request.expect):
        return unexpected(answer)
    return encoded(output_of(answer, request.read))


def said(error: BaseException) -> str:
    """What a call that failed on its way says of it."""
    text = str(error)
    return f"the call failed: {type(error).__name__}{f': {text}' if text else ''}"


def _check(request: HttpRequest) -> None:
    if not _METHOD.match(request.method.upper()):
        raise _invalid(f"{request.method[:40]!r} is not an HTTP method")
    bodies = (request.json is not msgspec.UNSET) + (request.body is not None) + (request.form is not None)
    if bodies > 1:
        raise _invalid("give one of json, form and body")
    if request.read not in _READS:
        raise _invalid(f"read is {request.read[:40]!r}; write one of {', '.join(_READS)}")
    for one in request.expect:
        if isinstance(one, str) and not _CLASS.match(one):
            raise _invalid(f'expect has {one[:40]!r}; write a status like 200, or a class like "2xx"')


def _outgoing(attempt: Attempt, request: HttpRequest) -> tuple[bytes | None, dict[str, str], tuple[str, ...]]:
    """Body, headers, and which of the headers are for this origin alone."""
    headers = {}
    for name, value in request.headers.items():
        if value is not None:
            headers[name.lower()] = _text(value, f"header {name[:100]}")
    private: tuple[str, ...] = ()
    if request.auth is not None:
        name, value = auth_header(attempt, request.auth)
        headers[name] = value
        private = (name,)
    body = None
    if request.json is not msgspec.UNSET:
        body = _encode(request.json)
        headers.setdefault("content-type", "application/json")
    elif request.form is not None:
        body = urlencode(_pairs(request.form, "field")).encode()
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
    elif request.body is not None:
        body = request.body.encode()
        headers.setdefault("content-type", "text/plain; charset=utf-8")
    # A template may name its own key; without one the same key goes with every attempt of the step.
    headers.setdefault("idempotency-key", attempt.lease.idempotency_key)
    if attempt.lease.traceparent:
        headers.setdefault("traceparent", attempt.lease.traceparent)
    return body, headers, private


def _pairs(given: Mapping[str, Any], what: str) -> list[tuple[str, str]]:
    return [
        (name, _text(one, f"{what} {name[:100]}"))
        for name, value in given.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise _invalid(f"{what} is neither text nor a number nor true or false")


def _invalid(message: str) -> StepFailed:
    return StepFailed(failure("REQUEST_INVALID", message, retryable=False))
