"""The page of metrics, the alert rules and the dashboard against the metrics there are."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

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


@pytest.mark.parametrize("where", sorted(expressions()))
def test_rules_and_dashboard_use_metrics_there_are(where):
    used = set(re.findall(r"\bwfe_[a-z_]+", expressions()[where]))
    assert used
    assert used <= series()


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
