"""From exceptions to what a gRPC client and a REST client get: one table, by the exception's classes.

Every error is a google.rpc.Status with exactly one ErrorInfo (reason, domain `wfe`, metadata), and what fits
besides: BadRequest with every violation, RetryInfo, PreconditionFailure. It travels in trailing metadata; as
no initial metadata and no message go before it, Envoy sees headers only (`Trailers-Only`), makes the JSON
body from it, and finds there

- `x-http-status`: the HTTP status where it is not the one that belongs to the gRPC code;
- `retry-after`: seconds, with RetryInfo;
- `www-authenticate`: with 401.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import NamedTuple

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status
from wfe_engine.errors import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    StateConflict,
    Unauthenticated,
    Unavailable,
    WfeError,
)

__all__ = [
    "DeadlineExceeded",
    "MalformedRequest",
    "RequestTooLarge",
    "Unimplemented",
    "WireError",
    "http_status_of",
    "wire_error",
]

_log = structlog.get_logger("wfe.rpc")

DOMAIN = "wfe"

# gRPC clients accept 8 KiB of trailing metadata and no more unless told to, the text counts once plain (three
# bytes for each byte beyond ASCII) and once in base64. Envoy takes 60 KiB, so over REST there is room for
# more violations.
_MESSAGE_BYTES = 600
_METADATA_ENTRIES = 16
_METADATA_VALUE_BYTES = 120
_VIOLATION_BYTES = 2_000
_VIOLATION_BYTES_REST = 24_000


class DeadlineExceeded(WfeError):
    """The service took longer than it allows itself."""

    default_reason = "DEADLINE_EXCEEDED"


class MalformedRequest(InvalidInput):
    """The bytes received are not a message of the method's type."""

    default_reason = "MALFORMED_REQUEST"


class RequestTooLarge(InvalidInput):
    """The request has more bytes than the service takes."""

    default_reason = "REQUEST_TOO_LARGE"


class Unimplemented(WfeError):
    """No such method, or not yet."""

    default_reason = "UNIMPLEMENTED"


class _Row(NamedTuple):
    code: grpc.StatusCode
    http_status: int = 0


_TABLE: Mapping[type[BaseException], _Row] = {
    InvalidInput: _Row(grpc.StatusCode.INVALID_ARGUMENT),
    RequestTooLarge: _Row(grpc.StatusCode.INVALID_ARGUMENT, 413),
    Unauthenticated: _Row(grpc.StatusCode.UNAUTHENTICATED),
    PermissionDenied: _Row(grpc.StatusCode.PERMISSION_DENIED),
    NotFound: _Row(grpc.StatusCode.NOT_FOUND),
    StateConflict: _Row(grpc.StatusCode.FAILED_PRECONDITION, 409),
    AlreadyExists: _Row(grpc.StatusCode.ALREADY_EXISTS),
    ResourceExhausted: _Row(grpc.StatusCode.RESOURCE_EXHAUSTED),
    Unavailable: _Row(grpc.StatusCode.UNAVAILABLE),
    DeadlineExceeded: _Row(grpc.StatusCode.DEADLINE_EXCEEDED),
    Unimplemented: _Row(grpc.StatusCode.UNIMPLEMENTED),
}


#: As the gateway has them; what is not here has a status of its own in the table.
_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}


def http_status_of(error: WfeError) -> int:
    """The HTTP status the error has over REST, for answers that tell of it in their own way."""
    row = next((_TABLE[cls] for cls in type(error).__mro__ if cls in _TABLE), None)
    return 500 if row is None else row.http_status or _HTTP[row.code]


class WireError(NamedTuple):
    """What goes to the client.

    Attributes:
        code: The gRPC code.
        message: One sentence.
        trailers: Trailing metadata, `grpc-status-details-bin` among it.
    """

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]


def wire_error(error: BaseException, *, rest: bool = False) -> WireError:
    """The answer for an exception. One in no row is logged, and the client gets no more of it than an id.

    Args:
        error: What was raised. A group with one exception counts as that exception.
        rest: Whether the client is behind Envoy's transcoder, where more detail fits.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    for cls in type(error).__mro__:
        row = _TABLE.get(cls)
        if row is not None and isinstance(error, WfeError):
            return _known(error, row, rest)
    return _unknown(error)


def _known(error: WfeError, row: _Row, rest: bool) -> WireError:
    message = _cut(error.message, _MESSAGE_BYTES) or error.reason
    metadata = {
        _cut(name, 64): _cut(value, _METADATA_VALUE_BYTES)
        for name, value in list(error.metadata.items())[:_METADATA_ENTRIES]
    }
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    trailers: list[tuple[str, str | bytes]] = []
    if row.http_status:
        trailers.append(("x-http-status", str(row.http_status)))
    if isinstance(error, InvalidInput):
        details.append(_bad_request(error, _VIOLATION_BYTES_REST if rest else _VIOLATION_BYTES))
    elif isinstance(error, StateConflict):
        violation = PreconditionFailure.Violation(
            type=error.reason, subject=next(iter(metadata.values()), ""), description=message
        )
        details.append(PreconditionFailure(violations=[violation]))
    elif isinstance(error, ResourceExhausted | Unavailable):
        seconds = error.retry_after if isinstance(error, ResourceExhausted) else 1.0
        details.append(RetryInfo(retry_delay=_duration(seconds)))
        trailers.append(("retry-after", str(max(1, math.ceil(seconds)))))
    elif isinstance(error, Unauthenticated):
        trailers.append(("www-authenticate", "Bearer"))
    return _wire(row.code, message, details, trailers)


def _unknown(error: BaseException) -> WireError:
    error_id = secrets.token_hex(8)
    _log.error("rpc_failed", error_id=error_id, exc_info=(type(error), error, error.__traceback__))
    info = ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"error_id": error_id})
    return _wire(grpc.StatusCode.INTERNAL, "internal error", [info], [("x-error-id", error_id)])


def _wire(
    code: grpc.StatusCode, message: str, details: list[Message], trailers: list[tuple[str, str | bytes]]
) -> WireError:
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return WireError(code, message, (*trailers, ("grpc-status-details-bin", status.SerializeToString())))


def _bad_request(error: InvalidInput, room: int) -> BadRequest:
    request = BadRequest()
    for position, violation in enumerate(error.violations):
        field, text = _cut(violation.field, 200), _cut(violation.message, 400)
        room -= len(field.encode()) + len(text.encode()) + 8
        if room < 0 and position:
            left = len(error.violations) - position
            request.field_violations.add(field="", description=f"and {left} more")
            break
        request.field_violations.add(field=field, description=text)
    return request


def _duration(seconds: float) -> Duration:
    whole = math.floor(max(0.0, seconds))
    return Duration(seconds=whole, nanos=int((max(0.0, seconds) - whole) * 1e9))


def _cut(text: str, longest: int) -> str:
    """The text within so many bytes of UTF-8, without what metadata and protobuf cannot carry."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= longest:
        return raw.decode()
    return raw[: longest - 3].decode("utf-8", "ignore") + "…"
