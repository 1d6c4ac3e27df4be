"""From stored values to messages: tables of what must come out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from wfe.api.v1 import workflow_pb2
from wfe_scheduler.api import mapping
from wfe_scheduler.api.payloads import Payloads, unix_moment

BIG = 2**53


def nested(levels: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"a": value}
    return value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("null", None),
        ("true", True),
        ('""', ""),
        ("0", 0.0),
        ("-1.5e-7", -1.5e-7),
        (str(BIG - 1), float(BIG - 1)),
        (str(-(BIG - 1)), float(-(BIG - 1))),
        (str(BIG), str(BIG)),
        (str(-BIG), str(-BIG)),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('{"a":[1,{"b":9007199254740993}]}', {"a": [1.0, {"b": "9007199254740993"}]}),
        ("{}", {}),
        ("[]", []),
        ('{"$sealed":[{"var":"t"}]}', "[sealed]"),
        ('{"h":{"auth":{"$sealed":["Bearer ",{"var":"t"}]}}}', {"h": {"auth": "[sealed]"}}),
        ('[{"$sealed":[]},"x"]', ["[sealed]", "x"]),
        ('"{\\"$sealed\\""', '{"$sealed"'),
        ("{", "[not readable]"),
        ("[" * 100_000 + "]" * 100_000, "[not readable]"),
    ],
)  # fmt: skip
def test_stored_json_as_a_value(text: str, shown: Any) -> None:
    value = Payloads().value(text)
    assert value is not None
    assert MessageToDict(value) == shown


def test_nothing_stored_is_nothing_shown() -> None:
    assert Payloads().value(None) is None
    assert Payloads().value(None, 17).string_value == "[left out: 17 bytes]"


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("levels", [1, 31, 32, 33, 500])
def test_the_deepest_payload_can_be_read_by_clients(kind: str, levels: int) -> None:
    stored = json.dumps(nested(levels, kind))
    step = workflow_pb2.Step(output=Payloads().value(stored))
    answer = workflow_pb2.Workflow(steps=[step])
    again = workflow_pb2.Workflow.FromString(answer.SerializeToString())
    assert again == answer
    shown = MessageToDict(again.steps[0].output)
    depth = 0
    while isinstance(shown, list | dict):
        shown = shown[0] if isinstance(shown, list) else shown["a"]
        depth += 1
    assert (depth, isinstance(shown, str)) == (min(levels, 32), levels > 32)


def test_an_answer_has_room_for_so_much_and_notes_the_rest() -> None:
    payloads = Payloads(most=100)
    assert payloads.value(json.dumps("x" * 60)).string_value == "x" * 60
    assert payloads.value(json.dumps("y" * 60)).string_value == "[left out: 62 bytes]"
    assert payloads.struct(json.dumps({"k": "z" * 60}))["note"] == "[left out: 69 bytes]"
    # What is short as text may be long as a message.
    numbers = json.dumps([1] * 12)
    assert len(numbers) < 40
    assert payloads.value(numbers).string_value == f"[left out: {len(numbers)} bytes]"
    assert payloads.value('"still fits"').string_value == "still fits"


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (None, None),
        ('{"code":"X","message":"m"}', {"code": "X", "message": "m"}),
        (
            '{"code":"HTTP_STATUS","message":"m","step":"a/b","details":{"status":503,"id":9007199254740993}}',
            {
                "code": "HTTP_STATUS",
                "message": "m",
                "step": "a/b",
                "details": {"status": 503.0, "id": "9007199254740993"},
            },
        ),
        ("something else", {"code": "UNKNOWN", "message": "something else"}),
    ],
)
def test_faults(stored: str | None, shown: dict[str, Any] | None) -> None:
    found = mapping.fault(stored, Payloads())
    assert (None if found is None else MessageToDict(found)) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (1_795_509_000.25, "2026-11-24T08:30:00.250Z"),
        (1_795_509_000.999_999_9, "2026-11-24T08:30:01Z"),
        (1_795_509_000.000_001, "2026-11-24T08:30:00.000001Z"),
    ],
)
def test_unix_moments_are_to_the_microsecond(seconds: float, text: str) -> None:
    assert unix_moment(seconds).ToJsonString() == text
