"""The manifests: valid, hardened, probed, drained, and naming only what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from wfe_bus.subjects import PERMISSIONS
from wfe_executor.config import Settings
from wfe_gateway.config import GatewaySettings
from wfe_scheduler.config import SchedulerSettings

from .conftest import DEPLOY, OVERLAYS, objects, pods

#: The oldest and the newest Kubernetes the manifests are held to.
VERSIONS = ("1.32", "1.37")
CUSTOM = ("cert-manager.io", "gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com", "postgresql.cnpg.io")
LONG_LIVED = ("Deployment", "StatefulSet")


def is_custom(one: dict[str, Any]) -> bool:
    return one["apiVersion"].startswith(CUSTOM)


def of_kind(found, *kinds):
    return {one["metadata"]["name"]: one for one in found if one["kind"] in kinds}


def env_of(container):
    return {one["name"]: one for one in container.get("env", ())}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_of_its_schema(rendered, version):
    for one in rendered:
        if not is_custom(one):
            kubernetes_validate.validate(one, version, strict=True)


@cache
def crd_schemas() -> dict[tuple[str, str], Any]:
    found = [json.loads(path.read_text()) for path in (DEPLOY / "tests" / "crds").glob("*.json")]
    return {(one["apiVersion"], one["kind"]): strict(one["schema"]) for one in found}


def strict(schema: Any) -> Any:
    """The schema as the API server sees it: a field nobody knows is a fault."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


def custom_faults(one: dict[str, Any]) -> list[str]:
    schema = crd_schemas()[one["apiVersion"], one["kind"]]
    schema = schema | {"properties": schema["properties"] | {"metadata": {"type": "object"}}}
    return [f"{fault.json_path}: {fault.message}" for fault in Draft202012Validator(schema).iter_errors(one)]


def test_custom_resources_are_of_their_definitions(rendered):
    for one in filter(is_custom, rendered):
        assert not custom_faults(one), f"{one['kind']} {one['metadata']['name']}"


def test_every_definition_is_of_a_kind_the_manifests_use_and_can_refuse():
    """A schema that lets everything through would check nothing."""
    used = {(one["apiVersion"], one["kind"]): one for one in objects("prod") if is_custom(one)}
    assert set(used) == set(crd_schemas())
    for one in used.values():
        assert custom_faults(one | {"spec": one["spec"] | {"notAField": 1}}), one["kind"]
        name, value = next(iter(one["spec"].items()))
        wrong = {"spec": one["spec"] | {name: 7.5 if isinstance(value, str | list | dict) else "seven"}}
        assert custom_faults(one | wrong), f"{one['kind']}: {name}"


def test_requests_and_limits_are_those_the_page_derives():
    page = (DEPLOY.parent / "docs" / "kubernetes.md").read_text()
    rows = re.findall(r"(?m)^\| (\w+) \| (\d+) \| [\d.-]+ \| (\S+), (\d+)Mi \| (\d+)(Mi|Gi) \|$", page)
    assert [row[0] for row in rows] == ["scheduler", "approvals", "executor", "envoy"]
    containers = {one["name"]: one for pod in pods(objects("prod")).values() for one in pod["spec"]["containers"]}
    for name, peak, cpu, memory, limit, unit in rows:
        resources = containers[name]["resources"]
        assert resources["requests"] == {"cpu": cpu, "memory": f"{memory}Mi"}, name
        assert resources["limits"] == {"memory": f"{limit}{unit}"}, name
        assert int(peak) < int(memory), f"{name} would be evicted first"


def test_pods_may_do_nothing_they_need_not(rendered):
    for name, pod in pods(rendered).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            own = container["securityContext"]
            assert own == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (name, container["name"])
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name
            image, _, tag = container["image"].partition(":")
            assert tag not in ("", "latest"), f"{name}: {image} has no fixed version"
        assert not any("hostPath" in volume for volume in spec.get("volumes", ())), name


def test_service_accounts_have_no_token(rendered):
    accounts = of_kind(rendered, "ServiceAccount")
    assert all(one["automountServiceAccountToken"] is False for one in accounts.values())
    used = {pod["spec"]["serviceAccountName"] for pod in pods(rendered).values() if "serviceAccountName" in pod["spec"]}
    assert used == set(accounts)


def test_what_lives_long_is_probed_and_liveness_follows_nothing_else(rendered):
    for name, one in of_kind(rendered, *LONG_LIVED).items():
        for container in one["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name
    for name in ("scheduler", "approvals"):
        container = pods(rendered)[name]["spec"]["containers"][0]
        assert container["livenessProbe"]["grpc"] == {"port": 9103, "service": ""}
        assert container["startupProbe"]["grpc"] == {"port": 9103, "service": ""}
        assert container["readinessProbe"]["grpc"] == {"port": 9103, "service": "ready"}
    for name in [name for name in pods(rendered) if name.startswith("executor")]:
        container = pods(rendered)[name]["spec"]["containers"][0]
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"


def test_the_grace_fits_the_drain(rendered):
    for name, pod in pods(rendered).items():
        if name not in ("scheduler", "approvals") and not name.startswith("executor"):
            continue
        environment = {key: one.get("value") for key, one in env_of(pod["spec"]["containers"][0]).items()}
        drain = float(environment["WFE_DRAIN_SECONDS"])
        grace = float(environment.get("WFE_SHUTDOWN_GRACE_SECONDS") or 0)
        # An executor waits up to 10 s for the answers to its last reports, a service up to 15 s for what it closes.
        assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + grace + 15, name


def test_every_service_has_a_budget_and_is_spread(rendered):
    budgets = of_kind(rendered, "PodDisruptionBudget")
    for name in ("gateway", "scheduler", "approvals", "executor"):
        assert name in budgets
        assert pods(rendered)[name]["spec"]["topologySpreadConstraints"], name
        assert pods(rendered)[name]["spec"]["priorityClassName"] in of_kind(rendered, "PriorityClass")


def test_grpc_services_are_headless(rendered):
    services = of_kind(rendered, "Service")
    assert services["scheduler"]["spec"]["clusterIP"] == services["approvals"]["spec"]["clusterIP"] == "None"


def test_selectors_and_labels_meet(rendered):
    made = pods(rendered)
    for name, one in of_kind(rendered, "Deployment", "StatefulSet").items():
        wanted = one["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= one["spec"]["template"]["metadata"]["labels"].items(), name
        others = [n for n, pod in made.items() if n != name and wanted.items() <= pod["metadata"]["labels"].items()]
        assert not others, f"{name} would take the pods of {others}"
    for name, one in of_kind(rendered, "Service").items():
        ports = {
            port["name"]
            for pod in made.values()
            if one["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
            for container in pod["spec"]["containers"]
            for port in container["ports"]
        }
        for port in one["spec"]["ports"]:
            assert port.get("targetPort", port["name"]) in ports, name


def test_secrets_and_config_are_by_reference_to_what_there_is(overlay, rendered):
    there = set(of_kind(rendered, "Secret", "ConfigMap", "PersistentVolumeClaim"))
    there |= {one["spec"]["secretName"] for one in of_kind(rendered, "Certificate").values()}
    if overlay == "prod":
        assert not of_kind(rendered, "Secret"), "secrets do not belong into a repository"
        there |= {"wfe-database", "wfe-nats", "wfe-seal"}
    text = yaml.safe_dump([pod["spec"] for pod in pods(rendered).values()])
    used = set(re.findall(r"(?:secretName|claimName): (\S+)", text))
    for pod in pods(rendered).values():
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]:
            for one in container.get("env", ()):
                reference = one.get("valueFrom", {})
                used |= {reference[kind]["name"] for kind in ("secretKeyRef", "configMapKeyRef") if kind in reference}
                assert not re.search("PASSWORD|SECRET|_URL$", one["name"]) or "valueFrom" in one, one["name"]
            used |= {one["configMapRef"]["name"] for one in container.get("envFrom", ())}
    assert used <= there


def test_variables_are_settings_there_are(rendered):
    known = {f"WFE_{name.upper()}" for name in (*SchedulerSettings.model_fields, *Settings.model_fields)}
    known |= {f"WFE_GATEWAY_{name.upper()}" for name in GatewaySettings.model_fields}
    known |= {f"WFE_{role.upper()}_PASSWORD" for role in PERMISSIONS}  # of the bus's own configuration
    for name, pod in pods(rendered).items():
        for container in pod["spec"]["containers"]:
            assert {key for key in env_of(container) if key.startswith("WFE_")} <= known, name
    for name in ("wfe", "wfe-gateway"):
        assert set(of_kind(rendered, "ConfigMap")[name]["data"]) <= known


def test_certificates_name_what_they_are_reached_by():
    found = of_kind(objects("prod"), "Certificate")
    for name in ("scheduler", "approvals", "gateway"):
        assert name in found[name]["spec"]["dnsNames"]
    gateway = of_kind(objects("prod"), "ConfigMap")["wfe-gateway"]["data"]
    assert gateway["WFE_GATEWAY_SCHEDULER"] == "scheduler:9101"
    assert gateway["WFE_GATEWAY_UPSTREAM_CA"] == "/secrets/tls/ca.crt"


def test_executors_are_scaled_by_ready_and_leased():
    scaled = of_kind(objects("prod"), "ScaledObject")["executor"]["spec"]
    queries = [trigger["metadata"]["query"] for trigger in scaled["triggers"]]
    assert 'max(wfe_work_steps{queue="default"})' in queries
    assert not any("wfe_ready_steps" in query for query in queries), "by the backlog alone it would end busy executors"
    slots = env_of(pods(objects("prod"))["executor"]["spec"]["containers"][0])["WFE_EXECUTOR_SLOTS"]["value"]
    assert float(scaled["triggers"][0]["metadata"]["threshold"]) < float(slots)
    assert "replicas" not in of_kind(objects("prod"), "Deployment")["executor"]["spec"]


def test_the_operator_gets_the_rules_that_promtool_checks():
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())
    assert of_kind(objects("prod"), "PrometheusRule")["workflow-engine"]["spec"] == rules


def bus_users(users):
    return {
        user["user"]: {side: user["permissions"][side]["allow"] for side in ("publish", "subscribe")} for user in users
    }


def test_the_bus_lets_each_role_say_what_it_may():
    values = yaml.safe_load((DEPLOY / "nats" / "values.yaml").read_text())
    assert bus_users(values["config"]["merge"]["authorization"]["users"]) == PERMISSIONS
    conf = DEPLOY / "k8s" / "components" / "dev-nats" / "nats.conf"
    # The server's own check; what it reads is YAML too, as it is written here.
    passwords = {f"WFE_{role.upper()}_PASSWORD": "secret" for role in PERMISSIONS}
    line = [str(Path(sys.executable).with_name("nats-server")), "-c", str(conf), "-t"]
    ended = subprocess.run(line, env=passwords, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 0, ended.stderr
    assert bus_users(yaml.safe_load(conf.read_text())["authorization"]["users"]) == PERMISSIONS


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_figure_is_a_string_kubernetes_would_refuse(name):
    assert all("metadata" in one and one["metadata"].get("name") for one in objects(name))
