"""What Envoy answers itself when a call reaches no service, in the form services answer."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from wfe_gateway.forms import typed

__all__ = ["DOMAIN", "EDGE_ERRORS", "EdgeError", "local_replies"]

#: Domain of every ErrorInfo of the engine.
DOMAIN = "wfe"
#: What Envoy, its transcoder or edge.lua say about the request. Nothing of it is about the inside.
_DETAIL = "%LOCAL_REPLY_BODY%"
_BAD_PATH = "the path must not hold encoded slashes or backslashes"
_UNREADABLE = "the request cannot be read"
_BAD_HEADER = "names of headers must not hold underscores"
_CEL_FILTER = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"


@dataclass(frozen=True, slots=True)
class EdgeError:
    """An error made at the edge.

    Attributes:
        status: HTTP status.
        code: gRPC code.
        reason: Reason of the ErrorInfo.
        message: For people. Fixed text where Envoy's own would tell addresses, or nothing.
        detail: Whether Envoy's text, which says what is wrong, stands instead of message over REST.
        cause: What Envoy's name of the cause must contain; any when empty.
    """

    status: int
    code: int
    reason: str
    message: str
    detail: bool = False
    cause: str = ""


def _error(status: int, code: str, reason: str, message: str, *, detail: bool = False, cause: str = "") -> EdgeError:
    return EdgeError(status, code_pb2.Code.Value(code), reason, message, detail, cause)


#: The first that fits is used.
EDGE_ERRORS = (
    _error(400, "INVALID_ARGUMENT", "INVALID_PATH", _BAD_PATH, cause="path_normalization_failed"),
    _error(400, "INVALID_ARGUMENT", "INVALID_HEADER", _BAD_HEADER, cause="unexpected_underscore"),
    _error(400, "INVALID_ARGUMENT", "INVALID_REQUEST", _UNREADABLE, detail=True, cause="grpc_json_transcode"),
    _error(400, "INVALID_ARGUMENT", "INVALID_REQUEST", _UNREADABLE, detail=True, cause="direct_response"),
    _error(400, "INVALID_ARGUMENT", "INVALID_HTTP", "this is not proper HTTP"),
    _error(401, "UNAUTHENTICATED", "UNAUTHENTICATED", "credentials are missing or wrong"),
    _error(403, "PERMISSION_DENIED", "FORBIDDEN", "the gateway does not allow this"),
    _error(404, "NOT_FOUND", "PATH_NOT_FOUND", "there is no such path, or not with this method"),
    _error(405, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED", "the path does not have this method"),
    _error(408, "DEADLINE_EXCEEDED", "REQUEST_TIMEOUT", "the request did not arrive in time"),
    _error(413, "INVALID_ARGUMENT", "BODY_TOO_LARGE", "the request body is too large"),
    _error(415, "INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE", "this port does not speak gRPC", detail=True),
    _error(426, "FAILED_PRECONDITION", "UPGRADE_REQUIRED", "HTTP/1.1 or HTTP/2 is needed"),
    _error(429, "RESOURCE_EXHAUSTED", "RATE_LIMITED", "too many requests"),
    _error(431, "INVALID_ARGUMENT", "HEADERS_TOO_LARGE", "the request headers are too large"),
    _error(500, "INTERNAL", "INTERNAL", "internal error of the gateway"),
    _error(501, "UNIMPLEMENTED", "UNIMPLEMENTED", "the gateway cannot do this"),
    _error(502, "UNAVAILABLE", "SERVICE_UNAVAILABLE", "the service broke off; try again"),
    _error(503, "UNAVAILABLE", "SERVICE_UNAVAILABLE", "the service cannot be reached; try again"),
    _error(504, "DEADLINE_EXCEEDED", "SERVICE_TIMEOUT", "the service did not answer in time"),
)


def local_replies(*, grpc: bool) -> dict[str, Any]:
    """Envoy's local_reply_config.

    Args:
        grpc: For a listener of gRPC callers, who get a status with details; others get JSON. A transcoded
            request has the content type of gRPC as well, so over REST only what refuses gRPC is answered so.
    """
    is_grpc = [error for error in EDGE_ERRORS if grpc or error.status == 415]
    # No format for the rest: answers Envoy gives on purpose, as /healthz, are local replies as well.
    return {"mappers": [*map(_grpc_mapper, is_grpc), *_json_mappers()]}


def _json_mappers() -> Iterator[dict[str, Any]]:
    for error in EDGE_ERRORS:
        yield {"filter": _filter(error), "body_format_override": _json_format(error)}
    for at_least in (500, 400):
        error = next(error for error in EDGE_ERRORS if error.status == at_least and not error.cause)
        yield {"filter": _status_is("GE", at_least), "body_format_override": _json_format(error)}


def _grpc_mapper(error: EdgeError) -> dict[str, Any]:
    # An unknown method is UNIMPLEMENTED over gRPC; NOT_FOUND would say that the thing asked for is not there.
    code = code_pb2.UNIMPLEMENTED if error.status == 404 else error.code
    content_type = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    both = [_filter(error), {"header_filter": {"header": content_type}}]
    return {
        "filter": {"and_filter": {"filters": both}},
        "body_format_override": {"text_format_source": {"inline_string": error.message}},
        "headers_to_add": [
            _overwrite("grpc-status", str(code)),
            _overwrite("grpc-status-details-bin", _packed(code, error)),
        ],
    }


def _json_format(error: EdgeError) -> dict[str, Any]:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": error.reason,
        "domain": DOMAIN,
        "metadata": {},
    }
    message = _DETAIL if error.detail else error.message
    return {"json_format": {"code": error.code, "message": message, "details": [info]}}


def _packed(code: int, error: EdgeError) -> str:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    status = status_pb2.Status(code=code, message=error.message, details=[info])
    return base64.b64encode(status.SerializeToString(deterministic=True)).rstrip(b"=").decode()


def _filter(error: EdgeError) -> dict[str, Any]:
    status = _status_is("EQ", error.status)
    if not error.cause:
        return status
    expression = typed(_CEL_FILTER, expression=f'response.code_details.contains("{error.cause}")')
    cause = {"extension_filter": {"name": "cause", "typed_config": expression}}
    return {"and_filter": {"filters": [status, cause]}}


def _status_is(op: str, status: int) -> dict[str, Any]:
    # Envoy wants a runtime key; nothing sets it.
    value = {"default_value": status, "runtime_key": "wfe_gateway.unused"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _overwrite(key: str, value: str) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
