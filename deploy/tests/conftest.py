"""The manifests as kubectl renders them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[1]
OVERLAYS = ("dev", "prod")


@cache
def kubectl() -> str | None:
    """kubectl: the one WFE_KUBECTL names, of PATH, or the one `make k8s-tools` fetched."""
    fetched = DEPLOY.parent / "build" / "kubectl"
    return os.environ.get("WFE_KUBECTL") or shutil.which("kubectl") or (str(fetched) if fetched.exists() else None)


@cache
def objects(overlay: str) -> tuple[dict[str, Any], ...]:
    """Every object of an overlay."""
    found = kubectl()
    if found is None:
        pytest.skip("there is no kubectl: make k8s-tools fetches one")
    line = [found, "kustomize", str(DEPLOY / "k8s" / "overlays" / overlay)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return tuple(yaml.safe_load_all(ended.stdout))


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    """Each overlay."""
    return str(request.param)


@pytest.fixture
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """Every object of each overlay."""
    return objects(overlay)


def pods(found: tuple[dict[str, Any], ...]) -> dict[str, dict[str, Any]]:
    """Pod templates by the name of what makes them."""
    made: dict[str, dict[str, Any]] = {}
    where: dict[str, Callable[[Any], Any]] = {
        "Deployment": lambda spec: spec["template"],
        "StatefulSet": lambda spec: spec["template"],
        "Job": lambda spec: spec["template"],
        "CronJob": lambda spec: spec["jobTemplate"]["spec"]["template"],
    }
    for one in found:
        if one["kind"] in where:
            made[one["metadata"]["name"]] = where[one["kind"]](one["spec"])
    return made
