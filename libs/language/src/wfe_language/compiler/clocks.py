"""Reads `retry` and `timeout`, of a step and of the defaults."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from wfe_engine import plan

from wfe_language.compiler.reading import MISSING, Missing, Reading
from wfe_language.faults import Where

#: Attempts a step may have in all.
MOST_ATTEMPTS = 100

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,62}", re.ASCII)
_CODE_RULE = "Failure codes look like HTTP_503 or ATTEMPT_TIMEOUT."
_RETRY_KEYS = ("max_attempts", "backoff", "initial", "max", "jitter", "on", "never")
_CLOCK_KEYS = ("attempt", "queue", "heartbeat", "total")


def read_retry(reading: Reading, value: Any, where: Where, base: plan.Retry) -> plan.Retry:
    """A retry policy; what it does not say is taken from `base`."""
    mend = "Write it like {max_attempts: 3, initial: 1s, max: 1m}; max_attempts: 1 for no retry."
    given = reading.object(value, where, _RETRY_KEYS, mend=mend)
    changes = {
        "max_attempts": reading.optional(
            given, where, "max_attempts", lambda v, w: reading.integer(v, w, 1, MOST_ATTEMPTS)
        ),
        "backoff": reading.optional(
            given, where, "backoff", lambda v, w: reading.choice(v, w, ("fixed", "linear", "exponential"))
        ),
        "initial": reading.optional(given, where, "initial", lambda v, w: reading.span(v, w, least=0, most="7d")),
        "max": reading.optional(given, where, "max", lambda v, w: reading.span(v, w, least=0, most="7d")),
        "jitter": reading.optional(
            given, where, "jitter", lambda v, w: reading.choice(v, w, ("full", "equal", "none"))
        ),
        "on": reading.optional(given, where, "on", lambda v, w: _codes(reading, v, w)),
        "never": reading.optional(given, where, "never", lambda v, w: _codes(reading, v, w)),
    }
    retry = msgspec.structs.replace(base, **{k: v for k, v in changes.items() if not isinstance(v, Missing)})
    if retry.initial > retry.max:
        if changes["max"] is not MISSING:
            reading.fault(
                (*where, "max"),
                f"The longest span, {retry.max:g}s, is shorter than the initial one, {retry.initial:g}s.",
                "Make max at least as long as initial.",
            )
        else:
            # Only `initial` was said, and it is longer than what max would be otherwise: it is the longest
            # then.
            retry = msgspec.structs.replace(retry, max=retry.initial)
    both = sorted(set(retry.on or ()) & set(retry.never))
    if both:
        reading.fault(where, f"The code {both[0]} is both in on and in never.", "Remove it from one of them.")
    return retry


def _codes(reading: Reading, value: Any, where: Where) -> tuple[str, ...] | Missing:
    codes = [
        reading.name(code, (*where, at), "The failure code", _CODE, _CODE_RULE)
        for at, code in enumerate(reading.list(value, where, "Write a list of failure codes: [HTTP_503]."))
    ]
    if isinstance(value, list) and not value:
        reading.fault(where, "The list is empty.", "Remove it, or name failure codes.")
    return tuple(dict.fromkeys(code for code in codes if isinstance(code, str)))


def read_clocks(reading: Reading, value: Any, where: Where, base: plan.Clocks) -> plan.Clocks:
    """Clocks of a step; a plain span is the attempt's. What it does not say is taken from `base`."""
    if not isinstance(value, dict):
        seconds = reading.span(value, where)
        return base if isinstance(seconds, Missing) else msgspec.structs.replace(base, attempt=seconds)
    given = reading.object(value, where, _CLOCK_KEYS)
    read = {key: reading.optional(given, where, key, reading.span) for key in _CLOCK_KEYS}
    clocks = msgspec.structs.replace(base, **{k: v for k, v in read.items() if not isinstance(v, Missing)})
    if clocks.heartbeat and clocks.attempt and clocks.heartbeat > clocks.attempt and read["heartbeat"] is not MISSING:
        reading.fault(
            (*where, "heartbeat"), "The heartbeat clock is longer than the attempt clock.",
            "Make heartbeat shorter than attempt.",
        )  # fmt: skip
    if (
        clocks.total
        and clocks.attempt
        and clocks.attempt > clocks.total
        and read["total"] is not MISSING
        and read["attempt"] is not MISSING
    ):
        reading.fault(
            (*where, "total"),
            "The total clock is shorter than one attempt may take.",
            "Make total at least attempt.",
        )
    return clocks
