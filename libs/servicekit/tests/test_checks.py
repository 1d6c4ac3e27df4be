"""Checks of request fields: what passes, what is refused and how it is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_engine.errors import InvalidInput
from wfe_servicekit.checks import (
    Violations,
    choice,
    from_timestamp,
    page,
    page_limit,
    parse_uuid,
    plain_text,
    timestamp,
)

TEXT = "0190163d-8694-739b-aea5-966c26f8ad91"


def fault(call: Any) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as caught:
        call()
    [violation] = caught.value.violations
    return violation.field, violation.message


def test_a_canonical_uuid_is_read_in_either_case() -> None:
    assert parse_uuid(TEXT, "id") == parse_uuid(TEXT.upper(), "id") == UUID(TEXT)


@pytest.mark.parametrize(
    "text",
    [
        "x", TEXT[:-1], TEXT + "0", TEXT.replace("-", ""), "{" + TEXT + "}", "urn:uuid:" + TEXT, f" {TEXT}",
        TEXT + "\n", TEXT.replace("0", "０"), "0190163d8694-739b-aea5-966c26f8ad91-", "' or 1=1 --",
    ],
)  # fmt: skip
def test_other_forms_of_a_uuid_are_refused(text: str) -> None:
    assert fault(lambda: parse_uuid(text, "id")) == ("id", f"is not a UUID like {TEXT}")


def test_an_absent_uuid_is_required() -> None:
    assert fault(lambda: parse_uuid("", "template_id")) == ("template_id", "is required: give a UUID")


@pytest.mark.parametrize(("asked", "used"), [(0, 50), (1, 1), (200, 200), (201, 200), (2**31 - 1, 200)])
def test_a_page_size_is_clamped(asked: int, used: int) -> None:
    assert page_limit(asked) == used
    assert page(asked, 1_000_000) == (used, 1_000_000)


def test_a_page_that_cannot_be_is_refused_with_all_that_is_wrong() -> None:
    with pytest.raises(InvalidInput) as caught:
        page(-1, -1)
    assert [violation.field for violation in caught.value.violations] == ["limit", "offset"]
    assert fault(lambda: page(0, 1_000_001))[0] == "offset"


def test_text_is_checked_for_length_and_control_characters() -> None:
    assert plain_text("Grüße 🙂", "reason", longest=10) == "Grüße 🙂"
    assert plain_text("", "reason", longest=10) == ""
    assert plain_text("a\n\tb\r", "reason", longest=10, line_breaks=True) == "a\n\tb\r"
    assert fault(lambda: plain_text("x" * 11, "reason", longest=10)) == (
        "reason",
        "must be at most 10 characters, has 11",
    )
    assert fault(lambda: plain_text("  ", "name", longest=10, shortest=1)) == ("name", "is required")
    assert "at least 3" in fault(lambda: plain_text("ab", "name", longest=10, shortest=3))[1]
    for bad in ("\0", "\n", "\t", "\x1b[31m", "\x7f", "\x85", "\u2028"):
        assert "control character" in fault(lambda bad=bad: plain_text(f"a{bad}", "name", longest=10))[1]
    for bad in ("\0", "\x1b", "\x7f", "\x85"):
        assert "position 1" in fault(lambda bad=bad: plain_text(f"a{bad}", "name", longest=10, line_breaks=True))[1]


def test_a_choice_names_what_may_be_chosen() -> None:
    assert choice("open", "status", ("open", "all")) == "open"
    assert fault(lambda: choice("opne", "status", ("open", "all"))) == ("status", "must be one of open, all")


def test_violations_are_collected_over_several_checks() -> None:
    faults = Violations()
    with faults.collect():
        parse_uuid("x", "id")
    with faults.collect():
        page(-1, -1)
    with faults.collect():
        parse_uuid(TEXT, "fine")
    faults.add("version", "must be positive")
    with pytest.raises(InvalidInput) as caught:
        faults.raise_if_any()
    assert [violation.field for violation in caught.value.violations] == ["id", "limit", "offset", "version"]
    Violations().raise_if_any()


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2030, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_moments_go_out_and_come_back_the_same(moment: datetime) -> None:
    stamp = timestamp(moment)
    assert stamp is not None
    request = pb.ListWorkflowsRequest(created_after=stamp)
    assert from_timestamp(request, "created_after") == moment
    assert from_timestamp(request, "created_before") is None


def test_moments_that_cannot_be_are_refused() -> None:
    assert timestamp(None) is None
    with pytest.raises(ValueError, match="naive"):
        timestamp(datetime(2030, 1, 1))  # noqa: DTZ001
    for seconds, nanos in ((0, 0), (253402300800, 0), (-62135596801, 0), (0, -1), (0, 1_000_000_000), (2**62, 0)):
        request = pb.ListWorkflowsRequest(created_after=Timestamp(seconds=seconds, nanos=nanos))
        assert fault(lambda request=request: from_timestamp(request, "created_after"))[0] == "created_after"
