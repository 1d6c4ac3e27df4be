"""The network policies let through exactly the arrows of the architecture diagram, evaluated as Kubernetes does."""

from __future__ import annotations

import re
from itertools import product

import pytest

from .conftest import DEPLOY, objects, pods

#: A name in the diagram, and the pods it stands for.
NAMES = {
    "Envoy": "gateway",
    "scheduler": "scheduler",
    "approvals": "approvals",
    "executor": "executor",
    "NATS": "nats",
    "Postgres": "postgres",
}
PORTS = {"scheduler": 9101, "approvals": 9101, "nats": 4222, "postgres": 5432}
#: Jobs are not in the diagram: they do for the run store what an operator would.
JOBS = {("migrate", "postgres", 5432), ("maintenance", "postgres", 5432)}
INSIDE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}
ALL_PORTS = (22, 4222, 5432, 6222, 8080, 8081, 8222, 9101, 9103, 9104, 9901)


def arrows() -> set[tuple[str, str, int]]:
    """(from, to, port) of docs/architecture.md's diagram."""
    page = (DEPLOY.parent / "docs" / "architecture.md").read_text()
    diagram = page.split("```")[1]
    found = set()
    after_envoy = set()
    for line in diagram.splitlines():
        said = [NAMES[word] for word in re.findall("|".join(NAMES), line)]
        if "gateway" in said or "─▶ approvals ×N" in line:
            after_envoy |= {pod for pod in said if pod in ("scheduler", "approvals")}
        for hub in ("nats", "postgres"):
            if hub in said:
                found |= {(pod, hub, PORTS[hub]) for pod in said if pod in ("scheduler", "approvals", "executor")}
    return found | {("gateway", pod, PORTS[pod]) for pod in after_envoy}


def test_the_diagram_is_read():
    assert arrows() == {
        ("gateway", "scheduler", 9101),
        ("gateway", "approvals", 9101),
        ("scheduler", "nats", 4222),
        ("approvals", "nats", 4222),
        ("executor", "nats", 4222),
        ("scheduler", "postgres", 5432),
        ("approvals", "postgres", 5432),
    }


def matches(selector, labels):
    if selector is None:
        return False
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(
        {"In": labels.get(one["key"]) in one.get("values", ()), "Exists": one["key"] in labels}[one["operator"]]
        for one in selector.get("matchExpressions", ())
    )


def side_allows(policies, direction, own, other, port):
    """Whether one side of a connection inside the namespace is let through."""
    key, peers = ("Ingress", "from") if direction == "ingress" else ("Egress", "to")
    chosen = [
        one["spec"]
        for one in policies
        if key in one["spec"]["policyTypes"] and matches(one["spec"]["podSelector"], own)
    ]
    if not chosen:
        return True
    for rule in [rule for spec in chosen for rule in spec.get(direction, ())]:
        on_port = "ports" not in rule or any(p["port"] == port and p["protocol"] == "TCP" for p in rule["ports"])
        from_peer = peers not in rule or any(
            "namespaceSelector" not in peer and "ipBlock" not in peer and matches(peer.get("podSelector"), other)
            for peer in rule[peers]
        )
        if on_port and from_peer:
            return True
    return False


def everybody(overlay):
    found = {name: pod["metadata"]["labels"] for name, pod in pods(objects(overlay)).items()}
    part = {"app.kubernetes.io/part-of": "workflow-engine"}
    if overlay == "prod":  # made by operators and a chart, not by these manifests
        found["nats"] = {"app.kubernetes.io/name": "nats"}
        found["postgres"] = {"cnpg.io/cluster": "postgres"}
    return found | {"stranger": {"app": "stranger"}, "stranger-of-the-part": {**part, "app": "stranger"}}


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_pods_reach_each_other_along_the_arrows_and_no_other_way(overlay):
    policies = [one for one in objects(overlay) if one["kind"] == "NetworkPolicy"]
    labels = everybody(overlay)
    open_ways = {
        (source, target, port)
        for source, target, port in product(labels, labels, ALL_PORTS)
        if source != target
        and side_allows(policies, "egress", labels[source], labels[target], port)
        and side_allows(policies, "ingress", labels[target], labels[source], port)
    }
    wanted = arrows() | JOBS
    wanted |= {("executor-io", to, port) for source, to, port in wanted if source == "executor" and overlay == "prod"}
    # Anybody may call the gateway's two listeners; a policy of the caller's own namespace says from where.
    doors = {(source, "gateway", port) for source in labels for port in (8080, 8081)}
    assert open_ways - doors == wanted


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_only_steps_and_webhooks_leave_and_not_for_what_is_inside(overlay):
    policies = [one["spec"] for one in objects(overlay) if one["kind"] == "NetworkPolicy"]
    leaving = set()
    for name, labels in everybody(overlay).items():
        for spec in policies:
            blocks = [
                peer["ipBlock"] for rule in spec.get("egress", ()) for peer in rule.get("to", ()) if "ipBlock" in peer
            ]
            if blocks and matches(spec["podSelector"], labels):
                leaving.add(name)
                for block in blocks:
                    assert block["except"], name
                    if block["cidr"] == "0.0.0.0/0":
                        assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(
                            block["except"]
                        )
    assert {name.removesuffix("-io") for name in leaving} == {"executor", "approvals"}


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_metrics_are_read_from_the_namespace_of_monitoring_only(overlay):
    watching = next(
        one["spec"]
        for one in objects(overlay)
        if one["metadata"]["name"] == "watching" and one["kind"] == "NetworkPolicy"
    )
    (rule,) = watching["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 9104}]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
