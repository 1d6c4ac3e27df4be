"""Templates in the documentation are valid as they stand, for the compiler and for editors."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema_rs
import pytest
import wfe_language

DOCS = Path(__file__).parents[3] / "docs"
TEMPLATES = [
    pytest.param(block, id=f"{page.stem}-{at}")
    for page in sorted(DOCS.glob("*.md"))
    for at, block in enumerate(re.findall(r"```yaml\n(name: .*?)```", page.read_text(), re.DOTALL))
]
VALIDATOR = jsonschema_rs.Draft202012Validator(
    json.loads(files("wfe_language").joinpath("template.schema.json").read_text())
)


def test_there_are_templates():
    assert len(TEMPLATES) >= 8


@pytest.mark.parametrize("source", TEMPLATES)
def test_templates_of_the_documentation(source):
    assert wfe_language.validate(source) == []
    assert [error.message for error in VALIDATOR.iter_errors(wfe_language.load(source)[0])] == []
