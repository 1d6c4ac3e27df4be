"""Reads a document and gathers what is wrong with it, so that one pass finds every fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from wfe_language.faults import MOST_FAULTS, Fault, Where, choices, path_text, suggest
from wfe_language.loader import Place, Positions
from wfe_language.spans import parse_span

_WORDS = {
    dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a whole number",
    float: "a number", type(None): "nothing (null)",
}  # fmt: skip


class Missing:
    """Type of `MISSING`."""


#: Stands for what is not in the document or was wrong there: a fault is known, go on without.
MISSING = Missing()


def kind_of(value: Any) -> str:
    """A JSON value's type, for a sentence."""
    return _WORDS.get(type(value), type(value).__name__)


class Reading:
    """A document being read.

    Attributes:
        positions: Where everything stands.
        handlers: Names `call` may use; None when they are not known.
        templates: Published templates `workflow` may run, by name: id and newest version; None when not known.
        children: Names of the templates it would run.
        callbacks: Names of the callbacks it waits for.
        callback_uses: Where it names the URL of one.
        faults: Found so far.
    """

    def __init__(
        self,
        positions: Positions,
        handlers: Collection[str] | None = None,
        templates: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        self.positions = positions
        self.handlers = handlers
        self.templates = templates
        self.children: set[str] = set()
        self.callbacks: set[str] = set()
        self.callback_uses: list[tuple[str, Where, Place]] = []
        self.faults: list[Fault] = []

    @property
    def full(self) -> bool:
        """So much is wrong already that looking for more is of no use."""
        return len(self.faults) >= MOST_FAULTS

    def fault(self, where: Where, reason: str, mend: str, *, place: Place | None = None) -> None:
        """Notes a fault in a value."""
        place = place or self.positions.value(where)
        if not self.full:
            self.faults.append(Fault(path_text(where), place.line, place.column, reason, mend))

    def key_fault(self, where: Where, reason: str, mend: str) -> None:
        """Notes a fault in a key."""
        self.fault(where, reason, mend, place=self.positions.key(where))

    def sorted(self) -> list[Fault]:
        """All faults in the order of the text, each once."""
        return sorted(dict.fromkeys(self.faults), key=lambda fault: (fault.line, fault.column))

    def object(
        self, value: Any, where: Where, known: Iterable[str], *, required: Iterable[str] = (), mend: str = ""
    ) -> dict[str, Any]:
        """An object with known keys; faults for unknown and missing ones. Empty when it is none."""
        known = tuple(known)
        if not isinstance(value, dict):
            self.fault(
                where,
                f"Here stands {kind_of(value)}, not an object.",
                mend or f"Known keys: {choices(known)}.",
            )
            return {}
        for key in value:
            if key not in known:
                self.key_fault((*where, key), f"The key {key[:60]} is not known here.", _unknown(key, known))
        for key in required:
            if key not in value:
                self.key_fault(where, f"The key {key} is missing.", f"Add `{key}:`.")
        return value

    def list(self, value: Any, where: Where, mend: str) -> list[Any]:
        """A list; empty when it is none."""
        if not isinstance(value, list):
            self.fault(where, f"Here stands {kind_of(value)}, not a list.", mend)
            return []
        return value

    def text(self, value: Any, where: Where, mend: str, *, most: int = 1000) -> str | Missing:
        """Text of at least one character, without expressions."""
        if not isinstance(value, str):
            self.fault(where, f"Here stands {kind_of(value)}, not text.", mend)
        elif not value.strip():
            self.fault(where, "The text is empty.", mend)
        elif len(value) > most:
            self.fault(where, f"The text has {len(value)} characters, more than {most}.", "Make it shorter.")
        elif "${{" in value:
            self.fault(where, "An expression cannot stand here.", "Write the value itself; it is fixed at publish.")
        else:
            return value
        return MISSING

    def name(self, value: Any, where: Where, what: str, pattern: re.Pattern[str], rule: str) -> str | Missing:
        """A name by a rule."""
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        shown = f" {value[:60]!r}" if isinstance(value, str) else ""
        self.fault(where, f"{what}{shown} is not a valid name.", rule)
        return MISSING

    def choice(self, value: Any, where: Where, known: Iterable[str]) -> str | Missing:
        """One of some words."""
        known = tuple(known)
        if isinstance(value, str) and value in known:
            return value
        shown = f"{value[:60]!r}" if isinstance(value, str) else kind_of(value).capitalize()
        near = suggest(value, known, "") if isinstance(value, str) else ""
        self.fault(where, f"{shown} is not one of {choices(known)}.", near or f"Use one of {choices(known)}.")
        return MISSING

    def boolean(self, value: Any, where: Where) -> bool | Missing:
        """True or false."""
        if isinstance(value, bool):
            return value
        self.fault(where, f"Here stands {kind_of(value)}, not true or false.", "Write true or false, without quotes.")
        return MISSING

    def integer(self, value: Any, where: Where, least: int, most: int) -> int | Missing:
        """A whole number within bounds."""
        if isinstance(value, int) and not isinstance(value, bool):
            if least <= value <= most:
                return value
            self.fault(where, f"{value} is not between {least} and {most}.", f"Use a number from {least} to {most}.")
        else:
            self.fault(where, f"Here stands {kind_of(value)}, not a whole number.", f"Use {least} to {most}.")
        return MISSING

    def span(self, value: Any, where: Where, *, least: float = 0.001, most: str = "3650d") -> float | Missing:
        """A span of time, in seconds."""
        if isinstance(value, str):
            try:
                seconds = parse_span(value)
            except ValueError as error:
                self.fault(where, f"{error}.", "Write it like 500ms, 30s, 5m, 1h30m or 7d.")
                return MISSING
            if seconds < least or seconds > parse_span(most):
                shortest = "0s" if least == 0 else f"{least:g}s"
                self.fault(where, f"The span {value[:40]} is out of bounds.", f"Use {shortest} to {most}.")
                return MISSING
            return seconds
        mend = "Write it like 500ms, 30s, 5m, 1h30m or 7d."
        if isinstance(value, int | float) and not isinstance(value, bool):
            mend = f"Say the unit: {value:g}s for seconds."
        self.fault(where, f"Here stands {kind_of(value)}, not a span of time.", mend)
        return MISSING

    def optional(self, value: dict[str, Any], where: Where, key: str, read: Callable[[Any, Where], Any]) -> Any:
        """Reads a key when it is there; MISSING when not, or when it is wrong."""
        return read(value[key], (*where, key)) if key in value else MISSING


def _unknown(key: str, known: tuple[str, ...]) -> str:
    return suggest(key, known, f"Remove it; known are {choices(known)}.")
