"""Types are checked at publish as far as they are known, and no further."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import wfe_language
from hypothesis import given
from hypothesis import strategies as st
from wfe_language.compiler.types import OUTPUTS, Types, check
from wfe_language.expressions.environment import NotCel, compile_cel
from wfe_language.expressions.scan import references

VARIABLES = """\
name: t
variables:
  whole: {type: integer, required: true}
  number: {type: number, default: 1.5}
  text: {type: string, default: a}
  flag: {type: boolean, default: true}
  list: {type: array, items: {type: integer}, default: [1]}
  object: {schema: {type: object, properties: {n: {type: integer}, m: {type: string}}, required: [n], \
additionalProperties: false}, required: true}
  open: {type: object, default: {}}
  optional: {type: integer}
  either: {type: [integer, string], default: 1}
  any: {default: 1}
steps:
  - {id: fetch, http: {url: "https://x.y"}}
  - {id: work, call: {handler: echo}}
  - {id: tool, mcp: {server: {url: "https://x.y"}, tool: t}}
  - {id: model, agent: {endpoint: "https://x.y", model: m, prompt: p}}
  - {id: values, set: {n: 1, t: text, l: [1], o: {k: true}, e: "${{ vars.whole }}"}}
  - {id: maybe, if: "${{ vars.flag }}", set: {n: 1}}
  - {id: both, parallel: {branches: {left: [{id: x, set: {y: 1}}]}}}
  - {id: each, foreach: {items: [1], steps: [{id: z, set: {y: 1}}]}}
  - {id: pause, wait: {for: 1s}}
  - {id: ask, approval: {title: t, approvers: {users: [u]}}}
  - {id: told, wait_for: {signal: s}}
  - {id: child, workflow: {template: other}}
"""


def faults(expression: str) -> list[str]:
    found = wfe_language.validate(VARIABLES + f"output: {json.dumps('${{ ' + expression + ' }}')}\n")
    return [fault.reason for fault in found]


@pytest.mark.parametrize(
    "expression",
    [
        "vars.whole + 1", "vars.whole * 1.5", "vars.whole > 2", "vars.whole == 1", "vars.whole / 2.0", "-vars.whole",
        "vars.number + 1", "vars.number == 1", "vars.number == 1.5", "vars.number > 2 && vars.number < 2.5",
        "vars.number == 1 && vars.number != 1.5", "vars.number + vars.whole", "string(vars.number) + ' EUR'",
        "vars.text + 'b'", "vars.text == 'b'", "vars.text in ['a', 'b']", "size(vars.text) > 1",
        "vars.flag ? vars.text : null", "vars.flag ? vars.text : vars.whole", "vars.text != null",
        "!vars.flag", "vars.flag == true", "vars.list + [2]", "vars.list[0] + 1",
        "vars.list.map(x, x * 2)", "vars.list.exists(x, x == 'a')", "1 in vars.list", "vars.list == [1]",
        "vars.object.n + 1", "vars.object.m == 'a'", "vars.object.m + 1", "has(vars.object.m)", "vars.object['n']",
        "vars.open.anything.deep", "vars.open == {}", "'k' in vars.open", "vars.optional == null",
        "vars.optional + 'a'", "vars.optional == 1", "vars.either + 'a'", "vars.either + 1", "vars.any + 1",
        "vars.any.x.y", "vars.?whole.orValue(1)", "vars.object.?m.orValue('none')", "vars == {}",
        "steps.fetch.output.status == 200", "steps.fetch.output.body.x", "steps.fetch.output.headers['a']",
        "steps.fetch.output.?body_base64.orValue('')", "steps.work.output.x.y", "steps.work.output + 1",
        "steps.values.output.n + 1", "steps.values.output.t + 'a'", "steps.values.output.o.k ? 1 : 2",
        "steps.values.output.e + 1", "steps.values.output.e + 'a'", "steps.values.output == {}",
        "steps.maybe.output == null", "steps.maybe.output.n + 1", "steps.both.output.left.y",
        "steps.both.output.keys()",
        "steps.each.output[0].y", "steps.each.output.map(one, one.y)", "steps.pause.output == null",
        "steps.ask.output.decision == 'approve'", "steps.ask.output.anything", "steps.told.output.payload.x",
        "steps.told.output.name == 's'", "steps.child.output.x", "steps.work.status == 'completed'",
        "steps.work.attempts > 1", "steps.work.error == null", "steps.work.error.code == 'X'", "run.id + 'a'",
        "run.epoch > 1", "run.labels.team", "run.labels.?team.orValue('')",
        "timestamp(run.created_at) > timestamp('2030-01-01T00:00:00Z')",
        "run.template.version", "coalesce(vars.optional, 1) + 1", "vars.list.sum() > 1", "round(vars.number, 2) * 2",
        "vars.text.matches('a')", "[1, 'a', null]", "{'a': vars.whole}", "vars.whole in [1, 2]",
        "vars.list.filter(vars, vars > 0)", "['a'].map(whole, whole + 'b')",
    ],
)  # fmt: skip
def test_what_may_be_right_is_taken(expression):
    assert faults(expression) == []


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("vars.whole + 'a'", "+ does not work on a whole number and text"),
        ("vars.number + ' EUR'", "+ does not work on a whole number and text"),
        ("vars.text + 1", "+ does not work on text and a whole number"),
        ("vars.text > 1", "> does not work on text and a whole number"),
        ("vars.text == 1", "== does not work on text and a whole number"),
        ("vars.flag ? 1 : 'one'", "a condition ? : does not work on"),
        ("vars.flag ? vars.text : vars.whole + 'a'", "+ does not work on a whole number and text"),
        ("vars.flag + 1", "+ does not work on true or false and a whole number"),
        ("vars.flag && vars.text", "&& does not work on"),
        ("!vars.text", "! does not work on text"),
        ("vars.list + 1", "+ does not work on a list and a whole number"),
        ("vars.list.startsWith('a')", "startsWith() does not work on a list and text"),
        ("vars.open + 1", "+ does not work on an object and a whole number"),
        ("vars.object.n + 'a'", "+ does not work on a whole number and text"),
        ("vars.object.x", "There is no x in vars.object."),
        ("vars.object.x + 1", "There is no x in vars.object."),
        ("steps.fetch.output.status + ' OK'", "+ does not work on a whole number and text"),
        ("steps.tool.output.json", "There is no json in steps.tool.output."),
        ("steps.model.output.turns + 'a'", "+ does not work on a whole number and text"),
        ("steps.fetch.output.json", "There is no json in steps.fetch.output."),
        ("steps.values.output.t + 1", "+ does not work on text and a whole number"),
        ("steps.values.output.o.j", "There is no j in steps.values.output.o."),
        ("steps.maybe.output.m", "There is no m in steps.maybe.output."),
        ("steps.both.output.right", "There is no right in steps.both.output."),
        ("steps.each.output + 1", "+ does not work on a list and a whole number"),
        ("steps.pause.output.x", "steps.pause.output is null and has no x."),
        ("steps.told.output.data", "There is no data in steps.told.output."),
        ("steps.work.status == true", "== does not work on text and true or false"),
        ("run.id + 1", "+ does not work on text and a whole number"),
        ("vars.?any", "The expression gives an optional value."),
        ("vars.list.first()", "The expression gives an optional value."),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(expression, reason):
    assert any(reason in found for found in faults(expression)), faults(expression)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("if: '${{ vars.text }}', set: {x: 1}", "gives text"), ("wait: {for: '${{ vars.text }}'}", "gives text"),
        ("wait: {until: '${{ vars.whole }}'}", "gives a whole number"),
        ("wait: {for: '${{ vars.number }}'}", ""), ("wait: {until: '${{ vars.text }}'}", ""),
        ("foreach: {items: '${{ vars.object }}', steps: [{id: q, set: {x: 1}}]}", "gives an object"),
        ("foreach: {items: '${{ vars.list.sort() }}', steps: [{id: q, set: {x: 1}}]}", ""),
        ("foreach: {range: {to: '${{ size(vars.list) }}'}, steps: [{id: q, set: {x: 1}}]}", ""),
        ("foreach: {range: {to: '${{ vars.number }}'}, steps: [{id: q, set: {x: 1}}]}", ""),
        ("if: '${{ steps.values.output.o.k }}', set: {x: 1}", ""),
        ("if: '${{ steps.values.output.n }}', set: {x: 1}", "gives a whole number"),
    ],
)  # fmt: skip
def test_places_want_types(step, reason):
    found = wfe_language.validate(f"{VARIABLES}  - {{id: last, {step}}}\n")
    assert [reason in fault.reason for fault in found] == ([True] if reason else [])


KNOWN = wfe_language.compile(VARIABLES)
TYPES = Types.of_variables({variable.name: variable for variable in KNOWN.variables})
ATOMS = st.sampled_from([*(f"vars.{v.name}" for v in KNOWN.variables), "1", "1.5", "'a'", "true", "null", "[1]", "{}"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "==", ">", "&&", "in", "-", "*"]), inner)
        .map(" ".join)
        .map("({})".format),
        inner.map("size({})".format),
        inner.map("string({})".format),
        inner.map("[{}]".format),
        inner.map("coalesce({}, 1)".format),
        inner.map("({}).map(x, x)".format),
        st.tuples(inner, inner, inner).map(lambda three: "({} ? {} : {})".format(*three)),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_what_the_types_allow_compiles_without_them_too(source):
    try:
        kind, problems = check(source, TYPES.typed(source, references(source)))
    except NotCel:
        return
    if not problems:
        compile_cel(source)
        assert isinstance(kind, str)


@pytest.mark.parametrize("kind", ["http", "mcp"])
def test_what_steps_give_is_what_their_pages_say(kind):
    page = (Path(__file__).parents[3] / "docs" / f"steps-{kind}.md").read_text()
    said = page.partition("## The output")[2].partition("## ")[0]
    fields = (
        re.findall(r"^\| `(\w+)` \|", said.partition("| `read`")[0], re.MULTILINE)
        if "|" in said
        else re.findall(r"`(\w+)`", said)
    )
    assert set(fields) == set(OUTPUTS[kind].keys or ())
