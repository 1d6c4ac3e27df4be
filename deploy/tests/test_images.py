"""Images without an engine for them: the Dockerfile is linted and says what it should."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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
