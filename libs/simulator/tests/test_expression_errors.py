"""What goes wrong in an expression at run time is said with its place, its text and the values it met."""

from __future__ import annotations

import pytest
from wfe_simulator import Gives

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
        ('{id: s, switch: {cases: [{if: "${{ vars.v }}", steps: [{id: x, set: {y: 1}}]}]}}', "switch.cases"),
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
