"""What has changed between two JSON values, as a JSON Patch (RFC 6902). Takes as long as the values are large."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Bytes of JSON that are compared, of both together.
MOST_COMPARED = 16 * 1024 * 1024
#: Bytes of JSON a patch may have to be shown.
MOST_SHOWN = 256 * 1024
#: Python refuses to parse integers of more digits than this (4,300 by default); such a one is shown as text.
_DIGITS = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """What has changed, or why that is not said.

    Attributes:
        patch: JSON Patch.
        left_out: A sentence when there is no patch; empty when there is one.
    """

    patch: list[dict[str, Any]]
    left_out: str = ""


def difference(before: str | None, after: str | None) -> Difference:
    """What has changed between two JSON texts; None stands for null."""
    size = len(before or "") + len(after or "")
    if size > MOST_COMPARED:
        return Difference([], f"the payloads have {size} bytes together, at most {MOST_COMPARED} are compared")
    patch = patch_between(plain(before), plain(after))
    shown = len(json.dumps(patch, ensure_ascii=False))
    if shown > MOST_SHOWN:
        return Difference([], f"{len(patch)} changes have {shown} bytes together, at most {MOST_SHOWN} are shown")
    return Difference(patch)


def plain(text: str | None) -> Any:
    """The value of a JSON text; integers of very many digits as text."""
    return None if text is None else json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _DIGITS else digits


def patch_between(before: Any, after: Any) -> list[dict[str, Any]]:
    """Operations that make one value of another; none when they are the same.

    Objects are compared key by key. Of lists that differ in length, what they begin and end with alike is kept and the
    rest is replaced; others are compared item by item. Numbers are the same only when they are of one type: 1 is not
    1.0, and not true.
    """
    return list(_changes("", before, after))


def _changes(at: str, before: Any, after: Any) -> Iterator[dict[str, Any]]:
    if type(before) is type(after) and isinstance(before, dict):
        for key in before:
            if key not in after:
                yield {"op": "remove", "path": _below(at, key)}
        for key, value in after.items():
            if key not in before:
                yield {"op": "add", "path": _below(at, key), "value": value}
            else:
                yield from _changes(_below(at, key), before[key], value)
    elif type(before) is type(after) and isinstance(before, list):
        yield from _changes_of_lists(at, before, after)
    elif type(before) is not type(after) or before != after:
        yield {"op": "replace", "path": at, "value": after}


def _changes_of_lists(at: str, before: list[Any], after: list[Any]) -> Iterator[dict[str, Any]]:
    if len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _changes(f"{at}/{index}", old, new)
        return
    most = min(len(before), len(after))
    head = next((n for n in range(most) if not _same(before[n], after[n])), most)
    tail = next((n for n in range(most - head) if not _same(before[-1 - n], after[-1 - n])), most - head)
    for index in reversed(range(head, len(before) - tail)):
        yield {"op": "remove", "path": f"{at}/{index}"}
    for index in range(head, len(after) - tail):
        yield {"op": "add", "path": f"{at}/{index}", "value": after[index]}


def _same(one: Any, other: Any) -> bool:
    return next(_changes("", one, other), None) is None


def _below(at: str, key: str) -> str:
    return f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
