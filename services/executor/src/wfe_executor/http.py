"""Runs `http` steps: one call through the egress guard."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from wfe_bus.messages import OUTPUT_BYTES, Failure
from wfe_egress import Answer, AnswerTooLarge, EgressDenied, GuardedSession

from wfe_executor.attempts import Attempt
from wfe_executor.outputs import StepFailed, clean, encoded, failure

#: Seconds for a call of a step without an attempt timeout.
CALL_SECONDS = 300.0

#: Bytes of an unexpected answer's body that a failure shows.
EXCERPT_BYTES = 2048

#: Answers that another attempt may change.
RETRYABLE = frozenset({408, 425, 429})

# Recorded outputs are shown to people; these headers carry credentials.
_HIDDEN_HEADERS = frozenset({"set-cookie", "set-cookie2", "authorization", "proxy-authorization"})

_CLASS = re.compile(r"[1-5]xx\Z")
_METHOD = re.compile(r"[A-Z]{1,20}\Z")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class HttpRequest(msgspec.Struct):
    """The request of an `http` step.

    Attributes:
        method: Any HTTP method.
        url: http or https.
        headers: Texts, numbers and booleans by name; null leaves one out.
        query: Values or arrays of values by name, added to the URL's own; null leaves one out.
        json: Sent as JSON. Only one of json and body.
        body: Sent as it is, in UTF-8, as text/plain unless the headers say otherwise.
        expect: Statuses that are a success: integers, or classes like "2xx".
        max_bytes: Largest body of an answer; never more than an output may have.
    """

    url: str
    method: str = "GET"
    headers: dict[str, Any] = {}
    query: dict[str, Any] = {}
    json: Any = msgspec.UNSET
    body: str | None = None
    expect: tuple[int | str, ...] = ("2xx",)
    max_bytes: int = OUTPUT_BYTES


async def run_http(session: GuardedSession, attempt: Attempt, request: HttpRequest) -> bytes | Failure:
    """Make the call.

    Returns:
        JSON of {"status", "headers", "body"}: headers by their names in lower case, the body parsed when it
        is JSON, else as text; under "body_base64" instead of "body" when it is neither JSON nor UTF-8.
        Or the failure: HTTP_STATUS, HTTP_ERROR, EGRESS_DENIED, RESPONSE_TOO_LARGE, or of the output's gate.

    Raises:
        StepFailed: REQUEST_INVALID, nothing was sent.
    """
    _check(request)
    body, headers = _outgoing(attempt, request)
    limit = min(max(0, request.max_bytes), OUTPUT_BYTES)
    attempt.begin()
    try:
        answer = await session.request(
            request.method.upper(),
            request.url,
            headers=headers,
            params=_pairs(request.query),
            body=body,
            timeout=None if attempt.lease.attempt_timeout is not None else CALL_SECONDS,
            max_bytes=limit,
        )
    except EgressDenied as error:
        return failure(error.reason, str(error), retryable=False, details=error.metadata)
    except AnswerTooLarge as error:
        details = {"status": error.status, "limit": error.limit}
        return failure(error.reason, str(error), retryable=False, details=details)
    except ValueError as error:
        raise _invalid(f"the call cannot be made: {error}") from error
    except (aiohttp.ClientError, OSError, EOFError) as error:
        return failure("HTTP_ERROR", _said(error), details={"error": type(error).__name__})
    if not matches(answer.status, request.expect):
        return _unexpected(answer)
    return encoded(_output(answer))


def matches(status: int, expect: Sequence[int | str]) -> bool:
    """Whether a status is among those that count as success."""
    return any(status == one or (isinstance(one, str) and one[:1] == str(status)[:1]) for one in expect)


def retry_after(text: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, in seconds or as a date; None when it cannot be read."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _check(request: HttpRequest) -> None:
    if not _METHOD.match(request.method.upper()):
        raise _invalid(f"{request.method[:40]!r} is not an HTTP method")
    if request.json is not msgspec.UNSET and request.body is not None:
        raise _invalid("give json or body, not both")
    for one in request.expect:
        if isinstance(one, str) and not _CLASS.match(one):
            raise _invalid(f'expect has {one[:40]!r}; write a status like 200, or a class like "2xx"')


def _outgoing(attempt: Attempt, request: HttpRequest) -> tuple[bytes | None, dict[str, str]]:
    headers = {}
    for name, value in request.headers.items():
        if value is not None:
            headers[name.lower()] = _text(value, f"header {name[:100]}")
    body = None
    if request.json is not msgspec.UNSET:
        body = _encode(request.json)
        headers.setdefault("content-type", "application/json")
    elif request.body is not None:
        body = request.body.encode()
        headers.setdefault("content-type", "text/plain; charset=utf-8")
    # A template may name its own key; without one the same key goes with every attempt of the step.
    headers.setdefault("idempotency-key", attempt.lease.idempotency_key)
    if attempt.lease.traceparent:
        headers.setdefault("traceparent", attempt.lease.traceparent)
    return body, headers


def _pairs(query: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, _text(one, f"query parameter {name[:100]}"))
        for name, value in query.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise _invalid(f"{what} is neither text nor a number nor true or false")


def _unexpected(answer: Answer) -> Failure:
    status = answer.status
    details: dict[str, Any] = {"status": status}
    if answer.body:
        # Cut before decoding: a charset may make a text of any length of it.
        details["body"] = clean(answer.body[:EXCERPT_BYTES].decode("utf-8", "replace"), EXCERPT_BYTES)
    message = f"the answer was {status}"
    location = answer.headers.get("location")
    if 300 <= status < 400 and location:
        message += "; redirects are not followed, call the new address itself"
        details["location"] = clean(location, 1000)
    return failure(
        "HTTP_STATUS",
        message,
        retryable=status in RETRYABLE or status >= 500,
        retry_after=retry_after(answer.headers.get("retry-after")),
        details=details,
    )


def _output(answer: Answer) -> dict[str, Any]:
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        key = clean(name.lower(), 200)
        if key not in _HIDDEN_HEADERS:
            headers[key] = f"{headers[key]}, {clean(value)}" if key in headers else clean(value)
    output: dict[str, Any] = {"status": answer.status, "headers": headers}
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        if not answer.body:
            return output | {"body": None}
        try:
            return output | {"body": _decode(answer.body)}
        except (msgspec.DecodeError, RecursionError):
            pass  # it says JSON and is not: the call was made, so what came is shown as text
    try:
        text = answer.text() if "charset=" in headers.get("content-type", "").lower() else answer.body.decode()
    except UnicodeDecodeError:
        return output | {"body_base64": base64.b64encode(answer.body).decode()}
    return output | {"body": text}


def _said(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, TimeoutError) and not text:
        return "the call timed out"
    return f"the call failed: {type(error).__name__}{f': {text}' if text else ''}"


def _invalid(message: str) -> StepFailed:
    return StepFailed(failure("REQUEST_INVALID", message, retryable=False))
