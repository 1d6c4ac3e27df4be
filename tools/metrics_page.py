"""The table of every metric in docs/metrics.md, from their declarations. `python -m tools.metrics_page` writes it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from wfe_servicekit.telemetry.metrics import Family

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
#: Modules that declare metrics, and which processes show them.
MODULES = {
    "wfe_servicekit.telemetry.process": "all",
    "wfe_scheduler.metrics": "scheduler",
    "wfe_scheduler.survey": "scheduler",
    "wfe_approvals.metrics": "approvals",
    "wfe_approvals.survey": "approvals",
    "wfe_executor.observe": "executor",
}
_BEGIN, _END = "<!-- made by tools/metrics_page.py -->", "<!-- end -->"


def declared() -> dict[str, tuple[str, str, str, tuple[str, ...]]]:
    """Every metric: name to (kind, where, meaning, labels)."""
    found: dict[str, tuple[str, str, str, tuple[str, ...]]] = {}
    for module, where in MODULES.items():
        # By the module that declares it, whatever else of the engine this process has imported already.
        for family in vars(importlib.import_module(module)).values():
            if isinstance(family, Family) and family.name.startswith("wfe_"):
                found.setdefault(family.name, (family.kind, where, family.meaning, family.labels))
    return found


def table() -> str:
    """The table, in Markdown."""
    rows = ["| metric | kind | where | labels | meaning |", "|---|---|---|---|---|"]
    for name, (kind, where, meaning, labels) in sorted(declared().items()):
        rows.append(f"| `{name}` | {kind} | {where} | {', '.join(labels) or '-'} | {meaning} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{table()}\n{_END}{after}"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
