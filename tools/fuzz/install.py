"""The fuzzers, installed once into build/fuzz from their own list: nothing else needs them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
HOME = Path("build/fuzz").resolve()
PYTHON = HOME / "venv/bin/python"
SCHEMATHESIS = HOME / "venv/bin/st"


def install() -> None:
    """Install what is missing or has changed.

    Raises:
        subprocess.CalledProcessError: Something could not be installed.
    """
    wanted = (HERE / "requirements.txt").read_text()
    stamp = HOME / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    HOME.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(HOME / "venv")], check=True)
    subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", "-r", str(HERE / "requirements.txt")], check=True)
    # The product, as it is installed here, behind what the fuzzers brought.
    (ours,) = (HOME / "venv/lib").glob("python*/site-packages")
    (ours / "product.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    stamp.write_text(wanted)
