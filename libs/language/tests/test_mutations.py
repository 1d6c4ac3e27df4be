"""Templates with one thing in them changed: the compiler never breaks, and editors refuse nothing that it accepts."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import wfe_language

ROOT = Path(__file__).parents[3]
SOURCES = [
    *(path.read_text() for path in sorted((ROOT / "examples").glob("*.yaml"))),
    *(path.read_text() for path in sorted((ROOT / "examples/gallery").glob("*.yaml"))),
    *(
        block
        for page in sorted((ROOT / "docs").glob("*.md"))
        for block in re.findall(r"```yaml\n(name: .*?)```", page.read_text(), re.DOTALL)
    ),
]
VALIDATOR = jsonschema_rs.Draft202012Validator(
    json.loads(files("wfe_language").joinpath("template.schema.json").read_text())
)
OTHERS: tuple[Any, ...] = (
    None, True, 7, -3, 1.5, "text", "", [], {}, ["x"], [[]], {"x": 1}, "${{ vars.nope }}", "1h", "9" * 30,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(template: Any, chance: random.Random) -> Any:
    made = copy.deepcopy(template)
    *way, last = chance.choice(list(places(made)))
    at = made
    for key in way:
        at = at[key]
    how = chance.randrange(4)
    if how == 0:
        del at[last]
    elif how == 1 and isinstance(at, dict):
        at["strange"] = at[last]
    else:
        at[last] = chance.choice(OTHERS)
    return made


TEMPLATES = [wfe_language.load(source)[0] for source in SOURCES if not source.startswith("# cases")]
TEMPLATES = [each for each in TEMPLATES if {"name", "steps"} <= set(each)]


def test_there_are_templates_of_the_gallery_and_the_manual():
    assert len(TEMPLATES) > 40
    assert [each["name"] for each in TEMPLATES if not VALIDATOR.is_valid(each)] == []


@pytest.mark.parametrize("seed", range(6))
def test_a_change_is_never_refused_by_editors_alone_and_never_breaks_the_compiler(seed):
    chance = random.Random(seed)
    refused = 0
    for _ in range(60):
        template = changed(chance.choice(TEMPLATES), chance)
        faults = wfe_language.validate(json.dumps(template))
        wrong = [f"{error.instance_path}: {error.message}" for error in VALIDATOR.iter_errors(template)]
        refused += bool(wrong)
        assert faults or not wrong, (wrong, json.dumps(template))
    assert refused > 10


@pytest.mark.parametrize("tool", [[], None, {}, "text", {"approval": "required"}, {"call": 1}, {"mcp": []}])
def test_a_tool_of_an_agent_that_is_none_is_a_fault(tool):
    agent = {"endpoint": "https://x.example/v1", "model": "m", "prompt": "p", "tools": [tool]}
    (fault, *_) = wfe_language.validate(json.dumps({"name": "t", "steps": [{"id": "a", "agent": agent}]}))
    assert fault.path.startswith("steps[0].agent.tools[0]")
    assert fault.mend


@pytest.mark.parametrize("step", [[], {}, 1, None])
def test_a_gate_that_sends_back_to_what_is_no_step_is_a_fault(step):
    gate = {"title": "x", "approvers": {"users": ["u"]}, "revise": {"step": step, "max_rounds": 2}}
    steps = [{"id": "a", "set": {"x": 1}}, {"id": "b", "approval": gate}]
    (fault,) = wfe_language.validate(json.dumps({"name": "t", "steps": steps}))
    assert fault.path == "steps[1].approval.revise.step"


def test_an_empty_list_of_approvers_beside_another():
    gate = {"title": "x", "approvers": {"users": [], "groups": ["g"]}}
    for approvers, valid in (({"users": [], "groups": ["g"]}, True), ({"users": []}, False), ({}, False)):
        template = {"name": "t", "steps": [{"id": "a", "approval": gate | {"approvers": approvers}}]}
        assert (not wfe_language.validate(json.dumps(template))) is valid
        assert VALIDATOR.is_valid(template) is valid
