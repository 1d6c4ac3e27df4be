"""What the functions beyond CEL's own give, and how they say what is wrong."""

from __future__ import annotations

import pytest
from test_expressions import cel
from wfe_language import CelEvaluator, ExpressionError, is_cheap

VARS = {
    "n": 3, "f": 2.5, "l": [3, 1, 2], "t": "b", "o": {"a": 1, "b": [1, None]}, "none": None,
    "m": [{"k": 2, "x": "c"}, {"k": 1, "x": "a"}, {"k": 2, "x": "b"}], "at": "2030-01-31T23:30:00-02:00",
}  # fmt: skip


def evaluate(source: str) -> object:
    return CelEvaluator().evaluate(cel(source), {"vars": VARS})


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("coalesce(vars.none, vars.o, 1)", {"a": 1, "b": [1, None]}), ("coalesce(null, null)", None),
        ("coalesce(vars.?missing.orValue(null), 7)", 7), ("coalesce(false, true)", False),
        ("json.decode(json.encode(vars.o)) == vars.o", True), ("json.encode(2.0)", "2.0"), ("json.encode('é')", '"é"'),
        ("json.encode(null)", "null"),
        ("json.encode({'b': 1, 'a': 2})", '{"a":2,"b":1}'), ("json.decode('null')", None),
        ("round(2.675, 2)", 2.68), ("round(-2.675, 2)", -2.68), ("round(1.005, 2)", 1.01), ("round(0.5, 0)", 1.0),
        ("round(vars.n, 2)", 3), ("round(1e20, 2)", 1e20), ("round(1.5e-7, 7)", 2e-7),
        ("vars.l.sort()", [1, 2, 3]), ("[2, 1.5].sort()", [1.5, 2]),
        ("['b', 'a'].sort()", ["a", "b"]), ("[].sort()", []),
        ("vars.m.sortBy('k').map(e, e.x)", ["a", "c", "b"]), ("[1, 1.0, 2, '1'].unique()", [1, 2, "1"]),
        ("[true, 1, [1], [1]].unique()", [True, 1, [1]]), ("[{'a': 1, 'b': 2}, {'b': 2, 'a': 1}].unique().size()", 1),
        ("vars.l.slice(1)", [1, 2]), ("vars.l.slice(0, 9)", [3, 1, 2]), ("vars.l.slice(-1)", [2]),
        ("[1, [2, [3]]].flatten()", [1, 2, [3]]), ("[1, 2, 3].chunk(2)", [[1, 2], [3]]), ("[].chunk(5)", []),
        ("vars.l.sum() + 1", 7), ("[].sum()", 0), ("[1, 0.5].sum()", 1.5), ("vars.l.min()", 1),
        ("['b', 'a'].max()", "b"),
        ("vars.l.first().orValue(0)", 3), ("[].last().orValue(0)", 0), ("vars.o.keys()", ["a", "b"]),
        ("{'b': 1, 'a': 2}.values()", [2, 1]),
        ("vars.o.merge({'a': 2}).a", 2), ("vars.o.pick(['a', 'z'])", {"a": 1}), ("vars.o.omit(['b'])", {"a": 1}),
        ("'añb'.truncate(2)", "a…"), ("'ab'.truncate(2)", "ab"), ("'a\\r\\nb\\n'.lines()", ["a", "b"]),
        ("url.encode('é&/ ')", "%C3%A9%26%2F%20"), ("string(base64.decode(base64.encode(bytes('é'))))", "é"),
        ("time.format(vars.at, '%Y-%m-%dT%H:%M:%S')", "2030-02-01T01:30:00"), ("time.format(vars.at, '100%%')", "100%"),
        ("time.format(timestamp(vars.at), '%j')", "032"), ("time.unix(vars.at)", 1896139800),
        ("time.fromUnix(1896139800)", "2030-02-01T01:30:00Z"), ("time.format('0999-01-01T00:00:00Z', '%Y')", "0999"),
        ("math.greatest(vars.l)", 3), ("math.abs(-vars.n)", 3), ("vars.?o.?a.orValue(0)", 1),
        ("vars.l[?7].orValue(0)", 0),
    ],
)  # fmt: skip
def test_values(source, value):
    result = evaluate(source)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("json.decode('{')", 'json.decode was given "{", which is not JSON'),
        ("round('a', 1)", 'round needs numbers, not "a"'), ("round(1.5, 13)", "round keeps 0 to 12 digits, not 13"),
        ("[1, 'a'].sort()", 'sort needs all numbers or all text, not "a"'), ("[null].sort()", "not null"),
        ("[true].sum()", "sum needs numbers, not true"), ("[].min()", "min of an empty list"),
        ("[['a'], 1].max()", 'not ["a"]'), ("vars.m.sortBy('z')", 'sortBy finds no z in {"k":2,"x":"c"}'),
        ("[1].chunk(0)", "chunk needs a size of at least 1, not 0"), ("'a'.truncate(0)", "at least 1, not 0"),
        ("time.format('2030-01-31', '%Y')", "needs a moment with its zone"),
        ("time.format(vars.at, '%B')", "time.format knows %Y %m %d %H %M %S and %j, not '%B'"),
        ("time.format(vars.at, 'a%')", "not '%'"), ("time.unix(3)", "needs a moment with its zone"),
        ("time.fromUnix(1e30)", "needs seconds since 1970"), ("time.fromUnix('a')", "needs seconds since 1970"),
        ("vars.t.sum()", "No operator or function for these types"), ("vars.?zz", "end it with .orValue"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(source, message):
    with pytest.raises(ExpressionError) as caught:
        evaluate(source)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("vars.o.z + 1", 'There is no key "z". Here vars.o is {"a":1,"b":[1,null]}.'),
        ("vars.n / (vars.n - 3)", "Here vars.n is 3."),
        ("vars.l[5]", "Here vars.l is [3,1,2]."),
        ("int(vars.t) + vars.n", 'Here vars.t is "b", vars.n is 3.'),
        ("vars.l.map(x, x.y)", "Here vars.l is [3,1,2]."),
    ],
)
def test_errors_name_the_values_they_met(source, facts):
    with pytest.raises(ExpressionError) as caught:
        evaluate(source)
    assert caught.value.message.endswith(facts)


def test_long_values_are_cut_and_errors_stay_short():
    with pytest.raises(ExpressionError) as caught:
        CelEvaluator().evaluate(cel("vars.t + 1 + vars.u"), {"vars": {"t": "x" * 10_000, "u": "y" * 10_000}})
    assert len(caught.value.message) <= 500
    assert 'vars.t is "xxx' in caught.value.message


@pytest.mark.parametrize("source", ["json.encode(vars.n)", "vars.l.map(x, x)", "url.encode('a')", "'a'.split('')"])
def test_what_could_grow_is_not_cheap(source):
    assert not is_cheap(cel(source), {"vars": VARS})


def test_objects_come_sorted():
    assert list(evaluate("{'c': 1, 'b': {'z': 1, 'y': 2}, 'a': 3}")) == ["a", "b", "c"]
    assert list(evaluate("{'b': {'z': 1, 'y': 2}}.b")) == ["y", "z"]
