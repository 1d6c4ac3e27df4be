"""The network policies let through exactly the arrows of the architecture diagram, evaluated as Kubernetes does."""

from __future__ import annotations

import ipaddress
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
OUTSIDE = ("93.184.216.34", "2606:2800:220:1::1")
#: Pods, services, nodes, and what clouds tell their machines.
INSIDE = ("10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "127.0.0.1", "fd00:ec2::254", "::1")
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


def who_leaves() -> set[str]:
    """Pods of which docs/architecture.md's diagram says that they call other systems."""
    diagram = (DEPLOY.parent / "docs" / "architecture.md").read_text().split("```")[1]
    lines = [line for line in diagram.splitlines() if line.endswith("▶ other systems")]
    return {NAMES[line.split()[0]] for line in lines}


def way_out(policies, labels, address: str, port: int) -> bool:
    """Whether a pod may open a connection to an address outside the cluster's pods."""
    target = ipaddress.ip_address(address)
    for spec in policies:
        if "Egress" not in spec["policyTypes"] or not matches(spec["podSelector"], labels):
            continue
        for rule in spec.get("egress", ()):
            if "ports" in rule and not any(p["port"] == port and p["protocol"] == "TCP" for p in rule["ports"]):
                continue
            blocks = [peer["ipBlock"] for peer in rule.get("to", ()) if "ipBlock" in peer]
            for block in blocks:
                inside = any(target in ipaddress.ip_network(one) for one in block.get("except", ()))
                if target in ipaddress.ip_network(block["cidr"]) and not inside:
                    return True
    return False


def test_the_diagram_says_who_calls_other_systems():
    assert who_leaves() == {"executor", "approvals"}


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_steps_and_webhooks_leave_for_the_world_and_nobody_for_what_is_inside(overlay):
    policies = [one["spec"] for one in objects(overlay) if one["kind"] == "NetworkPolicy"]
    for name, labels in everybody(overlay).items():
        if labels.get("cnpg.io/cluster"):
            continue  # the operator's pods, which reach the object store
        for address in OUTSIDE:
            for port in (80, 443):
                assert way_out(policies, labels, address, port) == (name.removesuffix("-io") in who_leaves()), name
            for port in (22, 25, 5432, 6443):
                assert not way_out(policies, labels, address, port), (name, address, port)
        for address in INSIDE:
            assert not way_out(policies, labels, address, 443), (name, address)


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_what_comes_from_outside_hooks_and_calls_alike_comes_to_the_gateway_alone(overlay):
    policies = [one["spec"] for one in objects(overlay) if one["kind"] == "NetworkPolicy"]
    open_to_all = {
        (name, port["port"])
        for name, labels in everybody(overlay).items()
        for spec in policies
        if "Ingress" in spec["policyTypes"] and matches(spec["podSelector"], labels)
        for rule in spec.get("ingress", ())
        if "from" not in rule or any("ipBlock" in peer for peer in rule["from"])
        for port in rule.get("ports", [{"port": "any"}])
    }
    assert open_to_all == {("gateway", 8080), ("gateway", 8081)}


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
