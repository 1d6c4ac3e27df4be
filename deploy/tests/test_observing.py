"""The page of metrics, the alert rules and the dashboard against the metrics there are."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from wfe_servicekit.telemetry.metrics import MOST_SERIES, Family

from tools import metrics_page

from .conftest import promtool

DEPLOY = Path(__file__).resolve().parents[1]
RULES = DEPLOY / "prometheus" / "rules.yaml"
DASHBOARD = DEPLOY / "grafana" / "workflow-engine.json"


def series() -> set[str]:
    found = set()
    for name, (kind, *_) in metrics_page.declared().items():
        found |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    return found


def expressions() -> dict[str, str]:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    found = {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        found |= {f"{panel['title']} {target['refId']}": target["expr"] for target in panel["targets"]}
    return found


def test_the_page_has_every_metric_as_it_is_declared():
    text = metrics_page.PAGE.read_text()
    assert metrics_page.page(text) == text, "docs/metrics.md has drifted: run .venv/bin/python -m tools.metrics_page"


def test_names_and_meanings_are_of_one_kind():
    for name, (kind, _, meaning, labels) in metrics_page.declared().items():
        assert re.fullmatch(r"wfe_[a-z_]+", name)
        assert (kind == "counter") == name.endswith("_total"), name
        assert meaning.endswith("."), name
        assert not set(labels) & {"run", "owner", "template", "step", "executor"}, f"{name} grows without bound"


def labelled() -> list[Family]:
    """Every metric with labels, of all processes."""
    found = [one for module in metrics_page.MODULES for one in vars(importlib.import_module(module)).values()]
    return [one for one in found if isinstance(one, Family) and one.labels]


@pytest.mark.parametrize("family", labelled(), ids=lambda family: family.name)
def test_no_metric_grows_without_bound_whatever_its_labels_are(family, monkeypatch):
    names = [name for name in ("values", "counts", "sums") if hasattr(family, name)]
    for name in names:
        monkeypatch.setattr(family, name, {})
    count = {
        "counter": lambda labels: family.inc(*labels),
        "gauge": lambda labels: family.set(1, *labels),
        "histogram": lambda labels: family.observe(1, *labels),
    }[family.kind]
    for number in range(3 * MOST_SERIES):
        count([f"{label}-{number}" for label in family.labels])
    kept = getattr(family, names[0])
    assert len(kept) == MOST_SERIES + 1
    assert ("other",) * len(family.labels) in kept


@pytest.mark.parametrize("where", sorted(expressions()))
def test_rules_and_dashboard_use_metrics_there_are(where):
    used = set(re.findall(r"\bwfe_[a-z_]+", expressions()[where]))
    assert used
    assert used <= series()


#: What whoever operates it asks first; each has to be seen without writing a query.
FIRST_ASKED = {
    "runs by status": "wfe_runs",
    "starts": "wfe_starts_total",
    "steps by outcome": "wfe_steps_total",
    "ready depth": "wfe_ready_steps",
    "oldest ready age": "wfe_oldest_ready_seconds",
    "claim wait": "wfe_claim_wait_seconds",
    "commit cycle time": "wfe_cycle_seconds",
    "commit cycle size": "wfe_cycle_commands",
    "lease losses": "wfe_lease_losses_total",
    "retries": "wfe_retries_total",
    "gate age": "wfe_gate_oldest_seconds",
    "webhook lag": "wfe_webhook_lag_seconds",
    "webhook failures": "wfe_webhook_attempts_total",
    "timers late": "wfe_timer_late_seconds",
    "pool use": "wfe_store_connections",
    "pool use of approvals": "wfe_approvals_store_connections",
    "event-loop lag": "wfe_loop_lag_seconds",
}


@pytest.mark.parametrize("what", FIRST_ASKED)
def test_the_dashboard_shows_what_is_asked_first(what):
    shown = " ".join(
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]
    )
    assert re.search(rf"\b{FIRST_ASKED[what]}(_bucket)?\b", shown)


def test_panels_do_not_cover_each_other():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_every_alert_says_what_to_do():
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["labels"]["severity"] in ("warning", "critical")
                assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]


def checked(*arguments: str, where: Path = RULES.parent) -> None:
    ended = subprocess.run([promtool(), *arguments], cwd=where, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("arguments", [("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")])
def test_promtool_takes_the_rules_and_their_tests(arguments):
    checked(*arguments)


def test_promtool_takes_the_expressions_of_the_dashboard(tmp_path):
    # Grafana puts the span of its window there.
    asked = [
        {"record": f"panel:{number}", "expr": target["expr"].replace("$__rate_interval", "1m")}
        for number, target in enumerate(
            target for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]
        )
    ]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    checked("check", "rules", "panels.yaml", where=tmp_path)
