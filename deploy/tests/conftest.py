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
from wfe_stack.testing import database_template, database_url, nats_url, postgres_server

__all__ = ["database_template", "database_url", "nats_url", "postgres_server"]

DEPLOY = Path(__file__).resolve().parents[1]
OVERLAYS = ("dev", "prod")


def tool(name: str) -> str:
    """A program: the one WFE_<NAME> names, of PATH, or what tools/<name>.sh fetches into build/.

    Raises:
        FileNotFoundError: It is not there and cannot be fetched.
    """
    found = os.environ.get(f"WFE_{name.upper()}") or shutil.which(name)
    if found:
        return found
    root = DEPLOY.parent
    ended = subprocess.run(
        [str(root / "tools" / f"{name}.sh")], capture_output=True, text=True, check=False, timeout=300
    )
    if ended.returncode != 0:
        raise FileNotFoundError(f"there is no {name}, and it could not be fetched: {ended.stderr.strip()}")
    return str(root / "build" / name)


@cache
def kubectl() -> str:
    """kubectl. Without it nothing here could be checked, so that is a failure."""
    return tool("kubectl")


@cache
def promtool() -> str:
    """promtool. Debian has it; elsewhere it has to be on PATH."""
    try:
        return tool("promtool")
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@cache
def objects(overlay: str) -> tuple[dict[str, Any], ...]:
    """Every object of an overlay."""
    line = [kubectl(), "kustomize", str(DEPLOY / "k8s" / "overlays" / overlay)]
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
