"""Whatever text comes: faults or a plan, nothing else."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest
import wfe_language
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples import BASE, EXAMPLES, faulty
from wfe_engine import plan as wfe_plan

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from(
    ["id", "needs", "if", "http", "call", "approval", "wait", "set", "checkpoint", "retry", "timeout", "queue", "url",
     "handler", "input", "title", "approvers", "policy", "from", "expires", "after", "for", "until", "x", "on", "max",
     "parallel", "branches", "switch", "cases", "else", "is", "value", "foreach", "items", "range", "to", "concurrency",
     "on_failure", "tolerate", "loop", "while", "on_max", "try", "catch", "codes", "finally", "steps", "output", "fail",
     "code", "message", "emit", "name", "data", "wait_for", "signal", "callback", "heartbeat", "workflow", "template"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS | st.sampled_from(["${{ vars.n }}", "${{ steps.a.output", "${{ vars.token + 1 }}", "30s", "a", "$${{"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SOURCES = [path.read_text() for path in EXAMPLES] + [case.source for case in faulty("structure")]


def check(source: str | bytes) -> None:
    faults = wfe_language.validate(source)
    assert all(fault.reason and fault.mend for fault in faults)
    if faults:
        with pytest.raises(wfe_language.TemplateFaults) as caught:
            wfe_language.compile(source)
        assert list(caught.value.faults) == faults
    else:
        plan = wfe_language.compile(source)
        assert msgspec.msgpack.encode(plan) == msgspec.msgpack.encode(wfe_language.compile(source))


@given(st.text() | st.binary() | st.text("{}[]:,-&*!|>'\"%@`#\n\t ab1~?$\\", max_size=60))
@example("%YAML 3.0\n---\na")
@example("a: 'b\n\n c': d")
@example('"\\x": 1')
@example("\ud800")
def test_any_text(source):
    check(source)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5), st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_steps(first, second):
    steps = [{"id": "a", **first}, {"id": "b", **second}]
    check(json.dumps({"name": "t", "variables": {"n": {}, "token": {"sensitive": True}}, "steps": steps}))


STEPS = st.recursive(
    st.sampled_from([{"set": {"y": 1}}, {"call": {"handler": "echo"}}, {"set": {"y": "${{ item }}"}}, {}, {"wait": 3}]),
    lambda inner: st.one_of(
        st.dictionaries(KEYS, VALUES, max_size=2).flatmap(lambda more: inner.map(lambda step: {**step, **more})),
        st.tuples(
            st.sampled_from(["foreach", "loop", "try"]), st.lists(inner, max_size=3), st.dictionaries(KEYS, VALUES)
        ).map(lambda given: {given[0]: {"steps": given[1], "max": 2, "until": True, "items": [1], **given[2]}}),
        st.lists(inner, max_size=3).map(lambda steps: {"parallel": {"branches": {"a": steps, "b": {"steps": steps}}}}),
        st.lists(inner, max_size=2).map(
            lambda steps: {"switch": {"cases": [{"if": True, "steps": steps}], "else": steps}}
        ),
    ),
    max_leaves=8,
)


def numbered(steps: object, ids: itertools.count[int]) -> object:
    """With ids in every step that has none."""
    if isinstance(steps, dict):
        step = {key: numbered(value, ids) for key, value in steps.items()}
        return {"id": f"s{next(ids)}", **step} if wfe_plan.KINDS & set(step) else step
    return [numbered(each, ids) for each in steps] if isinstance(steps, list) else steps


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=3))
def test_any_steps_inside_of_steps(steps):
    check(json.dumps({"name": "t", "variables": {"n": {}}, "steps": numbered(steps, itertools.count())}))


@settings(max_examples=150, deadline=None)
@given(VALUES, st.sampled_from(["variables", "defaults", "timeout", "steps", "output", "name", "priority"]))
def test_any_value_at_the_top(value, key):
    check(json.dumps({"name": "t", "steps": [{"id": "a", "call": {"handler": "echo"}}], key: value}))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SOURCES), st.data())
def test_torn_templates(source, data):
    begin = data.draw(st.integers(0, len(source)))
    end = data.draw(st.integers(begin, min(len(source), begin + 30)))
    check(source[:begin] + data.draw(st.text(max_size=5)) + source[end:])


@given(VALUES)
def test_values_survive_the_way_through_json(value):
    source = json.dumps({"v": value})
    try:
        loaded = wfe_language.load(source)[0]
    except wfe_language.TemplateFaults:
        return
    assert loaded == json.loads(source)


@given(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=8))
def test_order_is_right_or_a_cycle_is_named(wanted):
    count = len(wanted)
    needs = [sorted({n % count for n in each} - {at}) for at, each in enumerate(wanted)]
    steps = [{"id": f"s{at}", "needs": [f"s{n}" for n in each], "set": {"x": 1}} for at, each in enumerate(needs)]
    faults = wfe_language.validate(json.dumps({"name": "t", "steps": steps}))
    done: set[int] = set()
    while more := {at for at in range(count) if at not in done and set(needs[at]) <= done}:
        done |= more
    if len(done) == count:
        assert faults == []
        return
    (fault,) = faults
    circle = fault.reason.split(": ")[1].rstrip(".").split(" needs ")
    assert circle[0] == circle[-1]
    for one, other in itertools.pairwise(circle):
        assert int(other[1:]) in needs[int(one[1:])]


def test_the_base_is_valid():
    assert wfe_language.validate(BASE) == []
