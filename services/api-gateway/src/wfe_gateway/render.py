"""Envoy's bootstrap configuration, made from the settings."""

from __future__ import annotations

import json
from typing import Any

from wfe_gateway.clusters import cluster
from wfe_gateway.config import GatewaySettings
from wfe_gateway.forms import address, typed
from wfe_gateway.listeners import grpc_listener, rest_listener
from wfe_gateway.observing import admin_cluster, metrics_listener, otlp_cluster
from wfe_gateway.routes import APPROVALS, SCHEDULER

__all__ = ["bootstrap", "render"]


def bootstrap(settings: GatewaySettings, *, self_contained: bool = False) -> dict[str, Any]:
    """The configuration as a tree.

    Args:
        settings: The gateway's settings.
        self_contained: Whether descriptors, OpenAPI document and Lua go into it and not their files' names,
            so that Envoy can run where this package is not.
    """
    tree: dict[str, Any] = {
        "node": {"id": "wfe-gateway", "cluster": "wfe-gateway"},
        "static_resources": {
            "listeners": [rest_listener(settings, self_contained=self_contained), grpc_listener(settings)],
            "clusters": [
                cluster(SCHEDULER, settings.scheduler, settings),
                cluster(APPROVALS, settings.approvals, settings),
            ],
        },
        "overload_manager": _overload(settings),
    }
    if settings.admin is not None:
        tree["admin"] = {"address": address(settings.admin)}
    static = tree["static_resources"]
    if settings.metrics_port is not None:
        static["listeners"].append(metrics_listener(settings))
        static["clusters"].append(admin_cluster(settings))
    if settings.otlp_endpoint is not None:
        static["clusters"].append(otlp_cluster(settings))
    return tree


def render(settings: GatewaySettings, *, self_contained: bool = False) -> str:
    """The configuration as JSON text; the arguments are those of `bootstrap`."""
    return json.dumps(bootstrap(settings, self_contained=self_contained), indent=1) + "\n"


def _overload(settings: GatewaySettings) -> dict[str, Any]:
    monitors = [
        {
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": typed(
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=settings.max_connections,
            ),
        }
    ]
    found: dict[str, Any] = {"resource_monitors": monitors}
    if settings.max_heap_mib:
        heap = "envoy.resource_monitors.fixed_heap"
        monitors.append(
            {
                "name": heap,
                "typed_config": typed(
                    "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    max_heap_size_bytes=settings.max_heap_mib << 20,
                ),
            }
        )
        found["refresh_interval"] = "0.25s"
        found["actions"] = [
            {
                "name": f"envoy.overload_actions.{action}",
                "triggers": [{"name": heap, "threshold": {"value": at}}],
            }
            for action, at in (("shrink_heap", 0.9), ("stop_accepting_requests", 0.95))
        ]
    return found
