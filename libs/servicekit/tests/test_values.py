"""Between Struct and plain JSON: exact on the way in, never failing on the way out."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from wfe_engine.errors import InvalidInput
from wfe_servicekit.checks import dict_to_struct, struct_to_dict, to_value, value_to_plain

LIMIT = 2**53 - 1


def struct(text: str) -> Struct:
    return json_format.Parse(text, Struct())


def faults(message: Struct, **how: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        struct_to_dict(message, **how)
    return {violation.field: violation.message for violation in caught.value.violations}


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_every_kind_of_value_comes_out_as_itself() -> None:
    text = '{"s": "é\\n", "t": true, "f": false, "n": null, "i": 3, "d": 0.5, "l": [1, [], {}], "o": {"": {}}}'
    plain = struct_to_dict(struct(text))
    assert plain == json.loads(text)
    assert type(plain["i"]) is int
    assert type(plain["d"]) is float
    assert type(plain["t"]) is bool
    assert struct_to_dict(Struct()) == {}


def test_integral_numbers_are_ints_up_to_the_limit_and_refused_beyond() -> None:
    message = Struct()
    message.fields["a"].number_value = LIMIT
    message.fields["b"].number_value = -LIMIT
    message.fields["c"].number_value = -0.0
    plain = struct_to_dict(message)
    assert plain == {"a": LIMIT, "b": -LIMIT, "c": 0}
    assert {type(value) for value in plain.values()} == {int}
    for number in (LIMIT + 1, -LIMIT - 1, 1e300, 9007199254740993):
        message.fields["a"].number_value = number
        assert list(faults(message)) == ["input.a"]
        assert "give a string" in faults(message)["input.a"]


def test_everything_wrong_is_named_by_its_path() -> None:
    message = Struct()
    message.fields["nan"].number_value = math.nan
    message.fields["inf"].number_value = -math.inf
    message.fields["nul"].string_value = "a\0b"
    message.fields["none"].SetInParent()
    message.fields["bad\0name"].bool_value = True
    items = message.fields["items"].list_value.values
    items.add().number_value = 1
    items.add().struct_value.fields["id"].number_value = 2.0**60
    items.add().string_value = "\0"
    found = faults(message, field="vars")
    assert set(found) == {
        "vars", "vars.nan", "vars.inf", "vars.nul", "vars.none", "vars.items[1].id", "vars.items[2]"
    }  # fmt: skip
    assert "NUL" in found["vars"]


def test_violations_are_limited_in_number() -> None:
    message = Struct()
    for number in range(500):
        message.fields[f"v{number}"].string_value = "\0"
    assert len(faults(message)) == 50


def test_the_depth_is_counted_from_the_struct_itself() -> None:
    assert struct_to_dict(dict_to_struct(nested(32))) == nested(32)
    deep = dict_to_struct(nested(33), max_depth=40)
    assert list(faults(deep)) == ["input" + ".a" * 32]
    lists = Struct()
    value = lists.fields["l"]
    for _ in range(32):
        value = value.list_value.values.add()
    value.bool_value = True
    assert list(faults(lists)) == ["input.l" + "[0]" * 31]


def test_the_size_is_limited() -> None:
    message = Struct()
    message.fields["a"].string_value = "x" * 2_000
    assert struct_to_dict(message, max_bytes=2_100)
    assert list(faults(message, max_bytes=2_000)) == ["input"]
    message.fields["a"].string_value = "x" * (1 << 20)
    assert "bytes" in faults(message)["input"]


def test_a_value_follows_the_same_rules() -> None:
    assert value_to_plain(Value(list_value=ListValue(values=[Value(number_value=2)])), "payload") == [2]
    with pytest.raises(InvalidInput, match="payload"):
        value_to_plain(Value(number_value=math.inf), "payload")
    with pytest.raises(InvalidInput, match="bytes"):
        value_to_plain(Value(string_value="x" * 100), "payload", max_bytes=10)


def test_answers_show_what_json_numbers_cannot_carry_as_text() -> None:
    shown = struct_to_dict(
        dict_to_struct(
            {
                "big": LIMIT + 1,
                "small": -LIMIT - 1,
                "fits": LIMIT,
                "huge": 10**5_000,
                "nan": math.nan,
                "inf": -math.inf,
                "decimal": Decimal("1.10"),
                "uuid": UUID(int=1),
                "at": datetime(2030, 1, 1, tzinfo=UTC),
                "bytes": b"x",
                "surrogate": "a\ud800b",
                "bad\ud800name": 1,
                7: "number as a name",
                "tuple": (1, None, True),
                "empty": {},
                "none": [],
            }
        )
    )
    assert shown["big"] == "9007199254740992"
    assert shown["small"] == "-9007199254740992"
    assert shown["fits"] == LIMIT
    assert shown["huge"].startswith("0x")
    assert (shown["nan"], shown["inf"]) == ("nan", "-inf")
    assert (shown["decimal"], shown["bytes"]) == ("1.10", "b'x'")
    assert shown["uuid"] == "00000000-0000-0000-0000-000000000001"
    assert shown["at"] == "2030-01-01 00:00:00+00:00"
    assert (shown["surrogate"], shown["bad?name"]) == ("a?b", 1)
    assert shown["7"] == "number as a name"
    assert (shown["tuple"], shown["empty"], shown["none"]) == ([1, None, True], {}, [])


def test_answers_that_are_too_deep_say_so_where_it_happens() -> None:
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    message = dict_to_struct({"a": nested(500), "l": deep, "n": to_value(nested(200)).struct_value})
    assert "[nested deeper than 32 levels]" in str(message)
    assert Struct.FromString(message.SerializeToString()) == message
    assert "nested deeper" in str(to_value(deep))


def test_nothing_gives_an_empty_struct_and_null() -> None:
    assert dict_to_struct(None) == Struct()
    assert dict_to_struct({}) == Struct()
    assert to_value(None).WhichOneof("kind") == "null_value"


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LIMIT, LIMIT)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4)
    ),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), PLAIN, max_size=5))
def test_what_goes_out_comes_back_the_same(plain: dict[str, Any]) -> None:
    message = Struct.FromString(dict_to_struct(plain).SerializeToString())
    assert struct_to_dict(message) == plain
    assert json_format.MessageToDict(message) == plain


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(ANYTHING)
def test_nothing_whatever_makes_an_answer_fail(plain: Any) -> None:
    assert Value.FromString(to_value(plain).SerializeToString())
    json_format.MessageToJson(to_value(plain))
