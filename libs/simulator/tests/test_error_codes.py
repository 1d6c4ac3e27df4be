"""docs/errors.md names every code a step can fail with, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
#: Where steps are made to fail.
SOURCES = [
    *(ROOT / "libs/engine/src/wfe_engine").rglob("*.py"),
    *(ROOT / "services/executor/src/wfe_executor").rglob("*.py"),
    *(ROOT / "services/scheduler/src/wfe_scheduler").glob("*.py"),
]
#: Calls whose first argument, or whose `code`, is the code of a failure.
CALLS = {"failure", "Fault", "_fault", "TerminalError", "RetryableError", "Failure", "fail", "_lacking"}
#: Codes that come from another library, by its name.
ELSEWHERE = {"EGRESS_DENIED", "RESPONSE_TOO_LARGE", "TOOL_UNKNOWN"}


def text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def codes(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in CALLS:
                yield from filter(None, (text(node.args[0] if node.args else None),))
            if name in CALLS or name == "replace":
                yield from filter(None, (text(k.value) for k in node.keywords if k.arg == "code"))
        elif isinstance(node, ast.Assign):
            for target, value in pairs(node.targets[0], node.value):
                found = text(value)
                if found and isinstance(target, ast.Name) and (target.id == found or target.id == "code"):
                    yield found


def pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def test_the_list_is_complete_and_has_nothing_else():
    raised = {code for path in SOURCES for code in codes(path.read_text()) if CODE.fullmatch(code)} | ELSEWHERE
    listed = re.findall(r"^\| `([A-Z0-9_]+)`", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == raised


def test_the_other_library_has_those_codes():
    sources = [*(ROOT / "libs/egress/src").rglob("*.py"), *(ROOT / "libs/language/src").rglob("*.py")]
    egress = "".join(path.read_text() for path in sources)
    for code in ELSEWHERE:
        assert f'"{code}"' in egress
