"""The peers' programs, installed once into build/peers from their own pinned lists."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HOME = Path("build/peers").resolve()
PYTHON = HOME / "venv/bin/python"
RESTATE = HOME / "node_modules/@restatedev/restate-server-linux-x64/bin/restate-server"


def install() -> None:
    """Install what is missing or has changed.

    Raises:
        SystemExit: npm is missing.
        subprocess.CalledProcessError: Something could not be installed.
    """
    wanted = (HERE / "requirements.txt").read_text() + (HERE / "package.json").read_text()
    stamp = HOME / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("bench-peers: npm is missing; Restate's server comes from it")
    HOME.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(HOME / "venv")], check=True)
    subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", "-r", str(HERE / "requirements.txt")], check=True)
    shutil.copy(HERE / "package.json", HOME)
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=HOME, check=True)
    stamp.write_text(wanted)
