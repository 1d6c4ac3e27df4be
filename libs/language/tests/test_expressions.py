"""What CEL gives, what it refuses, and that nothing it is given takes long."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wfe_engine import plan
from wfe_language import CelEvaluator, ExpressionError, is_cheap
from wfe_language.expressions.environment import NotCel, compile_cel
from wfe_language.expressions.scan import references

EVALUATOR = CelEvaluator()
BINDINGS = {
    "vars": {
        "n": 3, "x": 1.5, "two": 2.0, "name": "ada", "flag": True, "none": None, "l": [3, 1, 2],
        "o": {"k": {"in": 1}}, "big": 2**53 - 1, "at": "2030-01-01T00:00:00Z",
    },
    "steps": {"a": {"status": "completed", "output": {"words": 60}, "attempts": 1}},
    "run": {"id": "r1", "labels": {"team": "x"}, "epoch": 1},
}  # fmt: skip


def cel(source: str) -> plan.Cel:
    roots = {(ref.root, str(ref.parts[0]) if ref.parts else "") for ref in references(source)}
    return plan.Cel(source, tuple(sorted(roots)))


def evaluate(source: str) -> object:
    return EVALUATOR.evaluate(cel(source), BINDINGS)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("vars.n + 1", 4), ("vars.n > 2 && vars.flag", True), ("!vars.flag", False), ("vars.n % 2", 1),
        ("steps.a.output.words > 50", True), ("steps.a.status == 'completed'", True),
        ("vars.flag ? 'yes' : 'no'", "yes"), ("'ada' == vars.name", True), ("vars.none == null", True),
        ("has(vars.missing)", False), ("'k' in vars.o", True), ("run.labels['team']", "x"), ("2 in vars.l", True),
        ("vars.l.map(x, x * 2)", [6, 2, 4]), ("vars.l.filter(x, x > 1).size()", 2), ("vars.l.all(x, x > 0)", True),
        ("vars.l.exists(x, x == 9)", False), ("vars.l + [4]", [3, 1, 2, 4]), ("[vars.n, 'a', null]", [3, "a", None]),
        ("{'a': vars.n, 'b': {'c': []}}", {"a": 3, "b": {"c": []}}), ("vars.o", {"k": {"in": 1}}),
        ("vars.name + '!'", "ada!"), ("size(vars.name)", 3), ("vars.name.startsWith('a')", True),
        ("vars.name.upperAscii()", "ADA"), ("'a,b'.split(',')", ["a", "b"]), ("['a', 'b'].join('-')", "a-b"),
        ("' a '.trim()", "a"), ("'abc'.replace('b', 'x')", "axc"), ("'abc'.substring(1, 2)", "b"),
        ("'%s is %d'.format([vars.name, vars.n])", "ada is 3"), ("vars.name.matches('^a.a$')", True),
        ("string(vars.n)", "3"), ("int('42')", 42), ("double('1.5')", 1.5), ("string(2.0)", "2"), ("int(vars.x)", 1),
        ("timestamp(vars.at) + duration('1h')", "2030-01-01T01:00:00Z"), ("duration('90s')", "90s"),
        ("timestamp(vars.at) < timestamp('2031-01-01T00:00:00Z')", True), ("duration('1500ms')", "1.5s"),
        ("timestamp(vars.at).getFullYear()", 2030), ("1u", 1), ("vars.big", 2**53 - 1), ("size('é😀')", 2),
        ("true || 1 / 0 == 0", True), ("[1, 2][1]", 2), ("'a' < 'b'", True), ("dyn(1) == 1.0", True),
    ],
)  # fmt: skip
def test_values(source, value):
    result = evaluate(source)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("vars.x + 1", 2.5), ("1 + vars.x", 2.5), ("vars.n * 0.5", 1.5), ("vars.n - 0.5", 2.5), ("3 / 2.0", 1.5),
        ("vars.two + 1", 3.0), ("vars.x + vars.n", 4.5), ("vars.n * vars.x", 4.5), ("1.5 - 1", 0.5),
        ("vars.n / 2", 1), ("vars.n + vars.n", 6), ("vars.two == 2", True), ("vars.n > 2.5", True),
        ("vars.l.map(x, x * 1.5)", [4.5, 1.5, 3.0]), ("-vars.x", -1.5),
    ],
)  # fmt: skip
def test_whole_and_fractional_numbers_mix(source, value):
    result = evaluate(source)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("vars.missing", 'There is no key "missing"'), ("steps.b.output", 'There is no key "b"'),
        ("vars.n / 0", "Divide by zero"), ("vars.x / 0", "division by zero"),
        ("vars.l[9]", "no position 9 in a list of 3"),
        ("vars.name + 1", "No operator or function for these types"), ("int('x')", "cannot convert"),
        ("vars.name && true", "No "), ("9223372036854775807 + vars.n", "overflow"),
        ("b'abc'", "type JSON does not have"), ("type(1)", "type JSON does not have"), ("1.0 / 1e-320", "not finite"),
        ("{1: 2}", "whose key 1 is not text"), ("'a\\u0000'", "NUL"), ("vars.big + 1", "cannot carry"),
        ("'('.matches('(')", "egular expression"), ("vars.", "does not compile"), ("nothing", "undeclared reference"),
        ("dyn([1]).all(a, dyn([1]).all(b, vars.nope))", "nope"),
    ],
)  # fmt: skip
def test_errors_are_expression_errors(source, message):
    with pytest.raises(ExpressionError) as caught:
        evaluate(source)
    assert message.lower() in caught.value.message.lower()
    assert caught.value.code == "EXPRESSION_ERROR"
    assert caught.value.expression == source
    assert len(caught.value.message) <= 500


def test_only_what_an_expression_refers_to_is_handed_to_cel():
    narrow = plan.Cel("vars.n + 1", (("vars", "n"),))
    assert EVALUATOR.evaluate(narrow, {"vars": {"n": 1, "hidden": object()}, "steps": object()}) == 2
    with pytest.raises(ExpressionError, match="hidden"):
        EVALUATOR.evaluate(plan.Cel("vars.hidden", (("vars", "n"),)), {"vars": {"n": 1, "hidden": "secret"}})


def test_bindings_that_are_no_json_are_an_expression_error():
    with pytest.raises(ExpressionError):
        EVALUATOR.evaluate(cel("vars.n"), {"vars": {"n": object()}})
    with pytest.raises(ExpressionError):
        EVALUATOR.evaluate(cel("vars.n"), {"vars": {"n": 2**70}})


def test_results_are_bounded():
    with pytest.raises(ExpressionError, match="more than 262144"):
        EVALUATOR.evaluate(cel("vars.t + vars.t"), {"vars": {"t": "x" * 200_000}})
    with pytest.raises(ExpressionError, match="more than 50000 values"):
        EVALUATOR.evaluate(cel("vars.l + vars.l"), {"vars": {"l": [1] * 30_000}})
    deep: list[object] = []
    for _ in range(40):
        deep = [deep]
    with pytest.raises(ExpressionError, match="more than 32 levels"):
        EVALUATOR.evaluate(cel("vars.l"), {"vars": {"l": deep}})


HOSTILE = {
    "nested loops": "vars.l.all(a, vars.l.all(b, vars.l.all(c, vars.l.all(d, true))))",
    "nested maps": "vars.l.map(a, vars.l.map(b, vars.l.map(c, vars.l)))",
    "deep": "(" * 2000 + "1" + ")" * 2000,
    "not": "!" * 4000 + "true",
    "regex": "vars.t.matches('(x+x+)+y')",
    "regex size": "'a'.matches('((a{100}){100}){100}')",
    "format": "'%.1000000f'.format([1.0])",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_expressions_end(name):
    began = time.process_time()
    with contextlib.suppress(ExpressionError):
        EVALUATOR.evaluate(cel(HOSTILE[name]), {"vars": {"l": list(range(1000)), "t": "x" * 10_000}})
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "source",
    [
        "[" * 2000, "a.b(" * 1000, "true?(" * 600, '"' * 4000, "@ " * 2000, "vars" + ".map(a,a)" * 400,
        "+".join(["1"] * 2000), "{1:" * 1000, "x" * 5000, "é" * 2100,
    ],
)  # fmt: skip
def test_compiling_is_bounded(source):
    began = time.process_time()
    with pytest.raises(NotCel):
        compile_cel(source)
    assert time.process_time() - began < 0.5


@given(st.text(max_size=60) | st.text("vars.n[]()'\"+{}:?,|& 1a\\\n", max_size=40))
def test_any_text_compiles_or_says_why(source):
    with contextlib.suppress(ExpressionError):
        EVALUATOR.evaluate(cel(source), BINDINGS)


@pytest.mark.parametrize("source", ["vars.n + 1", "steps.a.status == 'completed' ? 'a' : 'b'", "has(vars.map)"])
def test_cheap(source):
    assert is_cheap(cel(source), BINDINGS)


@pytest.mark.parametrize(
    "source",
    ["vars.l.map(x, x)", "vars . l . filter (x, true)", "vars.l.exists(x, true)", "'a'.matches('b')",
     "matches('a', 'b')", "'a'.replace('', 'b')", "'%s'.format([1])"],
)  # fmt: skip
def test_what_loops_is_not_cheap(source):
    assert not is_cheap(cel(source), BINDINGS)


def test_large_bindings_are_not_cheap():
    small = {"l": [1], "t": "x", "other": [0] * 10_000}
    assert is_cheap(cel("vars.l + vars.t"), {"vars": small})
    assert not is_cheap(cel("vars.l"), {"vars": {"l": [0] * 1000}})
    assert not is_cheap(cel("vars.l"), {"vars": {"l": {str(i): i for i in range(1000)}}})
    assert not is_cheap(cel("vars.t"), {"vars": {"t": "x" * 20_000}})
    assert not is_cheap(cel("vars"), {"vars": small})
