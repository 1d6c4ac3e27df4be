"""Values that outgrow the limits make their step fail, at little cost, before they are put together."""

from __future__ import annotations

import resource

import pytest
from wfe_engine.sizes import MOST_BYTES, MOST_LEVELS, too_deep
from wfe_simulator import Calls, Gives

BIG = "x" * (9 << 20)
HANDLERS = {"big": Gives(BIG), "some": Gives("y" * (1 << 20)), "echo": Gives(echo=True)}
TWICE = '{a: "${{ steps.big.output }}", b: "${{ steps.big.output }}"}'
#: A step, and what it fails with when it is made of twice BIG.
STEPS = {
    "set": (f"set: {TWICE}", "OUTPUT_TOO_LARGE"),
    "text": ('set: {t: "${{ steps.big.output }}${{ steps.big.output }}"}', "OUTPUT_TOO_LARGE"),
    "call": (f"call: {{handler: echo, input: {TWICE}}}", "INPUT_TOO_LARGE"),
    "http": (f"http: {{method: POST, url: 'https://x.example', json: {TWICE}}}", "INPUT_TOO_LARGE"),
    "emit": (f"emit: {{name: x, data: {TWICE}}}", "INPUT_TOO_LARGE"),
    "gate": (f"approval: {{title: x, approvers: {{users: [u]}}, payload: {TWICE}}}", "INPUT_TOO_LARGE"),
    "child": (f"workflow: {{template: other, input: {TWICE}}}", "INPUT_TOO_LARGE"),
    "items": ('foreach: {items: ["${{ steps.big.output }}", "${{ steps.big.output }}"], steps: [{id: x, set: {x: 1}}]}',
              "INPUT_TOO_LARGE"),
    "blocks": ('foreach: {range: {to: 20}, steps: [{id: x, call: {handler: some}}]}', "OUTPUT_TOO_LARGE"),
    "branches": ("parallel: {branches: {a: [{id: x, call: {handler: big}}], b: [{id: y, call: {handler: big}}]}}",
                 "OUTPUT_TOO_LARGE"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def little_memory():
    """What is refused must not be put together first."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("what", STEPS)
def test_a_value_above_16_mb_fails_its_step_and_names_the_limit(run, what):
    step, code = STEPS[what]
    caught = f"""
- id: big
  call: {{handler: big}}
- id: t
  try:
    steps: [{{id: s, {step}}}]
    catch: {{codes: [{code}], steps: [{{id: c, set: {{why: "${{{{ error.message }}}}"}}}}]}}
"""
    result = run(caught, handlers=HANDLERS, top='output: "${{ steps.t.output }}"\n')
    assert result.status == "completed", result.error
    assert str(MOST_BYTES) in result.output["why"]


def test_the_output_of_a_run_has_the_same_limit(run):
    result = run("- {id: big, call: {handler: big}}", handlers=HANDLERS, top=f"output: {TWICE}\n")
    assert (result.status, result.error["code"]) == ("failed", "OUTPUT_TOO_LARGE")


def test_the_conversation_of_an_agent_has_the_same_limit(run):
    steps = """
- id: work
  agent:
    endpoint: https://x.example/v1
    model: m
    prompt: go
    tools: [{call: {handler: big, description: d, parameters: {type: object}}}]
    limits: {turns: 9}
"""
    error = run(steps, {"work/model": Calls([("big", {})])}, handlers=HANDLERS).error
    assert (error["code"], error["step"]) == ("INPUT_TOO_LARGE", "work/model")
    assert str(MOST_BYTES) in error["message"]


def test_what_fits_is_kept(run):
    result = run(
        "- {id: big, call: {handler: big}}\n- {id: s, set: {a: '${{ steps.big.output }}'}}",
        handlers=HANDLERS,
        top='output: "${{ steps.s.output.a }}"\n',
    )
    assert result.output == BIG


GROWING = {
    "OUTPUT_TOO_LARGE": '"${{ steps.before.output }}${{ steps.before.output }}x"',
    "VALUE_TOO_DEEP": '["${{ steps.before.output }}"]',
}


@pytest.mark.parametrize("code", GROWING)
def test_values_that_double_or_nest_in_a_loop_end_it(run, code):
    steps = f"""
- id: l
  loop:
    while: "${{{{ index < 9000 }}}}"
    max: 9000
    steps:
      - {{id: before, set: {{v: "${{{{ steps.l.output }}}}"}}}}
      - {{id: s, set: {{v: {GROWING[code]}}}}}
"""
    assert run(steps).error["code"] == code


@pytest.mark.parametrize(
    ("data", "deep"),
    [
        (b"[" * MOST_LEVELS + b"]" * MOST_LEVELS, False),
        (b'{"a":' * MOST_LEVELS + b"1" + b"}" * MOST_LEVELS, False),
        (b"[" * (MOST_LEVELS + 1) + b"]" * (MOST_LEVELS + 1), True),
        (b'[{"a":' * 33 + b"1" + b"}]" * 33, True),
        (b'["' + b"[{" * 500 + b'"]', False),
        (b'["\\"' + b"[{" * 500 + b'\\\\"]', False),
        (b"[" + b",".join([b'{"a":[{}]}'] * 1000) + b"]", False),
    ],
)
def test_levels_are_counted_outside_of_text(data, deep):
    assert too_deep(data) is deep
