#!/usr/bin/env python3
"""Write the table of settings in docs/operations.md from the settings classes.

Usage: tools/settings_doc.py [--check]; with --check nothing is written, and the exit status says whether it is true.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from inspect import getdoc
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings
from wfe_approvals.config import ApprovalsSettings
from wfe_executor.config import Settings as ExecutorSettings
from wfe_gateway.config import GatewaySettings
from wfe_scheduler.config import SchedulerSettings
from wfe_servicekit.settings import ProcessSettings, ServiceSettings

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
BEGIN, END = "<!-- settings: made by tools/settings_doc.py -->\n", "<!-- end of settings -->"
SECTIONS: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("Scheduler, approvals and executor", ProcessSettings),
    ("Scheduler and approvals", ServiceSettings),
    ("Scheduler", SchedulerSettings),
    ("Approvals", ApprovalsSettings),
    ("Executor", ExecutorSettings),
    ("Gateway", GatewaySettings),
)


def attributes(cls: type[BaseSettings]) -> dict[str, str]:
    """What a class's docstring says of each setting.

    Raises:
        ValueError: It has no word of one, or of one that is none.
    """
    text = (getdoc(cls) or "").partition("Attributes:\n")[2]
    found = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", text, re.MULTILINE | re.DOTALL)
    }
    own = set(cls.__annotations__) - {"model_config"}
    if found.keys() != own:
        raise ValueError(f"{cls.__name__} and its docstring differ in {sorted(found.keys() ^ own)}")
    return found


def rows(cls: type[BaseSettings]) -> Iterator[str]:
    """A line of the table for each setting of a class's own."""
    told = attributes(cls)
    for name in cls.__annotations__:
        if name in told:
            variable = f"{cls.model_config['env_prefix']}{name}".upper()
            text = told[name].replace("|", "\\|")
            yield f"| `{variable}` | {_default(cls.model_fields[name])} | {text} |"


def _default(field: Any) -> str:
    if field.default_factory is not None:
        return ""
    value = field.default
    if value is PydanticUndefined:
        return "**must be set**"
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(f"{each:g}" if isinstance(each, float) else f"{each.host}:{each.port}" for each in value)
    assert not isinstance(value, SecretStr)
    return str(value)


def tables() -> str:
    """All settings, a table for each class."""
    lines = []
    for title, cls in SECTIONS:
        lines += [f"\n### {title}\n", "| variable | default | |", "|---|---|---|", *rows(cls)]
    return "\n".join(lines) + "\n\n"


def main() -> int:
    """Write or check the document; the exit status is 1 when a check finds a difference."""
    text = DOCUMENT.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{DOCUMENT} has lost its marks {BEGIN.strip()} and {END}")
    fresh = before + BEGIN + tables() + END + after
    if "--check" in sys.argv[1:]:
        if fresh != text:
            sys.stderr.write("docs/operations.md is not what the settings are; run tools/settings_doc.py\n")
        return int(fresh != text)
    DOCUMENT.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
