"""What the docs say that can be checked without an engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from wfe_language import validate
from wfe_sdk import registry

ROOT = Path(__file__).resolve().parents[1]
HANDLERS = (ROOT / "docs" / "handlers.md").read_text()
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page():
    """The page's Python as one module, with its handlers registered for as long as it is used."""
    known = dict(registry._handlers)
    names: dict[str, object] = {"__name__": "my_handlers"}
    exec(compile("\n".join(blocks(HANDLERS, "python")), "docs/handlers.md", "exec"), names)
    yield names
    registry._handlers = known


@pytest.mark.parametrize("name", re.findall(r"^def (test_\w+)", HANDLERS, re.MULTILINE))
def test_the_examples_for_handlers_do_what_they_say(page, name):
    page[name]()


def test_the_template_for_handlers_is_valid(page):
    for source in blocks(HANDLERS, "yaml"):
        assert validate(source, handlers=registry.names()) == []


def test_the_settings_are_those_of_the_classes():
    command = [sys.executable, str(ROOT / "tools" / "settings_doc.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text()):
        assert "://" in target or (path.parent / target).exists(), target


def failure_modes() -> list[list[str]]:
    page = (ROOT / "docs" / "reliability.md").read_text()
    return [[cell.strip() for cell in row.split(" | ")] for row in re.findall(r"^\| (F\d+ .*) \|$", page, re.MULTILINE)]


def test_every_failure_mode_has_an_answer():
    rows = failure_modes()
    assert [row[0] for row in rows] == [f"F{n}" for n in range(1, 48)]
    assert all(len(row) == 4 and all(row) and "open" not in row[3].split() for row in rows)


@pytest.mark.parametrize("row", failure_modes(), ids=lambda row: row[0])
def test_what_answers_and_tests_a_failure_mode_is_there(row):
    """Files are named from the repository's root, from a package's source, or beside the one named before."""
    files = [str(path.relative_to(ROOT)) for folder in ("libs", "services", "tests", "deploy", "docs") for path in
             (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]  # fmt: skip
    for cell in row[2:]:
        before = ""
        for named in re.findall(r"`([\w./-]*(?:/[\w./-]*|\.py|\.md))`", cell):
            found = [file for file in files if file.endswith(f"/{named}") or file == named]
            if "/" not in named and before:
                found = [file for file in found if file.rpartition("/")[0] == before]
            assert found, f"{row[0]}: {named}"
            before = found[0].rpartition("/")[0]
