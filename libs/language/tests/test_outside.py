"""Expressions that stand outside of templates."""

from __future__ import annotations

import pytest
import wfe_language
from wfe_engine import plan
from wfe_language import CelEvaluator, ExpressionError, ExpressionPool, met_in, narrowed, outside_expression


def test_they_see_their_own_roots_and_no_others():
    expression = outside_expression('event.type == "a" && event.n > 1', ("event",))
    assert CelEvaluator().evaluate(expression, {"event": {"type": "a", "n": 2}}) is True
    for source in ("vars.x", "body.x", "event.", "nobody", ""):
        with pytest.raises(ExpressionError):
            outside_expression(source, ("event",))
    expression = outside_expression('headers["x-a"] + body.b', ("body", "headers"))
    assert CelEvaluator().evaluate(expression, {"headers": {"x-a": "1"}, "body": {"b": "2"}}) == "12"


def test_templates_do_not_see_them():
    source = "name: x\nsteps:\n  - id: a\n    set: {b: '${{ event.type + \"x\" }}'}\n"
    assert wfe_language.validate(source)


async def test_the_pool_evaluates_them_in_bounded_time():
    slow = "event.l.map(a, event.l.map(b, event.l.map(c, a + b + c)))"
    async with ExpressionPool(size=1, cpu_seconds=0.05) as pool:
        expression = outside_expression("event.l.exists(x, x == 2)", ("event",))
        assert await pool.evaluate(expression, {"event": {"l": [1, 2]}}) is True
        with pytest.raises(ExpressionError):
            await pool.evaluate(outside_expression(slow, ("event",)), {"event": {"l": list(range(1000))}})
        assert await pool.evaluate(expression, {"event": {"l": [1]}}) is False


EVENT = {"type": "run.x", "data": {"labels": {"a": "1", "b": "2"}, "list": [1, {"n": 2}], "deep": {"er": {"x": 1}}}}


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ('event.type == "run.x"', {"type": "run.x"}),
        ('event.data.labels.a == "1"', {"data": {"labels": {"a": "1"}}}),
        ('event["data"]["labels"]["b"] == "2"', {"data": {"labels": {"b": "2"}}}),
        ("event.data.list[1].n == 2", {"data": {"list": [1, {"n": 2}]}}),
        ("event.data.list.exists(x, x == 1)", {"data": {"list": [1, {"n": 2}]}}),
        ('"a" in event.data.labels', {"data": {"labels": {"a": "1", "b": "2"}}}),
        ('event.data.labels[event.type] == ""', {"type": "run.x", "data": {"labels": {"a": "1", "b": "2"}}}),
        ("has(event.data.nothing.at) || has(event.data.deep.er)", {"data": {"deep": {"er": {"x": 1}}}}),
        ("event.data.labels.size() == 2 && event.data.labels.a == '1'", {"data": {"labels": {"a": "1", "b": "2"}}}),
        ("size(event) == 2", EVENT),
        ("event.data.deep.er.x == 1 && event.data.deep.er != {}", {"data": {"deep": {"er": {"x": 1}}}}),
    ],
)
def test_only_what_is_looked_at_is_handed_over_and_gives_the_same(source, part):
    expression = outside_expression(source, ("event",))
    whole = {"event": EVENT}
    assert narrowed(expression, whole) == {"event": part}

    def given(bindings):
        try:
            return CelEvaluator().evaluate(expression, bindings)
        except ExpressionError as fault:
            return fault.message

    assert given(narrowed(expression, whole)) == given(whole)


def test_nothing_is_changed_by_narrowing():
    before = {"event": {"data": {"a": {"b": 1}}}}
    narrowed(outside_expression("event.data.a.b == event.data.c", ("event",)), before)
    assert before == {"event": {"data": {"a": {"b": 1}}}}


BINDINGS = {
    "vars": {"k": "l", "n": 3},
    "steps": {
        "a": {
            "status": "completed", "attempts": 1, "error": None,
            "output": {"l": [1, {"x": 2}], "o": {"p": 1}, "t": "text", "n": None},
        }
    },
    "run": {"id": "r"},
    "item": {"q": 1},
}  # fmt: skip
ROOTS = (("vars", "k"), ("vars", "n"), ("steps", "a"), ("run", ""), ("item", ""))


@pytest.mark.parametrize(
    "source",
    [
        "steps.a.output.l[1].x + 1", "steps.a.output[vars.k].size()", "has(steps.a.output.z)",
        "has(steps.a.output.o.p)", "steps.a.output.?z.orValue(3)", "steps.a.output.z + 1", "steps.a.output.o.keys()",
        "steps.a.output.o.merge({'a': 1})", "'l' in steps.a.output", "steps.a.output.map(k, k)",
        "steps.a.output.t.split('x')[0]", "steps.a.output.n == null", "steps.a.output.n.x == 1", "item.r * 2",
        "steps.a.output.l.filter(item, item == 1)", "steps.a.output.l[9] + 1", "steps.a.output['o']['p'] + vars.n",
        "coalesce(steps.a.output.n, steps.a.output.o.p)", "steps.a.error == null && steps.a.status == 'completed'",
        "json.encode(steps.a.output) + run.id", "size(steps.a.output) + size(steps.a.output.o)",
        "steps.a.output.o.p.q == 1",
    ],
)  # fmt: skip
def test_expressions_of_templates_give_the_same_and_say_the_same_narrowed(source):
    expression = plan.Cel(source, ROOTS)

    def given(bindings):
        try:
            return CelEvaluator().evaluate(expression, bindings)
        except ExpressionError as fault:
            return met_in(fault.message, expression, BINDINGS)

    assert given(narrowed(expression, BINDINGS)) == given(BINDINGS)
