"""Input is checked against the declared variables."""

from __future__ import annotations

import json

import msgspec
import pytest
import wfe_language
from wfe_engine.plan import Variable
from wfe_language import check_input
from wfe_language.schemas import make_validator

SECRET = "hunter2-hunter2"


def test_values_and_defaults():
    variables = (
        Variable("a", {"type": "string"}, required=True),
        Variable("b", {"type": "integer"}, default=3),
        Variable("c", {"type": ["string", "null"]}, default="x"),
        Variable("d", {"type": "object"}),
    )
    assert check_input(variables, {"a": "v"}) == ({"a": "v", "b": 3, "c": "x", "d": None}, ())
    given = {"d": {"k": [1]}, "c": None, "b": 7.0, "a": ""}
    values, violations = check_input(variables, given)
    assert violations == ()
    assert msgspec.json.encode(values) == b'{"a":"","b":7,"c":null,"d":{"k":[1]}}'


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string"}, "x", 1),
        ({"type": "integer"}, 5, 5.5),
        ({"type": "integer"}, 5.0, True),
        ({"type": "number"}, 5, "5"),
        ({"type": "boolean"}, False, "false"),
        ({"type": "array", "items": {"type": "integer"}}, [1], ["x"]),
        ({"type": "object", "required": ["k"]}, {"k": 1}, {}),
        ({"enum": ["plain", "formal"]}, "plain", "loud"),
        ({"format": "uri"}, "https://x.y/z", "not a uri"),
        ({"format": "email"}, "a@b.example", "a@"),
        ({"format": "date-time"}, "2030-01-01T00:00:00Z", "2030-01-01"),
        ({"format": "date"}, "2030-01-31", "2030-02-31"),
        ({"format": "uuid"}, "123e4567-e89b-12d3-a456-426614174000", "123"),
        ({"format": "ipv4"}, "10.0.0.1", "10.0.0.256"),
        ({"pattern": "^a+$"}, "aa", "b"),
        ({"minimum": 1, "maximum": 3}, 2, 4),
        ({"maxLength": 3}, "abc", "abcd"),
    ],
)
def test_schemas_and_formats_are_asserted(schema, good, bad):
    assert check_input([Variable("v", schema)], {"v": good})[1] == ()
    (violation,) = check_input([Variable("v", schema)], {"v": bad})[1]
    assert violation.field.startswith("input.v")
    assert violation.message


def test_all_violations_are_named():
    variables = (Variable("source", {"type": "string"}, required=True), Variable("tone", {"enum": ["a"]}))
    violations = check_input(variables, {"sorce": 1, "zzz": 1, "tone": "b"})[1]
    assert {v.field: v.message for v in violations} == {
        "input.sorce": "There is no such variable; did you mean source?",
        "input.zzz": "There is no such variable; the template declares source, tone.",
        "input.source": "It is required (string); give it a value.",
        "input.tone": '"b" is not one of "a"',
    }
    assert "no such variable" in check_input((), {"x": 1})[1][0].message
    assert "declares none" in check_input((), {"x": 1})[1][0].message


def test_null():
    required = Variable("a", {"type": "string"}, required=True)
    assert "null is not a value of it" in check_input([required], {"a": None})[1][0].message
    nullable = Variable("a", {"type": ["string", "null"]}, required=True)
    assert check_input([nullable], {"a": None}) == ({"a": None}, ())
    optional = Variable("a", {"type": "string"}, default="x")
    assert check_input([optional], {"a": None}) == ({"a": "x"}, ())


def test_places_inside_values():
    schema = {"properties": {"items": {"items": {"type": "integer"}}}}
    (violation,) = check_input([Variable("v", schema)], {"v": {"items": [1, "x"]}})[1]
    assert violation.field == "input.v.items[1]"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer"},
        {"enum": ["a"]},
        {"const": 1},
        {"pattern": "^a$"},
        {"format": "uri"},
        {"maxLength": 3},
        {"minLength": 100},
        {"type": "object", "additionalProperties": False},
        {"properties": {"password": {"type": "integer"}}, "propertyNames": {"maxLength": 2}},
        {"not": {}},
        False,
    ],
)
@pytest.mark.parametrize("value", [SECRET, {"password": SECRET, SECRET: 1}, [SECRET]])
def test_sensitive_values_are_never_shown(schema, value):
    variable = Variable("v", {"allOf": [schema]}, sensitive=True)
    violations = check_input([variable], {"v": value})[1]
    assert SECRET not in repr(violations)
    if schema is False:
        assert violations[0].field == "input.v"
        assert "does not fit the rule" in violations[0].message


def test_messages_are_short():
    (violation,) = check_input([Variable("v", {"type": "integer"})], {"v": "x" * 100_000})[1]
    assert len(violation.message) < 400


@pytest.mark.parametrize("given", [None, [], "x", 3])
def test_input_that_is_no_object(given):
    values, (violation,) = check_input([Variable("v", {})], given)
    assert values == {}
    assert violation.field == "input"


def test_hostile_patterns_and_many_errors_are_bounded():
    pattern = Variable("v", {"pattern": "^(a+)+$"})
    assert len(check_input([pattern], {"v": "a" * 50_000 + "b"})[1]) == 1
    many = Variable("v", {"items": {"type": "integer"}})
    assert len(check_input([many], {"v": ["x"] * 10_000})[1]) == 5


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/x", "https://x.invalid/s", "file:///etc/passwd", "other.json"])
def test_schemas_read_no_other_documents(uri):
    with pytest.raises(ValueError, match=r"not followed|not present"):
        make_validator({"$ref": uri})


def test_references_are_refused_before_anything_is_opened(tmp_path):
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(ValueError, match="not followed"):
        make_validator({"$ref": other.as_uri()})


def test_values_that_are_no_json():
    (violation,) = check_input([Variable("v", {"type": "integer"})], {"v": object()})[1]
    assert violation.message == "The value is not JSON."


@pytest.mark.parametrize("default", ["${{ vars.a }}", ["x", {"y": "a ${{ secrets.K }}"}]])
def test_an_expression_in_a_default_is_a_fault(default):
    template = {"name": "t", "variables": {"x": {"default": default}}, "steps": [{"id": "a", "set": {"v": 1}}]}
    (fault,) = wfe_language.validate(json.dumps(template))
    assert (fault.path, fault.reason) == ("variables.x.default", "An expression cannot stand here.")
