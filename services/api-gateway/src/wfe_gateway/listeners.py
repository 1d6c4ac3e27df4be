"""The two doors: REST with JSON, and gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wfe_gateway.api import descriptor_file, services
from wfe_gateway.config import Address, GatewaySettings
from wfe_gateway.errors import local_replies
from wfe_gateway.forms import address, inline_or_file, typed
from wfe_gateway.observing import tracing
from wfe_gateway.routes import LIMIT, TRANSCODER, grpc_routes, rest_routes

__all__ = ["grpc_listener", "rest_listener"]

_FILTERS = "envoy.extensions.filters.http"
_ROUTER = {
    "name": "router",
    "typed_config": typed(f"{_FILTERS}.router.v3.Router", suppress_envoy_headers=True),
}
#: Names that HTTP allows and gRPC does not: a service would answer them with INTERNAL.
_NOT_GRPC = {"safe_regex": {"regex": "[^:].*[^a-z0-9_.-].*|[^a-z0-9_.:-].*"}}
#: Envoy obeys its own headers, e.g. for timeouts and retries, and x-http-status belongs to answers.
_NOT_FROM_CLIENTS: tuple[dict[str, Any], ...] = ({"prefix": "x-envoy-"}, {"exact": "x-http-status"}, _NOT_GRPC)
#: grpc-timeout and grpc-encoding would steer the call behind a request, a broken -bin value end it with 5xx.
_NOT_OVER_REST: tuple[dict[str, Any], ...] = ({"prefix": "grpc-"}, {"suffix": "-bin"})
#: Paths that hold the token of a one-time link, which begins with wfl_ wherever it is, or of a callback.
_TOKENS = ".*(?:wfl_|callback).*"
_HIDDEN = "[the path holds a token]"
_ACCESS_LOG = {
    "time": "%START_TIME%",
    "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
    # The gRPC method after transcoding, so no token of a URL gets into the log.
    "path": "%PATH(NQ:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "upstream": "%UPSTREAM_HOST%",
}


def rest_listener(settings: GatewaySettings, *, self_contained: bool) -> dict[str, Any]:
    """The listener that turns REST calls into gRPC ones.

    Args:
        settings: The gateway's settings.
        self_contained: Whether files' contents go into the configuration instead of their names.
    """
    filters = [
        {"name": "edge", "typed_config": _edge(self_contained=self_contained)},
        {
            "name": LIMIT,
            "typed_config": typed(f"{_FILTERS}.buffer.v3.Buffer", max_request_bytes=settings.max_body_bytes),
        },
        {"name": TRANSCODER, "typed_config": _transcoder(settings, self_contained=self_contained)},
        _ROUTER,
    ]
    manager = _manager("rest", settings, filters, rest_routes(settings, self_contained=self_contained))
    manager |= {
        "codec_type": "AUTO",
        "request_timeout": "60s",
        # An upgrade nobody offers is ignored, as HTTP allows; Envoy would wait for the new protocol's data.
        "http_protocol_options": {"ignore_http_11_upgrade": [{"safe_regex": {"regex": ".*"}}]},
        "early_header_mutation_extensions": [_drop_headers(*_NOT_FROM_CLIENTS, *_NOT_OVER_REST)],
    }
    where = Address(settings.rest_host, settings.rest_port)
    return _listener("rest", where, settings, manager, alpn=["h2", "http/1.1"])


def grpc_listener(settings: GatewaySettings) -> dict[str, Any]:
    """The listener that passes gRPC calls through as they are."""
    manager = _manager("grpc", settings, [_ROUTER], grpc_routes(settings))
    manager |= {
        "codec_type": "HTTP2",
        "early_header_mutation_extensions": [_drop_headers(*_NOT_FROM_CLIENTS)],
    }
    # Clients put all their calls on one connection.
    manager["http2_protocol_options"]["max_concurrent_streams"] = 1_000
    return _listener("grpc", Address(settings.grpc_host, settings.grpc_port), settings, manager, alpn=["h2"])


def _edge(*, self_contained: bool) -> dict[str, Any]:
    code = inline_or_file(Path(__file__).with_name("edge.lua").resolve(), inline=self_contained)
    return typed(f"{_FILTERS}.lua.v3.Lua", default_source_code=code)


def _transcoder(settings: GatewaySettings, *, self_contained: bool) -> dict[str, Any]:
    source = inline_or_file(descriptor_file(), inline=self_contained)
    descriptor = (
        {"proto_descriptor_bin": source["inline_bytes"]} if self_contained else {"proto_descriptor": source["filename"]}
    )
    return typed(
        f"{_FILTERS}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        **descriptor,
        services=[service.name for service in services()],
        auto_mapping=False,
        convert_grpc_status=True,
        print_options={
            "preserve_proto_field_names": True,
            "always_print_primitive_fields": True,
            "stream_sse_style_delimited": True,
        },
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        query_param_unescape_plus=True,
        max_request_body_size=max(settings.max_body_bytes, settings.max_large_body_bytes),
        max_response_body_size=settings.max_response_bytes,
    )


def _drop_headers(*names: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "drop_headers",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[{"remove_on_match": {"key_matcher": name}} for name in names],
        ),
    }


def _manager(
    name: str, settings: GatewaySettings, filters: list[dict[str, Any]], routes: dict[str, Any]
) -> dict[str, Any]:
    return {
        "stat_prefix": name,
        "route_config": routes,
        "http_filters": filters,
        "local_reply_config": local_replies(grpc=name == "grpc"),
        "access_log": _access_log(settings),
        "server_header_transformation": "PASS_THROUGH",
        "always_set_request_id_in_response": True,
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_hops,
        # No address is trusted for being a private one.
        "internal_address_config": {"unix_sockets": False},
        # Envoy would take "..;x" for ".." and so make one call another; routes refuse such segments.
        "normalize_path": False,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "max_request_headers_kb": 32,
        "stream_idle_timeout": f"{settings.timeout_seconds + 15}s",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            "idle_timeout": "900s",
            "max_headers_count": 100,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 64 << 10,
            "initial_connection_window_size": 1 << 20,
        },
        **tracing(settings),
    }


def _access_log(settings: GatewaySettings) -> list[dict[str, Any]]:
    if settings.access_log is None:
        return []
    return [_log(settings, _ACCESS_LOG, secret=False), _log(settings, {**_ACCESS_LOG, "path": _HIDDEN}, secret=True)]


def _log(settings: GatewaySettings, format_: dict[str, str], *, secret: bool) -> dict[str, Any]:
    """The access log of calls whose path holds the token of a link or a callback, or of all others.

    A call that is served has the gRPC method for its path by then; one that is refused before still has its own.
    """
    config = typed(
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=str(settings.access_log),
        log_format={"json_format": format_},
    )
    holds = {"name": ":path", "string_match": {"safe_regex": {"regex": _TOKENS}}, "invert_match": not secret}
    return {"name": "access_log", "filter": {"header_filter": {"header": holds}}, "typed_config": config}


def _listener(
    name: str, where: Address, settings: GatewaySettings, manager: dict[str, Any], *, alpn: list[str]
) -> dict[str, Any]:
    chain: dict[str, Any] = {
        "filters": [
            {
                "name": "http",
                "typed_config": typed(
                    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    **manager,
                ),
            }
        ],
        # A client that opens a connection and never finishes the handshake holds nothing for long.
        "transport_socket_connect_timeout": "10s",
    }
    if settings.tls_cert is not None:
        chain["transport_socket"] = {"name": "tls", "typed_config": _tls(settings, alpn)}
    return {
        "name": name,
        "address": address(where),
        "per_connection_buffer_limit_bytes": 32 << 10,
        "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 30, "keepalive_interval": 10},
        "filter_chains": [chain],
    }


def _tls(settings: GatewaySettings, alpn: list[str]) -> dict[str, Any]:
    certificate = {
        "certificate_chain": {"filename": str(settings.tls_cert)},
        "private_key": {"filename": str(settings.tls_key)},
    }
    return typed(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates": [certificate],
            "alpn_protocols": alpn,
        },
    )
