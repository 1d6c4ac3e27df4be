"""Which call goes where. The table allows what it names, everything else is 404."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wfe_gateway.api import PACKAGE, bindings, services
from wfe_gateway.config import GatewaySettings
from wfe_gateway.forms import inline_or_file, typed
from wfe_gateway.openapi import document_file

__all__ = ["APPROVALS", "SCHEDULER", "grpc_routes", "part_of", "rest_routes"]

SCHEDULER = "scheduler"
APPROVALS = "approvals"

_OF_APPROVALS = frozenset(
    f"{PACKAGE}.{name}"
    for name in ("ApprovalService", "HookService", "IdentityService", "LinkService", "WebhookService")
)
#: Served by the scheduler to gRPC callers only.
_GRPC_ONLY = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
TRANSCODER, LIMIT = "transcoder", "limit"
#: Methods that take values up to 16 MB.
LARGE = frozenset({"StartWorkflow", "SignalWorkflow", "RetryStep", "CompleteStep", "AnswerCallback"})
_NO_STORE = {"header": {"key": "cache-control", "value": "no-store"}}
_NO_SNIFF = {"header": {"key": "x-content-type-options", "value": "nosniff"}}
#: A path may hold the token of a link.
_NO_REFERRER = {"header": {"key": "referrer-policy", "value": "no-referrer"}}
_NO_INDEX = {"header": {"key": "x-robots-tag", "value": "noindex"}}


def rest_routes(settings: GatewaySettings, *, self_contained: bool) -> dict[str, Any]:
    """Routes of the REST listener.

    Routes match the gRPC path a request has after transcoding; the few Envoy answers itself match the path it
    came with, and switch the transcoder off, which would refuse them.

    Args:
        settings: The gateway's settings.
        self_contained: Whether to put the OpenAPI document into the configuration instead of its file's name.
    """
    document = document_file()
    own = [
        _own("/healthz", {"inline_string": '{"status":"ok"}'}),
        _own("/api/v1/openapi.json", inline_or_file(document, inline=self_contained)),
    ]
    table = _table("rest", [*own, *_misspelt(), *_collisions(), *_large(settings), *_service_routes(settings)])
    table["max_direct_response_body_size_bytes"] = max(document.stat().st_size, 4_096)
    table["response_headers_to_add"] = [_NO_STORE, _NO_SNIFF, _NO_REFERRER, _NO_INDEX]
    return table


def grpc_routes(settings: GatewaySettings) -> dict[str, Any]:
    """Routes of the gRPC listener: the public services, health and reflection."""
    extra = [_route({"prefix": f"/{name}/"}, SCHEDULER, timeout=None) for name in _GRPC_ONLY]
    return _table("grpc", [*_service_routes(settings), *extra])


def part_of(service: str) -> str:
    """The cluster that serves a public service, by its full name."""
    return APPROVALS if service in _OF_APPROVALS else SCHEDULER


def _table(name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]}


def _service_routes(settings: GatewaySettings) -> Iterator[dict[str, Any]]:
    for service in services():
        cluster = part_of(service.name)
        for method in service.streams:
            yield _route({"path": f"/{service.name}/{method}"}, cluster, timeout=None)
        yield _route({"prefix": f"/{service.name}/"}, cluster, timeout=settings.timeout_seconds)


def _route(match: dict[str, Any], cluster: str, *, timeout: int | None) -> dict[str, Any]:
    action: dict[str, Any] = {"cluster": cluster, "timeout": f"{timeout or 0}s"}
    if timeout is None:
        # A watched run may say nothing for days; TCP keepalive finds the watchers that are gone.
        action["idle_timeout"] = "0s"
    # Only what surely never reached a service is sent again.
    action["retry_policy"] = {
        "retry_on": "connect-failure,refused-stream",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        "retry_host_predicate": [
            {
                "name": "previous_hosts",
                "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            }
        ],
        # With two replicas each choice is the dead one again half of the time.
        "host_selection_retry_max_attempts": 10,
    }
    return {"match": match, "route": action}


def _misspelt() -> Iterator[dict[str, Any]]:
    """Refusals of what the transcoder would pass over: parameters without a value, a slash at the end, dots, NUL.

    Escapes in names would get past `_collisions`, and no parameter needs them in its name. Servers do not agree on
    which segments mean "here" and "above", so a path with one is nobody's.
    """
    dots = "no segment of the path may be . or .."
    escapes = "names of query parameters must not hold escapes"
    for pattern, status, text in (
        (r"[^?]*%00.*", 400, "the path must not hold zero bytes"),
        (r"/(?:[^?]*/)?(?:\.|%2[eE]){1,2}(?:(?:;|%3[bB])[^/?]*)?(?:[/?].*)?", 400, dots),
        (r"[^?]*\?(?:[^&]*&)*[^=&]*%.*", 400, escapes),
        (r"[^?]*\?(?:[^&]*&)*(?:[^=&]+(?:&.*)?|=.*)", 400, "query parameters must be of the form name=value"),
        (r"/api/[^?]*/(?:\?.*)?", 404, "there is no such path"),
    ):
        match = {"name": ":path", "string_match": {"safe_regex": {"regex": pattern}}}
        yield _direct({"prefix": "/", "headers": [match]}, status, {"inline_string": text})


def _collisions() -> Iterator[dict[str, Any]]:
    """Refusals of query parameters the path holds already: the transcoder would let them win over it."""
    for name in sorted({name for binding in bindings() for name in binding.path_fields}):
        held = sorted({binding.path for binding in bindings() if name in binding.path_fields})
        elsewhere = any(name in binding.other_fields for binding in bindings())
        matches = map(_template, held) if elsewhere else [{"prefix": "/"}]
        text = f"{name} belongs into the path; take it out of the query"
        for match in matches:
            query = {"query_parameters": [{"name": name, "present_match": True}]}
            yield _direct(match | query, 400, {"inline_string": text})


def _large(settings: GatewaySettings) -> Iterator[dict[str, Any]]:
    """Another limit for the bodies of some calls. What is transcoded finds its route anew; nothing else is served."""
    buffer = typed(
        "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
        buffer={"max_request_bytes": settings.max_large_body_bytes},
    )
    for binding in bindings():
        if binding.method.name in LARGE:
            post = {"name": ":method", "string_match": {"exact": binding.verb}}
            match = _template(binding.path) if binding.path_fields else {"path": binding.path}
            route = _direct(match | {"headers": [post]}, 404, {"inline_string": "there is no such path"})
            yield route | {"typed_per_filter_config": {LIMIT: buffer}}


def _template(path: str) -> dict[str, Any]:
    matcher = typed("envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", path_template=path)
    return {"path_match_policy": {"name": "template", "typed_config": matcher}}


def _own(path: str, body: dict[str, Any]) -> dict[str, Any]:
    reads = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    route = _direct({"path": path, "headers": [reads]}, 200, body)
    content_type = {"header": {"key": "content-type", "value": "application/json"}}
    route["response_headers_to_add"] = [content_type | {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]
    return route


def _direct(match: dict[str, Any], status: int, body: dict[str, Any]) -> dict[str, Any]:
    disabled = typed("envoy.config.route.v3.FilterConfig", disabled=True)
    return {
        "match": match,
        "direct_response": {"status": status, "body": body},
        "typed_per_filter_config": {TRANSCODER: disabled},
    }
