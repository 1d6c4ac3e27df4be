"""Pin everything: collect what the packages and the tools need, compile it to requirements.lock with hashes.

Run it as `make lock` after a change to any pyproject.toml or to requirements-dev.in. The packages of this
repository themselves are installed editable and are left out.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def needed() -> list[str]:
    """Third-party requirements of every package, and the tools' own."""
    lines = {
        line.strip()
        for line in (ROOT / "requirements-dev.in").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    }
    for folder in ("libs", "services"):
        for manifest in sorted((ROOT / folder).glob("*/pyproject.toml")):
            project = tomllib.loads(manifest.read_text())["project"]
            lines |= {d for d in project.get("dependencies", []) if not d.startswith("wfe-")}
    return sorted(lines)


def main() -> int:
    """Write requirements.lock; the exit status is uv's."""
    command = [
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--generate-hashes",
        "--python-version",
        "3.11",
        "--no-emit-index-url",
        "--no-header",
        "--no-annotate",
        "--output-file",
        "requirements.lock",
        "-",
    ]
    return subprocess.run(command, cwd=ROOT, input="\n".join(needed()), text=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
