"""Checks of request fields, the same in every service. Each raises `InvalidInput` naming what is wrong.

Struct and Value conversions live in `wfe_servicekit.values` and are offered here as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from wfe_engine.errors import InvalidInput, Violation

from wfe_servicekit.values import dict_to_struct, struct_to_dict, to_value, value_to_plain

__all__ = [
    "Violations",
    "choice",
    "dict_to_struct",
    "from_timestamp",
    "page",
    "page_limit",
    "parse_uuid",
    "plain_text",
    "struct_to_dict",
    "timestamp",
    "to_value",
    "value_to_plain",
]

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_OFFSET = 1_000_000

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BUT_BREAKS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = int((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds())
_LATEST = int((datetime.max.replace(tzinfo=UTC, microsecond=0) - _EPOCH).total_seconds())


class Violations:
    """Collects everything wrong in a request, so that all of it is named at once.

    ```python
    faults = Violations()
    with faults.collect():
        run_id = parse_uuid(request.id, "id")
    with faults.collect():
        reason = plain_text(request.reason, "reason", longest=1_000)
    faults.raise_if_any()
    ```
    """

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def add(self, field: str, message: str) -> None:
        """Note one thing that is wrong."""
        self.found.append(Violation(field, message))

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Note the violations of an `InvalidInput` raised inside, and go on after the block."""
        try:
            yield
        except InvalidInput as error:
            self.found.extend(error.violations)

    def raise_if_any(self) -> None:
        """Raise InvalidInput with all that was noted; nothing noted, nothing raised."""
        if self.found:
            raise InvalidInput(self.found)


def parse_uuid(text: str, field: str) -> UUID:
    """A UUID in its canonical form, 8-4-4-4-12 hexadecimal digits, in either case."""
    if _UUID.fullmatch(text) is None:
        if not text:
            raise InvalidInput("is required: give a UUID", field=field)
        raise InvalidInput("is not a UUID like 0190163d-8694-739b-aea5-966c26f8ad91", field=field)
    return UUID(text)


def page_limit(limit: int, field: str = "limit") -> int:
    """A page size: 50 for 0 or absent, at most 200 whatever was asked; negative is refused."""
    if limit < 0:
        raise InvalidInput("must not be negative", field=field)
    return min(limit, MAX_LIMIT) if limit else DEFAULT_LIMIT


def page(limit: int, offset: int) -> tuple[int, int]:
    """Page size and offset to use and to echo, from those asked for. All that is wrong with both is named."""
    faults = Violations()
    with faults.collect():
        limit = page_limit(limit)
    if offset < 0:
        faults.add("offset", "must not be negative")
    elif offset > MAX_OFFSET:
        faults.add("offset", f"must be at most {MAX_OFFSET}: narrow the list with its filters instead")
    faults.raise_if_any()
    return limit, offset


def plain_text(text: str, field: str, *, longest: int, shortest: int = 0, line_breaks: bool = False) -> str:
    """Text as it was given, once it is known to be storable and showable.

    Args:
        text: What was given.
        field: Its name, for the violation.
        longest: Characters at most.
        shortest: Characters at least, not counting blanks around it; 1 makes the field required.
        line_breaks: Whether line feeds, carriage returns and tabs are allowed; no other control character
            ever is.
    """
    if len(text) > longest:
        raise InvalidInput(f"must be at most {longest} characters, has {len(text)}", field=field)
    if shortest and len(text.strip()) < shortest:
        raise InvalidInput("is required" if shortest == 1 else f"must be at least {shortest} characters", field=field)
    bad = (_CONTROL_BUT_BREAKS if line_breaks else _CONTROL).search(text)
    if bad is not None:
        raise InvalidInput(
            f"has the control character U+{ord(bad[0]):04X} at position {bad.start()}: leave it out",
            field=field,
        )
    return text


def choice(text: str, field: str, allowed: Iterable[str]) -> str:
    """One of a fixed set of words; the violation names them all."""
    allowed = tuple(allowed)
    if text not in allowed:
        raise InvalidInput(f"must be one of {', '.join(allowed)}", field=field)
    return text


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A protobuf Timestamp of an aware datetime; None for None, which leaves a message field unset.

    Raises:
        ValueError: The datetime is naive.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError("naive datetime")
    span = moment - _EPOCH
    return Timestamp(seconds=span.days * 86_400 + span.seconds, nanos=span.microseconds * 1_000)


def from_timestamp(message: Any, field: str) -> datetime | None:
    """An aware datetime in UTC, to the microsecond, of a request's Timestamp.

    Args:
        message: The request.
        field: Name of its Timestamp field; None is returned when it is not set.
    """
    if not message.HasField(field):
        return None
    stamp = getattr(message, field)
    if stamp.ByteSize() == 0:
        # What `{}` in a JSON body becomes. Taken for 1970 it would be a filter that every run meets.
        raise InvalidInput("is empty: give a moment, such as 2026-01-02T03:04:05Z", field=field)
    if not (_EARLIEST <= stamp.seconds <= _LATEST and 0 <= stamp.nanos < 1_000_000_000):
        raise InvalidInput("is not a moment between the years 1 and 9999", field=field)
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1_000)
