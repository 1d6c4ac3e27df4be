"""From text to plain values, and where each of them stands.

The loader reads the parser's events itself instead of letting the YAML library build values: so nothing is
built from tags or aliases, duplicate keys are seen, scalars follow YAML 1.2's core schema (yes, on and dates
are text), and every value has a line and a column. JSON is read as the YAML it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from wfe_language.faults import MOST_FAULTS, Fault, TemplateFaults, Where, path_text

#: Bytes of UTF-8 a template may have.
MOST_BYTES = 256 * 1024
#: Levels of lists and objects in each other: sixteen steps in each other, five levels each, and a value in the last.
MOST_LEVELS = 128
#: Largest integer a JSON double carries without rounding.
LARGEST_INTEGER = 2**53 - 1

# The C parser is twenty times faster; both give the same events.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
# YAML's words, and those of JSON writers that go beyond JSON.
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|NaN|-?Infinity", re.ASCII)
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


class Place(NamedTuple):
    """Where a value or key begins and ends: line and column from 1, offsets in characters of the source."""

    line: int
    column: int
    start: int
    end: int


@dataclass(slots=True)
class Positions:
    """Places of everything in a document.

    Attributes:
        source: The text as it was read.
        values: Place of each value.
        keys: Place of each key of an object, by the path of its value.
    """

    source: str
    values: dict[Where, Place] = field(default_factory=dict)
    keys: dict[Where, Place] = field(default_factory=dict)

    def value(self, where: Where) -> Place:
        """Place of a value, or of the nearest thing around it that has one."""
        while where not in self.values and where:
            where = where[:-1]
        return self.values.get(where, Place(1, 1, 0, 0))

    def key(self, where: Where) -> Place:
        """Place of the key of a value, or of the value when it has no key."""
        return self.keys.get(where) or self.value(where)

    def inside(self, where: Where, text: str, offset: int) -> Place:
        """Place of an offset inside `text`, which stands in the value at `where`.

        Where escapes or folding changed the text, the place of the value is as near as it gets.
        """
        place = self.value(where)
        at = self.source.find(text, place.start, max(place.end, place.start))
        if at < 0:  # block text has other indentation here than there: look for the one line
            begin = text.rfind("\n", 0, offset) + 1
            line, offset = text[begin:].partition("\n")[0], offset - begin
            at = self.source.find(line, place.start, max(place.end, place.start))
        if at < 0:
            return place
        at += offset
        line_start = self.source.rfind("\n", 0, at) + 1
        return Place(self.source.count("\n", 0, at) + 1, at - line_start + 1, at, at)


def load(source: str | bytes) -> tuple[Any, Positions]:
    """Reads a template's text: YAML 1.2 or JSON.

    Returns:
        The document as dict, list, str, int, float, bool and None, and the place of everything in it.

    Raises:
        TemplateFaults: It cannot be read, or holds what the language refuses everywhere: duplicate keys,
            anchors, aliases, tags, keys that are not text, more than `MOST_LEVELS` levels or `MOST_BYTES`
            bytes, NUL, integers a JSON number cannot carry, NaN and infinities.
    """
    text = _text(source)
    reader = _Reader(text)
    try:
        document = reader.document()
    except yaml.YAMLError as error:
        reader.faults.append(_syntax(error, text))
        document = None
    except _Stop:
        document = None
    if reader.faults:
        raise TemplateFaults(reader.faults)
    return document, reader.positions


def _text(source: str | bytes) -> str:
    if len(source) > MOST_BYTES:
        raise TemplateFaults([_too_large(len(source))])
    try:
        raw = source if isinstance(source, bytes) else source.encode()
        text = raw.decode().removeprefix("\ufeff")
    except UnicodeError:
        raise TemplateFaults([Fault("", 0, 0, "The text is not UTF-8.", "Save the file as UTF-8.")]) from None
    if len(raw) > MOST_BYTES:
        raise TemplateFaults([_too_large(len(raw))])
    if "\0" in text:
        at = text.index("\0")
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        raise TemplateFaults([Fault("", line, column, "The text holds a NUL character.", "Remove it.")])
    if text.lstrip().startswith("{"):
        # JSON writes characters beyond the basic plane as two escapes, which YAML does not know.
        text = _SURROGATES.sub(lambda m: m[1] + bytes.fromhex(m[2] + m[3]).decode("utf-16-be"), text)
    return text


def _too_large(size: int) -> Fault:
    return Fault(
        "", 0, 0, f"The template has {size} bytes, more than {MOST_BYTES}.",
        "Move large texts into variables or handlers.",
    )  # fmt: skip


def _syntax(error: yaml.YAMLError, text: str) -> Fault:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split("\n")[0]
    context = getattr(error, "context", None)
    mend = "Check the indentation and quotes here."
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        mend = "Indent with spaces, not tabs."
    elif "cannot start any token" in problem:
        mend = "Put text that begins with this character in quotes."
    elif "mapping values are not allowed" in problem:
        mend = "Put text that holds a colon in quotes, or check the indentation."
    elif "flow" in f"{context}":
        mend = 'Close every bracket, and put text that holds ${{ }} in quotes: "${{ vars.x }}".'
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    return Fault("", line, column, f"Not valid YAML: {f'{context}, ' if context else ''}{problem}.", mend)


class _Stop(Exception):
    """Nothing after this can be read sensibly."""


class _Reader:
    """Builds values from the parser's events; gathers faults."""

    def __init__(self, text: str) -> None:
        self.positions = Positions(text)
        self.faults: list[Fault] = []
        # The parser is of YAML 1.1, where these three break lines; in 1.2 and JSON they are characters like others.
        # Characters for private use that the text does not have stand for them meanwhile.
        breaks = [c for c in "\x85\u2028\u2029" if c in text]
        spare = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
        hidden = dict(zip(breaks, spare, strict=False))
        self._restored = {ord(spare): c for c, spare in hidden.items()}
        text = text.translate({ord(c): spare for c, spare in hidden.items()})
        # Not yaml.parse: the same events, without a generator and a look ahead for each of them.
        self._event: Callable[[], Any] = _PARSER(text).get_event

    def document(self) -> Any:
        """The one document of the text."""
        value: Any = None
        documents = 0
        while (event := self._event()) is not None:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fault((), event, "The text holds more than one document.", "Keep one; remove the `---`.")
                    raise _Stop
                value = self._value((), self._event(), 0)
        if not documents:
            self.faults.append(Fault("", 1, 1, "The template is empty.", "Give it a name and steps."))
        return value

    def _value(self, where: Where, event: Any, level: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            self._fault(where, event, "Aliases (*name) are not part of the language.", "Write the value out.")
            return None
        if event.anchor:
            self._fault(where, event, "Anchors (&name) are not part of the language.", "Remove the anchor.")
        if event.tag is not None:
            self._fault(where, event, f"Tags ({_tag(event.tag)}) are not part of the language.", "Remove the tag.")
        if isinstance(event, yaml.ScalarEvent):
            self.positions.values[where] = _place(event)
            return self._text(where, event) if event.style else self._plain(where, event)
        if level >= MOST_LEVELS:
            self._fault(
                where,
                event,
                f"Lists and objects are more than {MOST_LEVELS} levels deep.",
                "Make the value flatter.",
            )
            raise _Stop
        self.positions.values[where] = _place(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := self._event(), yaml.SequenceEndEvent):
                items.append(self._value((*where, len(items)), event, level + 1))
            return items
        return self._object(where, level)

    def _object(self, where: Where, level: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := self._event(), yaml.MappingEndEvent):
            key = self._key(where, event)
            inner = (*where, key)
            if key in entries:
                first = self.positions.keys[inner].line
                self._fault(
                    inner,
                    event,
                    f"The key {key[:60]} is there twice.",
                    f"Remove one; the other is on line {first}.",
                )
                self._value((*where, f"{key} (again)"), self._event(), level + 1)
                continue
            entries[key] = None  # before its value is read, so that the order is the text's
            self.positions.keys[inner] = _place(event)
            entries[key] = self._value(inner, self._event(), level + 1)
        return entries

    def _key(self, where: Where, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._fault(where, event, "A key of an object is not text.", "Use a name; text with ${{ }} needs quotes.")
            raise _Stop
        if event.anchor or event.tag is not None:
            self._fault(where, event, "A key has an anchor or tag.", "Remove it.")
        if not event.style and not isinstance(_scalar(event.value), str):
            self._fault(
                where,
                event,
                f"The key {event.value[:60] or 'of nothing'} is not text.",
                f'Write "{event.value[:60]}" in quotes.',
            )
        return self._text(where, event)

    def _text(self, where: Where, event: Any) -> str:
        if "\0" in event.value:
            self._fault(where, event, "The text holds a NUL character.", "Remove it; no store carries it.")
        return self._restore(event.value)

    def _restore(self, text: str) -> str:
        return text.translate(self._restored) if self._restored else text

    def _plain(self, where: Where, event: Any) -> Any:
        value = _scalar(self._restore(event.value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            if isinstance(value, float) and not math.isfinite(value):
                self._fault(
                    where,
                    event,
                    f"{event.value[:40]} is not a finite number.",
                    "Use a number JSON can carry.",
                )
                return None
            if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
                self._fault(
                    where, event, f"{event.value[:40]} is beyond the integers a JSON number carries exactly.",
                    "Write it as text, in quotes.",
                )  # fmt: skip
                return None
        return value

    def _fault(self, where: Where, event: Any, reason: str, mend: str) -> None:
        mark = event.start_mark
        self.faults.append(Fault(path_text(where), mark.line + 1, mark.column + 1, reason, mend))
        if len(self.faults) >= MOST_FAULTS:
            raise _Stop


def _place(event: Any) -> Place:
    start = event.start_mark
    return Place(start.line + 1, start.column + 1, start.index, event.end_mark.index)


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:40]


def _scalar(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789NI":
        return text
    if _INTEGER.fullmatch(text):
        # Longer ones are out of bounds anyway, and turning them into integers takes quadratic time.
        return int(text) if len(text) <= 40 else LARGEST_INTEGER + 1
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0) if len(text) <= 40 else LARGEST_INTEGER + 1
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return math.nan
    return text
