"""What Envoy tells of itself: its statistics on a port of their own, and its share of every trace."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from wfe_gateway.config import Address, GatewaySettings
from wfe_gateway.forms import address, typed

__all__ = ["admin_cluster", "metrics_listener", "otlp_cluster", "tracing"]

_ADMIN = "admin"
_OTLP = "otlp"


def metrics_listener(settings: GatewaySettings) -> dict[str, Any]:
    """A listener that shows /stats/prometheus of the admin interface as /metrics, and nothing else of it."""
    assert settings.metrics_port is not None
    reads = {"name": ":method", "string_match": {"exact": "GET"}}
    route = {
        "match": {"path": "/metrics", "headers": [reads]},
        "route": {"cluster": _ADMIN, "prefix_rewrite": "/stats/prometheus", "timeout": "10s"},
    }
    manager = {
        "stat_prefix": "metrics",
        "route_config": {
            "name": "metrics",
            "virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [{"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")}],
    }
    kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "name": "metrics",
        "address": address(Address(settings.metrics_host, settings.metrics_port)),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": typed(kind, **manager)}]}],
    }


def admin_cluster(settings: GatewaySettings) -> dict[str, Any]:
    """Envoy's own admin interface."""
    assert settings.admin is not None
    where = address(settings.admin)
    if "pipe" in where:
        where = {"pipe": {"path": where["pipe"]["path"]}}
    return _plain(_ADMIN, "STATIC", where)


def otlp_cluster(settings: GatewaySettings) -> dict[str, Any]:
    """The collector of traces."""
    assert settings.otlp_endpoint is not None
    parts = urlsplit(settings.otlp_endpoint)
    where = Address(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    found = _plain(_OTLP, "STATIC" if where.is_ip else "STRICT_DNS", address(where))
    if parts.scheme == "https":
        validation = {
            "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": where.host}}],
        }
        context = typed(
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            sni=where.host,
            common_tls_context={"validation_context": validation},
        )
        found["transport_socket"] = {"name": "tls", "typed_config": context}
    return found


def _plain(name: str, kind: str, where: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": where}}]}],
        },
    }


def tracing(settings: GatewaySettings) -> dict[str, Any]:
    """The part of a connection manager that makes spans; empty without a collector.

    W3C trace context is taken from callers and sent on; while this is off, callers' headers go through untouched.
    """
    if settings.otlp_endpoint is None:
        return {}
    uri = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces"
    provider = typed(
        "envoy.config.trace.v3.OpenTelemetryConfig",
        service_name="wfe-gateway",
        http_service={"http_uri": {"uri": uri, "cluster": _OTLP, "timeout": "2s"}},
    )
    return {
        "tracing": {
            "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": provider},
            "random_sampling": {"value": settings.trace_ratio * 100},
            "spawn_upstream_span": False,
            # The URL of a span has no path: it may hold the token of a callback or of a link. The services' spans below
            # say which method it was.
            "max_path_tag_length": 0,
        }
    }
