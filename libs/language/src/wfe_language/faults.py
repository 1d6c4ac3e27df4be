"""What is wrong in a template: where, why, and what would mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import msgspec
from wfe_engine.errors import InvalidInput, Violation

#: Faults named at once; the rest would not help anybody.
MOST_FAULTS = 100

#: Where something stands in a document: keys and positions from the top down.
Where = tuple[str | int, ...]


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong in a template.

    Attributes:
        path: Where in the document: `steps[2].retry.max`; empty for the document itself.
        line: From 1; 0 when the fault has no place.
        column: From 1, in characters; 0 when the fault has no place.
        reason: What is wrong, one sentence.
        mend: What would mend it, one sentence.
    """

    path: str
    line: int
    column: int
    reason: str
    mend: str

    def __str__(self) -> str:
        place = f"{self.line}:{self.column}: " if self.line else ""
        return f"{place}{self.path + ': ' if self.path else ''}{self.reason} {self.mend}".rstrip()


class TemplateFaults(InvalidInput):
    """The template cannot be compiled; `faults` has everything that is wrong with it, in order of place."""

    default_reason = "TEMPLATE_FAULTS"

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(
            [
                Violation(f.path, f"{f.reason} {f.mend} (line {f.line}, column {f.column})" if f.line else f.reason)
                for f in self.faults
            ]
        )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant; None when nothing is near."""
    found = difflib.get_close_matches(word[:200], list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def choices(known: Iterable[str], most: int = 12) -> str:
    """Words as a list for a sentence: `a, b, c`."""
    words = list(known)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def suggest(word: str, known: Iterable[str], otherwise: str) -> str:
    """A mend for a word nobody knows."""
    near = nearest(word, known)
    return f"Did you mean {near}?" if near else otherwise


def path_text(where: Where) -> str:
    """`("steps", 2, "http", "headers", "X-A")` as `steps[2].http.headers["X-A"]`."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f'["{part[:60]}"]'
    return text
