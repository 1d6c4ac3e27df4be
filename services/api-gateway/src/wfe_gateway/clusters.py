"""How Envoy reaches the services."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wfe_gateway.config import Address, GatewaySettings
from wfe_gateway.forms import address, typed

__all__ = ["cluster"]

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(name: str, upstreams: Sequence[Address], settings: GatewaySettings) -> dict[str, Any]:
    """A service: its addresses, and what it may be asked at the same time.

    Args:
        name: Name of the cluster.
        upstreams: Where the service runs. One name among them makes the whole cluster a DNS one.
        settings: The gateway's settings.
    """
    endpoints = [{"endpoint": {"address": address(upstream)}} for upstream in upstreams]
    found: dict[str, Any] = {
        "name": name,
        "type": "STATIC" if all(upstream.is_ip for upstream in upstreams) else "STRICT_DNS",
        "connect_timeout": "2s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "per_connection_buffer_limit_bytes": 1 << 20,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 1_024,
                    "max_pending_requests": settings.max_requests,
                    "max_requests": settings.max_requests,
                    "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 10},
                }
            ]
        },
        # TCP's keepalive, not HTTP/2 pings: a gRPC server takes a few pings without data for an attack.
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 5}
        },
        # A replica that cannot be connected to is left out for a while. What services answer never counts: a
        # readiness of UNAVAILABLE is no reason to stop asking.
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "base_ejection_time": "2s",
            "max_ejection_time": "10s",
            "interval": "2s",
            "max_ejection_percent": 50,
        },
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: typed(
                _HTTP_OPTIONS,
                explicit_http_config={
                    "http2_protocol_options": {
                        "initial_stream_window_size": 1 << 20,
                        "initial_connection_window_size": 16 << 20,
                    }
                },
            )
        },
    }
    if found["type"] == "STRICT_DNS":
        found["dns_lookup_family"] = "ALL"
    if settings.upstream_ca is not None:
        found["transport_socket"] = {"name": "tls", "typed_config": _tls(upstreams[0], settings.upstream_ca)}
    if settings.health_check_seconds:
        found["health_checks"] = [
            {
                "interval": f"{settings.health_check_seconds}s",
                # Otherwise a minute until the first call, and what ends in that minute is not seen to.
                "no_traffic_interval": f"{settings.health_check_seconds}s",
                "timeout": "2s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                # Readiness, not life: a service that is about to end withdraws it while it still answers. When
                # none is ready, all are asked as if all were.
                "grpc_health_check": {"service_name": "ready"},
            }
        ]
    return found


def _tls(upstream: Address, authority: Path) -> dict[str, Any]:
    kind = "IP_ADDRESS" if upstream.is_ip else "DNS"
    context: dict[str, Any] = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2"],
        "validation_context": {
            "trusted_ca": {"filename": str(authority)},
            "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": upstream.host}}],
        },
    }
    sni = {} if upstream.is_ip else {"sni": upstream.host}
    return typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=context, **sni)
