"""The JSON Schema for editors and the compiler agree on structure."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema_rs
import pytest
import wfe_language
from samples import EXAMPLES, HANDLERS, chain, faulty, name_of
from wfe_engine import plan
from wfe_language.compiler import agent, approvals, auth, clocks, http, mcp, step_kinds, structure, template
from wfe_language.schemas import FORMATS, KEYWORDS, TYPES

SCHEMA = json.loads(files("wfe_language").joinpath("template.schema.json").read_text())
#: Kinds that templates write.
WRITTEN = plan.KINDS - {"model"}
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)


def test_it_is_a_json_schema():
    jsonschema_rs.meta.validate(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_examples_are_valid_in_both(path):
    source = path.read_text()
    assert wfe_language.validate(source, handlers=HANDLERS) == []
    assert [e.message for e in VALIDATOR.iter_errors(wfe_language.load(source)[0])] == []
    assert wfe_language.compile(source).name == path.stem


def test_there_are_examples():
    assert len(EXAMPLES) >= 7


def test_a_generated_template_is_valid_in_both():
    assert VALIDATOR.is_valid(wfe_language.load(chain(10))[0])


@pytest.mark.parametrize("case", faulty("structure"), ids=name_of)
def test_structural_faults_are_refused_by_both(case):
    assert wfe_language.validate(case.source, handlers=HANDLERS)
    assert not VALIDATOR.is_valid(wfe_language.load(case.source)[0])


def test_keys_are_the_same_in_both():
    defs = SCHEMA["$defs"]
    assert set(SCHEMA["properties"]) == set(template._TOP)
    assert set(defs["http"]["properties"]) == set(http.HTTP_KEYS)
    assert set(defs["auth"]["properties"]) == set(auth.AUTH_KEYS)
    assert set(defs["mcp"]["properties"]) == set(mcp.MCP_KEYS)
    servers = defs["mcp_server"]["oneOf"]
    assert {key for one in servers for key in one["properties"]} == set(mcp.SERVER_KEYS)
    assert set(defs["agent"]["properties"]) == set(agent.AGENT_KEYS)
    assert set(defs["agent_tool"]["properties"]) == set(agent.TOOL_KEYS)
    assert set(defs["agent_tool"]["properties"]["call"]["properties"]) == set(agent.CALL_TOOL_KEYS)
    assert set(defs["agent_tool"]["properties"]["mcp"]["properties"]) == set(agent.MCP_TOOL_KEYS)
    assert set(defs["step"]["properties"]) == set(step_kinds.COMMON) | WRITTEN
    assert {next(iter(one["required"])) for one in defs["step"]["oneOf"]} == WRITTEN
    assert {next(iter(one["required"])) for one in defs["step"]["if"]["anyOf"]} == WRITTEN - plan.WORK - {"agent"}
    bounds = (defs["loop"], "max", structure.MOST_ROUNDS), (defs["foreach"], "concurrency", structure.MOST_ITEMS)
    for where, key, most in bounds:
        assert f'"maximum": {most}' in json.dumps(where["properties"][key])
    assert set(defs["retry"]["properties"]) == set(clocks._RETRY_KEYS)
    assert set(defs["timeout"]["anyOf"][1]["properties"]) == set(clocks._CLOCK_KEYS)
    assert set(defs["approval"]["properties"]) == set(approvals._KEYS)
    assert set(KEYWORDS) <= set(defs["variable"]["properties"])
    assert tuple(defs["type"]["enum"]) == TYPES
    assert tuple(defs["variable"]["properties"]["format"]["enum"]) == FORMATS
