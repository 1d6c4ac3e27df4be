"""Which values a step may give back: JSON that every part of the engine can carry unchanged."""

from __future__ import annotations

import math
from typing import Any

#: Largest integer that JSON readers with doubles do not round.
MAX_INTEGER = 2**53 - 1

#: Arrays and objects may be nested this deep.
MAX_DEPTH = 32

#: Keys that begin like this belong to the engine.
RESERVED_KEYS = ("$sealed", "$blob")


def fault_in(value: Any) -> str | None:
    """What keeps a value from being stored, as one sentence that names the place; None when it is fine.

    Refused: anything but None, bool, int, float, str, list, tuple and dict with text keys (of containers also
    subclasses, e.g. Counter); NaN and infinity; integers beyond ±(2^53−1); NUL characters and lone
    surrogates; more than 32 levels; keys that begin with "$sealed" or "$blob". Never raises and always ends, also for
    values that contain themselves.
    """
    found = _search(value, 0)
    if found is None:
        return None
    place, why = found
    return f"output{''.join(reversed(place))[:500]} {why}"


def _search(value: Any, depth: int) -> tuple[list[str], str] | None:
    """The first fault: its place (innermost part first) and what it is."""
    kind = type(value)
    if kind is str:
        why = _text_fault(value)
    elif value is None or kind is bool:
        why = None
    elif kind is int:
        why = None if -MAX_INTEGER <= value <= MAX_INTEGER else _BIG_INTEGER
    elif kind is float:
        why = None if math.isfinite(value) else f"is {value}, which JSON does not have"
    elif isinstance(value, dict | list | tuple):
        if depth >= MAX_DEPTH:
            why = f"is nested deeper than {MAX_DEPTH} levels"
        else:
            inner = depth + 1
            return _search_object(value, inner) if isinstance(value, dict) else _search_array(value, inner)
    else:
        why = _kind_fault(value)
    return None if why is None else ([], why)


def _search_object(value: dict[Any, Any], depth: int) -> tuple[list[str], str] | None:
    for key, item in value.items():
        if type(key) is not str:
            return [], f"has a key that is {_a(key)}; keys must be text"
        if key[:1] == "$" and key.startswith(RESERVED_KEYS):
            return [], f'has the key "{key[:40]}", which is reserved'
        why = _text_fault(key)
        if why is not None:
            return [], f"has a key that {why}"
        found = _search(item, depth)
        if found is not None:
            found[0].append(f".{key[:100]}")
            return found
    return None


def _search_array(value: list[Any] | tuple[Any, ...], depth: int) -> tuple[list[str], str] | None:
    for index, item in enumerate(value):
        found = _search(item, depth)
        if found is not None:
            found[0].append(f"[{index}]")
            return found
    return None


_BIG_INTEGER = "is an integer beyond ±(2^53−1), which JSON readers round; make it text"


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair, which is not Unicode text"
    return None


def _kind_fault(value: Any) -> str:
    if hasattr(value, "__await__"):
        return "is a coroutine that was not awaited; declare the handler with async def"
    return f"is {_a(value)}, which is not JSON"


def _a(value: Any) -> str:
    name = type(value).__name__[:100]
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
