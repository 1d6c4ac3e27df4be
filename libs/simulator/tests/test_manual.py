"""The manual tells the truth: every template in it is valid, and comes to what its cases say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import wfe_language
from wfe_engine import plan
from wfe_language.expressions import reference
from wfe_simulator import read_cases, run_case

ROOT = Path(__file__).parents[3]
MANUAL = (ROOT / "docs" / "templates.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", MANUAL, re.MULTILINE | re.DOTALL)
PAIRS = list(zip(BLOCKS[::2], BLOCKS[1::2], strict=True))


def name_of(pair: tuple[str, str]) -> str:
    return pair[0].partition("\n")[0]


@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
def test_every_example_runs_as_it_stands(pair):
    source, cases = pair
    assert cases.startswith("# cases")
    assert wfe_language.validate(source) == []
    compiled = wfe_language.compile(source)
    for case in read_cases(cases):
        assert run_case(compiled, case).problems == [], case.name


def test_every_kind_has_an_example():
    sections = re.findall(r"^### (\w+)\n(.*?)(?=^##)", MANUAL, re.MULTILINE | re.DOTALL)
    shown = {kind for kind, text in sections if re.search(rf"[{{ ]{kind}:", text)}
    assert shown == plan.KINDS - {"model"} | {"compensate"}


def test_the_table_of_functions_is_that_of_the_language():
    begin, end = "<!-- functions: python -m wfe_language.expressions.reference -->\n", "<!-- end of functions -->"
    assert MANUAL.partition(begin)[2].partition(end)[0] == reference.table()


@pytest.mark.parametrize("entry", reference.REFERENCE, ids=lambda entry: entry.example)
def test_every_example_of_a_function_gives_what_the_table_says(entry):
    value = wfe_language.CelEvaluator().evaluate(
        plan.Cel(entry.example, (("vars", ""),)), {"vars": reference.VARIABLES}
    )
    assert value == entry.value
    assert type(value) is type(entry.value)


def test_the_python_of_the_manual_runs():
    source = """\
name: t
variables: {person: {type: string}}
steps:
  - {id: ask, approval: {title: x, approvers: {users: [u]}}}
  - {id: send, call: {handler: send_mail, input: "${{ vars.person }}"}}
"""
    (code,) = re.findall(r"^```python\n(.*?)^```", MANUAL, re.MULTILINE | re.DOTALL)
    exec(code, {"source": source})
