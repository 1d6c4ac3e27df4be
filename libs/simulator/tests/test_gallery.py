"""Every template of the gallery is valid and comes to what its cases say, in milliseconds."""

from __future__ import annotations

from pathlib import Path

import jsonschema_rs
import msgspec
import pytest
import wfe_language
from wfe_simulator import read_cases, run_case

GALLERY = Path(__file__).parents[3] / "examples" / "gallery"
TEMPLATES = sorted(GALLERY.glob("*.yaml"))
SCHEMA = jsonschema_rs.Draft202012Validator(
    msgspec.json.decode((Path(wfe_language.__file__).parent / "template.schema.json").read_bytes())
)
ALL = [
    pytest.param(path, case, id=f"{path.stem}: {case.name}")
    for path in TEMPLATES
    for case in read_cases((GALLERY / "cases" / path.name).read_text())
]


@pytest.mark.parametrize(("path", "case"), ALL)
def test_case(path, case):
    report = run_case(wfe_language.compile(path.read_text()), case)
    assert report.problems == []
    assert report.seconds < 1


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_template(path):
    source = path.read_text()
    assert wfe_language.validate(source) == []
    assert [error.message for error in SCHEMA.iter_errors(wfe_language.load(source)[0])] == []
    assert wfe_language.compile(source).name == path.stem
    assert len(source.splitlines()) <= 60


def test_there_are_ten():
    assert len(TEMPLATES) >= 10
