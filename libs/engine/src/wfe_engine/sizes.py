"""How large and how deep values may be. What a template puts together of others is measured before it is written.

Everything that is on record fits, so only what holds several values, or a value inside of another, can outgrow.
"""

from __future__ import annotations

import re

from wfe_engine.state import Fault

#: Bytes of JSON a value may have.
MOST_BYTES = 16 * 1024 * 1024
#: What blocks give is counted as they end, once one of them gives so much.
LARGE_BYTES = 64 * 1024
#: Levels of lists and objects. What comes from outside has 32 at most; steps put it into something else.
MOST_LEVELS = 64

INPUT_TOO_LARGE, OUTPUT_TOO_LARGE, VALUE_TOO_DEEP = "INPUT_TOO_LARGE", "OUTPUT_TOO_LARGE", "VALUE_TOO_DEEP"

TOO_LARGE = (
    f"the value has more than {MOST_BYTES} bytes as JSON; keep large values elsewhere and pass on where they are"
)
TOO_DEEP = f"the value has more than {MOST_LEVELS} levels of lists and objects"

_TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = bytes.maketrans(b"[]", b"{}")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def too_deep(data: bytes) -> bool:
    """Whether JSON bytes have more than MOST_LEVELS levels."""
    if data.count(b"{") + data.count(b"[") <= MOST_LEVELS:
        return False
    left = _TEXTS.sub(b"", data).translate(_BRACKETS, _OTHERS)
    for _ in range(MOST_LEVELS):
        left = left.replace(b"{}", b"")
        if not left:
            return False
    return True


def unfit(data: bytes, path: str) -> Fault | None:
    """Why JSON bytes are not kept as what a step gives; None for those that are."""
    if len(data) > MOST_BYTES:
        return too_large(OUTPUT_TOO_LARGE, path)
    return Fault(code=VALUE_TOO_DEEP, message=TOO_DEEP, step=path) if too_deep(data) else None


def too_large(code: str, path: str) -> Fault:
    """What a step fails with that is given, or gives, more than MOST_BYTES."""
    return Fault(code=code, message=TOO_LARGE, step=path, details={"limit": MOST_BYTES})
