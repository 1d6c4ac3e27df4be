"""The kinds that hold steps do what the manual says, inside of each other, too."""

from __future__ import annotations

import json

import pytest
import wfe_language
from wfe_simulator import Decide, Fails, Gives, Request, simulate

ECHO = {"echo": Gives(echo=True)}
BROKEN = Fails("BROKEN", retryable=False)


def most_at_once(result, path: str) -> int:
    """How many of a step were under way at once."""
    moments = [(step.entered, 1) for step in result.all(path)] + [(step.ended, -1) for step in result.all(path)]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def test_results_of_a_foreach_are_in_order_whatever_ends_first(run):
    steps = """
- id: each
  foreach:
    items: [5, 1, 4, 2, 3]
    concurrency: 5
    steps: [{id: work, call: {handler: slow, input: "${{ item }}"}}]
"""
    result = run(steps, handlers={"slow": lambda request: Gives(request.input * 10, takes=request.input)})
    assert result.step("each").output == [50, 10, 40, 20, 30]
    assert [step.ended for step in result.all("each/work")] == [5, 1, 4, 2, 3]
    assert result.took == 5


@pytest.mark.parametrize(("concurrency", "took"), [(1, 6), (2, 3), (4, 2), (10, 1)])
def test_concurrency_is_respected(run, concurrency, took):
    steps = f"""
- id: each
  foreach:
    range: {{to: 6}}
    concurrency: {concurrency}
    steps: [{{id: work, call: {{handler: slow}}}}]
"""
    result = run(steps, handlers={"slow": Gives(takes=1)})
    assert result.took == took
    assert most_at_once(result, "each/work") == min(concurrency, 6)


@pytest.mark.parametrize(
    ("policy", "failing", "status", "code"),
    [
        ("stop", 1, "failed", "BROKEN"), ("collect", 10, "completed", "BLOCKS_FAILED"),
        ("{tolerate: 2}", 2, "completed", "BLOCKS_FAILED"), ("{tolerate: 2}", 3, "failed", "BLOCKS_FAILED"),
        ("{tolerate: 30%}", 3, "completed", "BLOCKS_FAILED"), ("{tolerate: 30%}", 4, "failed", "BLOCKS_FAILED"),
        ("{tolerate: 0}", 1, "failed", "BLOCKS_FAILED"), ("{tolerate: 100%}", 10, "completed", "BLOCKS_FAILED"),
    ],
)  # fmt: skip
def test_what_a_foreach_makes_of_failures(run, policy, failing, status, code):
    steps = f"""
- id: each
  foreach:
    range: {{to: 10}}
    on_failure: {policy}
    steps: [{{id: work, call: {{handler: work, input: "${{{{ item }}}}"}}}}]
"""
    result = run(steps, handlers={"work": lambda request: BROKEN if request.input <= failing else Gives(request.input)})
    each = result.step("each")
    assert (result.status, each.error["code"]) == (status, code)
    if status == "completed":
        assert each.output == [None if n <= failing else n for n in range(1, 11)]
        assert [error["index"] for error in each.error["details"]["errors"]] == list(range(failing))


def test_a_stopping_foreach_stops_what_is_under_way(run):
    steps = """
- id: each
  foreach: {range: {to: 3}, steps: [{id: work, call: {handler: work, input: "${{ item }}"}}]}
"""
    result = run(
        steps,
        handlers={
            "work": lambda request: Fails("BROKEN", retryable=False, takes=1) if request.input == 1 else Gives(takes=9)
        },
    )
    assert [step.status for step in result.all("each/work")] == ["failed", "cancelled", "cancelled"]
    assert (result.took, result.error["step"]) == (1, "each/work")


def test_a_thousand_items(run):
    steps = """
- id: each
  foreach:
    range: {to: 1000}
    concurrency: 100
    steps: [{id: work, call: {handler: echo, input: "${{ item }}"}}]
"""
    result = run(steps, handlers={"echo": Gives(echo=True, takes=1)}, fold_every=200)
    assert result.step("each").output == list(range(1, 1001))
    assert most_at_once(result, "each/work") == 100
    assert result.took == 10


def test_a_thousand_items_at_once_that_need_no_executor(run):
    steps = '- id: each\n  foreach: {range: {to: 1000}, concurrency: 1000, steps: [{id: x, set: {n: "${{ index }}"}}]}'
    result = run(steps, fold_every=1000)
    assert result.step("each").output == [{"n": n} for n in range(1000)]


@pytest.mark.parametrize("items", [None, 1001, "text", {"a": 1}])
def test_what_is_no_list_of_items_is_bad_input(run, items):
    given = list(range(items)) if isinstance(items, int) else items
    result = run(
        '- id: each\n  foreach: {items: "${{ vars.x }}", steps: [{id: x, set: {n: 1}}]}',
        given={"x": given}, top="variables: {x: {}}\n",
    )  # fmt: skip
    assert (result.status, result.error["code"]) == ("failed", "BAD_INPUT")


def test_an_empty_list_gives_an_empty_list(run):
    result = run('- id: each\n  foreach: {items: [], steps: [{id: x, set: {n: "${{ item }}"}}]}')
    assert (result.status, result.step("each").output, len(result.steps)) == ("completed", [], 1)


def nested(levels: int, kind: str) -> str:
    """Steps in steps, and a set in the innermost."""
    step: dict = {"id": "inner", "set": {"x": 1}}
    for level in range(levels):
        block = [step]
        made = {
            "foreach": {"range": {"to": 2 if level < 2 else 1}, "steps": block},
            "loop": {"until": True, "max": 1, "steps": block},
            "parallel": {"branches": {"one": {"steps": block}}},
            "switch": {"cases": [{"if": True, "steps": block}]},
            "try": {"steps": block, "catch": [{"steps": [{"id": f"c{level}", "set": {"y": 1}}]}]},
        }
        name = list(made)[level % len(made)] if kind == "all" else kind
        step = {"id": f"n{level}", name: made[name]}
    return json.dumps({"name": "t", "steps": [step]})


@pytest.mark.parametrize("kind", ["foreach", "loop", "parallel", "switch", "try", "all"])
def test_sixteen_levels_run_and_seventeen_are_refused(kind):
    source = nested(16, kind)
    assert wfe_language.validate(source) == []
    result = simulate(wfe_language.compile(source))
    assert result.status == "completed"
    inner = [step for step in result.steps if step.path.endswith("/inner")]
    assert inner
    assert all(step.status == "completed" for step in inner)
    reasons = {fault.reason for fault in wfe_language.validate(nested(17, kind))}
    assert reasons == {"Steps are nested more than 16 deep."}


def test_foreach_in_parallel_in_try(run):
    steps = """
- id: outer
  try:
    steps:
      - id: both
        parallel:
          branches:
            left:
              - id: each
                foreach:
                  items: [1, 2, 3]
                  on_failure: stop
                  steps: [{id: work, call: {handler: work, input: "${{ item }}"}}]
            right: [{id: long, wait: {for: 1h}}, {id: never, set: {x: 1}}]
    catch:
      codes: [BROKEN]
      steps: [{id: saved, set: {step: "${{ error.step }}", message: "${{ error.message }}"}}]
    finally: [{id: cleared, set: {done: true}}]
"""
    result = run(
        steps,
        handlers={
            "work": lambda request: (
                Fails("BROKEN", "no luck", retryable=False) if request.input == 2 else Gives(takes=60)
            )
        },
    )
    assert result.status == "completed"
    assert result.step("outer").output == {"step": "outer/body/both/left/each/work", "message": "no luck"}
    statuses = {step.path: step.status for step in result.steps}
    assert statuses["outer/body/both"] == statuses["outer/body/both/left/each"] == "failed"
    assert statuses["outer/body/both/right/long"] == "cancelled"
    assert "outer/body/both/right/never" not in statuses
    assert statuses["outer/finally/cleared"] == "completed"
    assert result.took == 0


def test_each_round_sees_itself_and_what_is_around(run):
    steps = """
- {id: base, set: {n: 100}}
- id: outer
  foreach:
    items: [1, 2]
    steps:
      - {id: mine, set: {n: "${{ steps.base.output.n + item }}"}}
      - id: inner
        foreach:
          items: [10, 20]
          steps: [{id: sum, set: {n: "${{ steps.mine.output.n + item }}", at: "${{ index }}"}}]
"""
    result = run(steps)
    assert result.step("outer").output == [
        [{"n": 111, "at": 0}, {"n": 121, "at": 1}], [{"n": 112, "at": 0}, {"n": 122, "at": 1}],
    ]  # fmt: skip
    assert {step.iteration for step in result.all("outer/inner/sum")} == {"0.0", "0.1", "1.0", "1.1"}


def test_a_loop_sees_its_last_round(run):
    steps = """
- id: count
  loop:
    while: "${{ steps.count.output == null || steps.count.output.n < 3 }}"
    max: 9
    steps: [{id: up, set: {n: "${{ steps.count.output == null ? 1 : steps.count.output.n + 1 }}"}}]
"""
    result = run(steps)
    assert result.step("count").output == {"n": 3}
    assert len(result.all("count/up")) == 3


def test_a_while_that_is_false_at_once_gives_null(run):
    result = run('- {id: none, loop: {while: "${{ index > 0 }}", max: 3, steps: [{id: x, set: {y: 1}}]}}')
    assert (result.status, result.step("none").output, len(result.steps)) == ("completed", None, 1)


@pytest.mark.parametrize(
    ("more", "status", "output"), [("", "failed", None), (", on_max: complete", "completed", {"n": 2})]
)
def test_the_cap_of_a_loop(run, more, status, output):
    result = run(
        f'- {{id: l, loop: {{until: false, max: 3{more}, steps: [{{id: x, set: {{n: "${{{{ index }}}}"}}}}]}}}}'
    )
    assert (result.status, result.step("l").output) == (status, output)
    if status == "failed":
        assert result.error == {
            "code": "LOOP_LIMIT",
            "message": "it is not done after 3 rounds",
            "step": "l",
            "details": {"max": 3},
        }


def test_a_switch_takes_the_first_that_is_met_and_evaluates_no_further(run):
    steps = """
- id: s
  switch:
    cases:
      - {if: "${{ vars.n > 1 }}", steps: [{id: a, set: {x: first}}]}
      - {if: "${{ vars.n / 0 > 1 }}", steps: [{id: b, set: {x: second}}]}
"""
    top = "variables: {n: {type: integer, default: 2}}\n"
    assert run(steps, top=top).step("s").output == {"x": "first"}
    failed = run(steps, given={"n": 1}, top=top)
    assert failed.error["code"] == "EXPRESSION_ERROR"
    assert failed.error["step"] == "s"


@pytest.mark.parametrize(
    ("value", "taken"),
    [("urgent", 1), ("🚑", 1), ('it\'s "it"', 1), (3, 2), (3.0, 2), (True, 3), (None, 3), ("3", None)],
)
def test_is_compares_plain_values(run, value, taken):
    steps = """
- id: s
  switch:
    value: "${{ vars.v }}"
    cases:
      - {is: [urgent, "🚑", "it's \\"it\\""], steps: [{id: a, set: {x: 1}}]}
      - {is: 3, steps: [{id: b, set: {x: 2}}]}
      - {is: [true, null], steps: [{id: c, set: {x: 3}}]}
"""
    output = run(steps, given={"v": value}, top="variables: {v: {}}\n").step("s").output
    assert output == (None if taken is None else {"x": taken})


def test_catches_are_tried_in_order_by_code(run):
    steps = """
- id: t
  try:
    steps: [{id: work, call: {handler: work}}]
    catch:
      - {codes: [HTTP_STATUS], steps: [{id: a, set: {by: exact}}]}
      - {codes: [HTTP_*], steps: [{id: b, set: {by: prefix}}]}
      - {steps: [{id: c, set: {by: rest}}]}
"""
    for code, by in [("HTTP_STATUS", "exact"), ("HTTP_ERROR", "prefix"), ("HTTPS", "rest"), ("OTHER", "rest")]:
        result = run(steps, handlers={"work": Fails(code, retryable=False)})
        assert result.step("t").output == {"by": by}


def test_finally_is_run_once_whatever_happens(run):
    steps = """
- id: t
  try:
    steps: [{id: work, call: {handler: work}}]
    catch: {codes: [CAUGHT], steps: [{id: again, call: {handler: again}}]}
    finally: [{id: last, call: {handler: echo, input: "${{ error }}"}}]
- {id: behind, set: {x: 1}}
"""
    fine, caught, other = Gives(1), Fails("CAUGHT", retryable=False), Fails("OTHER", retryable=False)
    for work, again, status, told in [
        (fine, fine, "completed", None), (caught, fine, "completed", None), (caught, other, "failed", "OTHER"),
        (other, fine, "failed", "OTHER"),
    ]:  # fmt: skip
        result = run(steps, handlers={**ECHO, "work": work, "again": again})
        assert result.status == status
        (last,) = result.all("t/finally/last")
        assert (last.output or {}).get("code") == told


def test_a_failing_finally_fails_the_step(run):
    steps = """
- id: t
  try:
    steps: [{id: work, set: {x: 1}}]
    finally: [{id: last, fail: {code: LAST, message: no}}]
"""
    assert run(steps).error["code"] == "LAST"


def test_a_rejected_gate_can_be_caught(run):
    steps = """
- id: t
  try:
    steps: [{id: ask, approval: {title: x, approvers: {users: [u]}}}]
    catch: {codes: [APPROVAL_REJECTED], steps: [{id: no, set: {why: "${{ error.message }}"}}]}
"""
    result = run(steps, {"t/body/ask": Decide("reject", comment="too dear")})
    assert result.step("t").output == {"why": "the approval was rejected: too dear"}


def test_a_gate_in_each_round(run):
    steps = """
- id: each
  foreach:
    items: [a, b]
    steps: [{id: ask, approval: {title: "${{ item }}?", approvers: {users: [u]}}}]
    output: "${{ steps.ask.output.comment }}"
"""
    assert run(steps, {"each/ask": lambda request: Decide("approve", comment=f"{request.input['title']} yes")}).step(
        "each"
    ).output == ["a? yes", "b? yes"]


def test_graphs_inside_of_blocks(run):
    steps = """
- id: p
  parallel:
    branches:
      one:
        steps:
          - {id: a, needs: [], wait: {for: 2s}}
          - {id: b, needs: [], wait: {for: 1s}}
          - {id: c, needs: [a, b], set: {done: true}}
        output: "${{ steps.c.output.done }}"
"""
    result = run(steps)
    assert (result.step("p").output, result.took) == ({"one": True}, 2)


def test_a_request_says_where_it_is(run):
    seen: list[Request] = []
    steps = '- {id: each, foreach: {items: [7], steps: [{id: w, call: {handler: look, input: {n: "${{ item }}"}}}]}}'
    run(steps, handlers={"look": lambda request: seen.append(request) or Fails("AGAIN") if not seen else "done"})
    (first,) = seen
    assert (first.path, first.iteration, first.handler, first.input, first.attempt) == (
        "each/w",
        "0",
        "look",
        {"n": 7},
        1,
    )
