"""What a package of this repository needs: of the repository, of others, and with which hashes.

Usage: members.py MEMBER | --requirements MEMBER | --pinned FILE
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def projects() -> dict[str, tuple[str, list[str]]]:
    """Packages of this repository: name to (folder, dependencies)."""
    found = {}
    for manifest in sorted(ROOT.glob("*/*/pyproject.toml")):
        project = tomllib.loads(manifest.read_text())["project"]
        found[project["name"]] = (str(manifest.parent.relative_to(ROOT)), project.get("dependencies", []))
    return found


def closure(member: str) -> tuple[list[str], list[str]]:
    """Folders of the member and of what it needs here, and requirements of all of them."""
    known = projects()
    waiting = [name for name, (folder, _) in known.items() if folder == member]
    if not waiting:
        raise SystemExit(f"members.py: {member} is no package of this repository")
    names: list[str] = []
    outside: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.append(name)
        for dependency in known[name][1]:
            base = re.split(r"[\[<>=!~; ]", dependency, maxsplit=1)[0]
            if base in known:
                waiting.append(base)
            else:
                outside.add(dependency)
    return sorted(known[name][0] for name in names), sorted(outside)


def pinned(path: Path) -> str:
    """The blocks of requirements.lock for the packages a file names, with their hashes."""
    lock = (ROOT / "requirements.lock").read_text()
    blocks = {}
    for block in re.split(r"(?m)^(?=\S)", lock):
        name = re.match(r"[A-Za-z0-9._-]+", block)
        if name:
            blocks[re.sub(r"[-_.]+", "-", name[0]).lower()] = block
    wanted = re.findall(r"(?m)^([A-Za-z0-9._-]+)==", path.read_text())
    return "".join(blocks[re.sub(r"[-_.]+", "-", name).lower()] for name in wanted)


def main() -> int:
    """Print what was asked for."""
    if len(sys.argv) == 2:
        sys.stdout.write("\n".join(closure(sys.argv[1])[0]) + "\n")
    elif sys.argv[1] == "--requirements":
        sys.stdout.write("\n".join(closure(sys.argv[2])[1]) + "\n")
    else:
        sys.stdout.write(pinned(Path(sys.argv[2])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
