"""What services say in their logs."""

from __future__ import annotations

import re
from pathlib import Path

_ERROR = re.compile(r'"level": ?"(error|critical)"|Traceback')


def unexpected(logs: Path) -> list[str]:
    """Lines of the services' logs that tell of a fault nobody expected."""
    found = []
    for path in sorted(logs.glob("*.log")):
        lines = path.read_text(errors="replace").splitlines()
        found += [f"{path.stem}: {line[:300]}" for line in lines if _ERROR.search(line)]
    return found
