"""Spans of time as templates write them: `30s`, `5m`, `24h`, `7d`, `1h30m`, `500ms`."""

from __future__ import annotations

import re

#: The longest span anything may have: ten years, in seconds.
LONGEST = 3650 * 86400.0

_SPAN = re.compile(
    r"(?:(?P<d>\d{1,6})d)?(?:(?P<h>\d{1,8})h)?(?:(?P<m>\d{1,10})m(?!s))?(?:(?P<s>\d{1,12})s)?(?:(?P<ms>\d{1,12})ms)?",
    re.ASCII,
)
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_span(text: str) -> float:
    """Seconds of a span.

    Units from the largest down, each at most once, whole numbers, nothing between them.

    Raises:
        ValueError: It is not a span, or longer than `LONGEST`.
    """
    match = _SPAN.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text[:40]!r} is not a span of time")
    seconds = sum(int(number) * _SECONDS[unit] for unit, number in match.groupdict().items() if number)
    if seconds > LONGEST:
        raise ValueError(f"{text[:40]!r} is longer than 3650d")
    return seconds
