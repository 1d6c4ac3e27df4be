"""What goes wrong in an expression at run time is said with its place, its text and the values it met."""

from __future__ import annotations

import pytest
from wfe_simulator import Fails, Gives

ECHO = {"echo": Gives(echo=True)}


def test_errors_of_expressions_name_place_expression_and_values(run):
    steps = """
- id: each
  foreach:
    items: [{a: 1}, {b: 2}]
    steps: [{id: x, call: {handler: echo, input: {list: [0, "${{ item.a + 1 }}"]}}}]
"""
    error = run(steps, handlers=ECHO).error
    assert error["code"] == "EXPRESSION_ERROR"
    assert error["step"] == "each/x"
    assert error["details"] == {"expression": "item.a + 1", "place": "call.input.list[1]"}
    assert error["message"] == (
        'call.input.list[1]: item.a + 1: There is no key "a". Here item is {"b":2}.'
    )  # fmt: skip


@pytest.mark.parametrize(
    ("step", "place"),
    [
        ('{id: s, if: "${{ vars.v }}", set: {x: 1}}', "if"),
        ('{id: s, switch: {cases: [{if: "${{ vars.v }}", steps: [{id: x, set: {y: 1}}]}]}}', "switch.cases[0]"),
        ('{id: s, loop: {until: "${{ vars.v }}", max: 2, steps: [{id: x, set: {y: 1}}]}}', "loop.until"),
        ('{id: s, loop: {while: "${{ vars.v }}", max: 2, steps: [{id: x, set: {y: 1}}]}}', "loop.while"),
    ],
)
def test_conditions_that_give_something_else_say_what(run, step, place):
    error = run(f"- {step}", given={"v": "yes"}, top="variables: {v: {}}\n").error
    assert error["message"] == f'{place}: vars.v: it must give true or false, not "yes"'
    assert (error["code"], error["step"]) == ("EXPRESSION_ERROR", "s")


def test_a_compensation_whose_params_cannot_be_computed_is_named_as_not_undone(run):
    steps = """
- id: a
  call: {handler: echo, input: {n: 1}}
  compensate: {call: {handler: undo, input: {id: "${{ steps.a.output.id }}"}}}
- {id: b, fail: {code: NO, message: no}}
"""
    result = run(steps, handlers={**ECHO, "undo": Gives()})
    assert result.error["code"] == "NO"
    assert result.error["details"]["not_undone"] == ["a"]
    assert result.step("a~").status == "failed"


X = "{id: x, set: {y: 1}}"
GIVEN = {"text": "abc", "n": 0, "list": [1], "object": {"k": True}}


@pytest.mark.parametrize(
    ("step", "place", "expression", "met"),
    [
        ('set: {v: "${{ vars.g.nope }}"}', "set.v", "vars.g.nope", '{"text":"abc","n":0,"list":[1],'),
        ('set: {v: "${{ vars.g.list[7] }}"}', "set.v", "vars.g.list[7]", "[1]"),
        ('set: {v: [1, "${{ 1 / vars.g.n }}"]}', "set.v[1]", "1 / vars.g.n", "Here vars.g.n is 0."),
        ('set: {v: "${{ int(vars.g.text) }}"}', "set.v", "int(vars.g.text)", 'Here vars.g.text is "abc".'),
        ('set: {v: "${{ timestamp(vars.g.text) }}"}', "set.v", "timestamp(vars.g.text)", 'Here vars.g.text is "abc".'),
        ('set: {v: "${{ vars.g.text + vars.g.n }}"}', "set.v", "vars.g.text + vars.g.n", "vars.g.n is 0."),
        (
            'set: {v: "${{ (vars.g.n + 9007199254740990) * 4 }}"}', "set.v", "(vars.g.n + 9007199254740990) * 4",
            "Here vars.g.n is 0.",
        ),
        ('set: {v: "${{ json.decode(vars.g.text) }}"}', "set.v", "json.decode(vars.g.text)", '"abc"'),
        (
            'foreach: {items: "${{ vars.g.object }}", steps: [{id: x, set: {y: 1}}]}', "foreach.items", "vars.g.object",
            'it must be a list, not {"k":true}',
        ),
        (
            'foreach: {items: [1], concurrency: "${{ vars.g.n }}", steps: [{id: x, set: {y: 1}}]}',
            "foreach.concurrency", "vars.g.n", "it must be 1 to 1000, not 0",
        ),
        (
            'foreach: {range: {from: 1, to: "${{ vars.g.text }}"}, steps: [{id: x, set: {y: 1}}]}', "foreach.range",
            "vars.g.text", 'not {"from":1,"to":"abc"',
        ),
        ('wait: {for: "${{ vars.g.n - 1 }}"}', "wait.for", "vars.g.n - 1", "not -1"),
        ('wait: {until: "${{ vars.g.text }}"}', "wait.until", "vars.g.text", 'not "abc"'),
        (
            'switch: {cases: [{if: false, steps: [X]}, {if: "${{ vars.g.text }}", steps: [X]}]}'.replace("X", X),
            "switch.cases[1]", "vars.g.text", 'not "abc"',
        ),
        (
            'parallel: {branches: {b: {steps: [{id: x, set: {y: 1}}], output: "${{ vars.g.nope }}"}}}', "output",
            "vars.g.nope", "there is no 'nope'",
        ),
    ],
)  # fmt: skip
def test_place_expression_and_value_of_each_kind_of_error(run, step, place, expression, met):
    error = run(f"- {{id: s, {step}}}", given={"g": GIVEN}, top="variables: {g: {}}\n").error
    assert error["details"] == {"place": place, "expression": expression}
    assert error["message"].startswith(f"{place}: {expression}: ")
    assert met in error["message"]


def test_what_a_child_run_failed_with_names_the_step_that_waited_for_it(run):
    steps = "- {id: each, foreach: {items: [1], steps: [{id: other, workflow: {template: other}}]}}"
    error = run(steps, {"each/other": Fails("CHILD_FAILED", "no")}).error
    assert (error["code"], error["step"]) == ("CHILD_FAILED", "each/other")
