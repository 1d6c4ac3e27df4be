"""Steps inside of steps become blocks of the plan."""

from __future__ import annotations

import json

import pytest
import wfe_language
from samples import BASE, step
from test_compile import rendered
from wfe_engine import plan


def compiled(text: str) -> plan.Node:
    return wfe_language.compile(step(text)).root.nodes[-1]


def blocks(node: plan.Node) -> list[tuple[object, ...]]:
    """Name, role, paths of the steps, which of them gives the output, and condition or codes."""
    return [
        (
            block.name, block.role, [inner.path for inner in block.nodes], block.result,
            rendered(block.condition) if block.condition else block.codes,
        )
        for block in node.blocks
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "params", "inside"),
    [
        (
            "id: b, parallel: {branches: {l: [{id: x, set: {y: 1}}], r-2: {steps: [{id: x, set: {y: 1}}], output: 3}}}",
            {"on_failure": "stop"},
            [("l", "body", ["b/l/x"], 0, None), ("r-2", "body", ["b/r-2/x", "b/r-2/output"], 1, None)],
        ),
        (
            (
                'id: b, switch: {value: "${{ vars.n }}", cases: [{is: [1, 2], steps: [{id: x, set: {y: 1}}]}, '
                '{if: "${{ vars.flag }}", steps: [{id: y, set: {y: 1}}]}], else: [{id: z, set: {y: 1}}]}'
            ),
            {},
            [
                ("1", "case", ["b/1/x"], 0, "<(vars.n) in [1, 2] (('vars', 'n'),)>"),
                ("2", "case", ["b/2/y"], 0, "<vars.flag>"), ("else", "else", ["b/else/z"], 0, None),
            ],
        ),
        (
            (
                'id: b, foreach: {items: "${{ [vars.n] }}", concurrency: 3, on_failure: {tolerate: 5%}, '
                "steps: [{id: x, set: {y: 1}}, {id: z, set: {y: 1}}]}"
            ),
            {"items": "<[vars.n] (('vars', 'n'),)>", "concurrency": 3, "on_failure": {"percent": 5}},
            [("", "body", ["b/x", "b/z"], 1, None)],
        ),
        (
            (
                'id: b, foreach: {range: {from: 2, to: "${{ vars.n }}"}, steps: [{id: x, set: {y: 1}}], '
                'output: {i: "${{ index }}"}}'
            ),
            {"range": {"from": 2, "to": "<vars.n>"}, "concurrency": 10, "on_failure": "stop"},
            [("", "body", ["b/x", "b/output"], 1, None)],
        ),
        (
            'id: b, loop: {while: "${{ index < 3 }}", max: 5, on_max: complete, steps: [{id: x, set: {y: 1}}]}',
            {"max": 5, "on_max": "complete"},
            [("", "while", ["b/x"], 0, "<index < 3 (('index', ''),)>")],
        ),
        (
            'id: b, loop: {until: "${{ steps.x.output.y == 1 }}", max: 5, steps: [{id: x, set: {y: 1}}]}',
            {"max": 5, "on_max": "fail"},
            [("", "until", ["b/x"], 0, "<steps.x.output.y == 1 (('steps', 'x'),)>")],
        ),
        (
            (
                "id: b, try: {steps: [{id: x, set: {y: 1}}], catch: [{codes: [A, B_*], steps: [{id: c, set: {y: 1}}]}, "
                "{steps: [{id: d, set: {y: 1}}]}], finally: [{id: f, set: {y: 1}}]}"
            ),
            {},
            [
                ("body", "body", ["b/body/x"], 0, None), ("catch", "catch", ["b/catch/c"], 0, ("A", "B_*")),
                ("catch-2", "catch", ["b/catch-2/d"], 0, None), ("finally", "finally", ["b/finally/f"], 0, None),
            ],
        ),
    ],
)  # fmt: skip
def test_blocks_of_each_kind(text, params, inside):
    node = compiled(text)
    assert rendered(node.params) == params
    assert blocks(node) == inside


def test_the_output_of_a_block_is_a_step_behind_all_others():
    node = compiled(
        "id: b, parallel: {branches: {l: {steps: [{id: x, set: {y: 1}}, {id: z, needs: [], set: {y: 1}}], output: 3}}}"
    )
    (block,) = node.blocks
    assert [(n.kind, n.needs, n.dependents) for n in block.nodes] == [
        ("set", (), (2,)), ("set", (), (2,)), ("set", (0, 1), ()),
    ]  # fmt: skip
    assert block.roots == (0, 1)


def test_work_inside_of_steps_takes_the_defaults_and_is_sealed_for_itself():
    source = BASE.replace("steps:", "defaults: {timeout: 9s, queue: big}\nsteps:") + (
        '  - {id: b, foreach: {items: [1], steps: [{id: x, call: {handler: echo, input: "${{ vars.token }}"}}, '
        "{id: y, call: {handler: echo}}]}}\n"
    )
    node = wfe_language.compile(source).root.nodes[-1]
    x, y = node.blocks[0].nodes
    assert (node.sealed, x.sealed, y.sealed) == (False, True, False)
    assert (node.queue, node.clocks, x.queue, x.clocks.attempt) == ("default", plan.Clocks(), "big", 9.0)


def test_ids_may_be_the_same_in_blocks_beside_each_other():
    text = "id: b, parallel: {branches: {l: [{id: x, set: {y: 1}}], r: [{id: x, set: {y: '${{ 1 + 1 }}'}}]}}"
    assert wfe_language.validate(step(text)) == []


def test_names_are_known_where_they_mean_something():
    source = step(
        """id: b, foreach: {items: [{k: 1}], steps: [
          {id: x, if: '${{ index == 0 && item.k > 0 }}', set: {y: '${{ steps.a.output }}'}},
          {id: l, loop: {until: '${{ steps.z.output.y > 2 && index > 1 }}', max: 3, steps: [
            {id: z, set: {y: '${{ item.k + index }}', last: '${{ steps.l.output }}'}}]}},
          {id: t, try: {steps: [{id: w, call: {handler: echo, input: '${{ item }}'}}],
            catch: [{codes: [A],
                     steps: [{id: c, set: {y: '${{ error.code + string(index) }}', x: '${{ steps.x.status }}'}}],
                     output: '${{ error.details.?n.orValue(0) }}'}],
            finally: [{id: f, set: {y: '${{ error == null }}', w: '${{ item.k }}'}}]}},
          {id: s, switch: {cases: [{if: '${{ item.k == index }}',
                                    steps: [{id: q, set: {y: '${{ steps.t.output }}'}}]}]}}
        ]}"""
    )
    assert wfe_language.validate(source) == []


def test_a_thousand_steps_inside_of_steps_are_the_limit():
    def source(count: int) -> str:
        inner = [{"id": f"s{at}", "set": {"x": 1}} for at in range(count)]
        return json.dumps(
            {"name": "t", "steps": [{"id": "p", "parallel": {"branches": {"l": inner[:500], "r": inner[500:]}}}]}
        )

    assert wfe_language.validate(source(999)) == []
    (fault,) = wfe_language.validate(source(1000))
    assert fault.reason == "The template has more than 1000 steps."


def test_a_hundred_and_one_branches_cases_and_catches_are_too_many():
    block = [{"id": "x", "set": {"y": 1}}]
    steps = [
        {"id": "p", "parallel": {"branches": {f"b{at}": block for at in range(101)}}},
        {"id": "s", "switch": {"cases": [{"if": "${{ run.epoch > 1 }}", "steps": block}] * 101}},
        {"id": "t", "try": {"steps": block, "catch": [{"codes": [f"A{at}"], "steps": block} for at in range(101)]}},
    ]
    reasons = [fault.reason for fault in wfe_language.validate(json.dumps({"name": "t", "steps": steps}))]
    assert reasons == ["There are 101 branches.", "There are 101 cases.", "There are 101 catches."]


def test_literal_items_beyond_a_thousand_are_too_many():
    foreach = {"items": list(range(1001)), "steps": [{"id": "x", "set": {"y": 1}}]}
    (fault,) = wfe_language.validate(json.dumps({"name": "t", "steps": [{"id": "e", "foreach": foreach}]}))
    assert fault.reason == "There are 1001 items, more than 1000."
