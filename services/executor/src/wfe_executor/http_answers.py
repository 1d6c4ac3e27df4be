"""What becomes of the answer to an `http` step: its output, or the failure it means."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from wfe_bus.messages import Failure
from wfe_egress import Answer

from wfe_executor.outputs import StepFailed, clean, failure

#: Bytes of an unexpected answer's body that a failure shows.
EXCERPT_BYTES = 2048

# Statuses that another attempt may change: too early or too many, and the server's own faults but for what it
# says it will never do.
_RETRYABLE = frozenset({408, 425, 429})
_NEVER = frozenset({501, 505})

# Recorded outputs are shown to people; these headers carry credentials.
_HIDDEN_HEADERS = frozenset({"set-cookie", "set-cookie2", "authorization", "proxy-authorization"})

_decode = msgspec.json.Decoder().decode


def matches(status: int, expect: Sequence[int | str]) -> bool:
    """Whether a status is among those that count as success."""
    return any(status == one or (isinstance(one, str) and one[:1] == str(status)[:1]) for one in expect)


def is_retryable(status: int) -> bool:
    """Whether the same call may get another answer later."""
    return status in _RETRYABLE or (status >= 500 and status not in _NEVER)


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


def unexpected(answer: Answer) -> Failure:
    """The failure of an answer that is no success: its code is HTTP_ and the status."""
    status = answer.status
    details: dict[str, Any] = {"status": status}
    if answer.body:
        details["body"] = excerpt(answer.body)
    message = f"the answer was {status}"
    location = answer.headers.get("location")
    if 300 <= status < 400 and location:
        message += "; it is a redirect, which is followed only with `redirects`, and then so many times"
        details["location"] = clean(location, 1000)
    return failure(
        f"HTTP_{status}",
        message,
        retryable=is_retryable(status),
        retry_after=retry_after(answer.headers.get("retry-after")),
        details=details,
    )


def excerpt(body: bytes) -> str:
    """The beginning of a body, for people."""
    # Cut before decoding: a charset may make a text of any length of it.
    return clean(body[:EXCERPT_BYTES].decode("utf-8", "replace"), EXCERPT_BYTES)


def output_of(answer: Answer, read: str) -> dict[str, Any]:
    """The output of an answer that is a success.

    Args:
        answer: What came back.
        read: auto, json, text or bytes.

    Raises:
        StepFailed: RESPONSE_INVALID, when the body is not what `read` says.
    """
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        key = clean(name.lower(), 200)
        if key not in _HIDDEN_HEADERS:
            headers[key] = f"{headers[key]}, {clean(value)}" if key in headers else clean(value)
    output: dict[str, Any] = {"status": answer.status, "headers": headers}
    if answer.hops:
        output["url"] = clean(answer.url, 2000)
    return output | _body(answer, headers.get("content-type", ""), read)


def _body(answer: Answer, content_type: str, read: str) -> dict[str, Any]:
    if read == "bytes":
        return {"body_base64": base64.b64encode(answer.body).decode()}
    if read == "text":
        return {"body": answer.text()}
    kind = content_type.partition(";")[0].strip().lower()
    if read == "json" or kind == "application/json" or kind.endswith("+json"):
        if not answer.body and read == "auto":
            return {"body": None}
        try:
            return {"body": _decode(answer.body)}
        except (msgspec.DecodeError, RecursionError) as error:
            if read == "json":
                why = failure(
                    "RESPONSE_INVALID",
                    f"the body is not JSON: {error}",
                    retryable=False,
                    details={"status": answer.status, "body": excerpt(answer.body)},
                )
                raise StepFailed(why) from error
            # It says JSON and is not: the call was made, so what came is shown as text.
    try:
        text = answer.text() if "charset=" in content_type.lower() else answer.body.decode()
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(answer.body).decode()}
    return {"body": text}
