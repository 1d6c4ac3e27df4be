"""What `make` says of a machine it cannot work on: one line, before anything is made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[1] / "tools" / "setup.sh"


def setup(python: str, path: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "HOME": "/", "PYTHON": python}
    return subprocess.run([str(SETUP)], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("prepared", "says"),
    [
        ("sys.version_info = (3, 10, 12)", r"setup: Python 3.11 to 3.14 is needed, .* is 3.10; name another: .*"),
        ("sys.version_info = (3, 15, 0)", r"setup: Python 3.11 to 3.14 is needed, .* is 3.15; name another: .*"),
        ("sys.modules['venv'] = None", r"setup: Python's venv is missing; on Debian: apt-get install python3-venv"),
        ("sys.modules['ensurepip'] = None", r"setup: Python's venv is missing; .*"),
    ],
)
def test_a_python_that_does_not_do_is_one_line(tmp_path, prepared, says):
    fake = tmp_path / "python"
    fake.write_text(f"""#!/bin/sh
[ "$1" = -c ] || exit 99
exec {sys.executable} -c "import sys; {prepared}; exec(sys.argv[1])" "$2"
""")
    fake.chmod(0o755)
    ended = setup(str(fake), os.environ["PATH"])
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert re.fullmatch(says, line), line


def test_no_python_is_one_line():
    ended = setup("no-such-python", os.environ["PATH"])
    assert ended.returncode == 1
    assert ended.stderr == "setup: no no-such-python on PATH; install Python 3.11 to 3.14\n"
