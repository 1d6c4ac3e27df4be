"""Finds expressions in text, and the names expressions refer to, without evaluating anything."""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from wfe_engine import plan

#: Names an expression can begin with.
ROOTS = ("vars", "steps", "run", "secrets")
#: Names that mean something inside of steps with blocks.
LOCALS = ("item", "index", "error", "revision")

_STRING = (
    r"(?:[bB]?[rR]|[rR][bB])(?:\"\"\".*?\"\"\"|'''.*?'''|\"[^\"\n]*\"|'[^'\n]*')"
    r"|[bB]?(?:\"\"\"(?:\\.|.)*?\"\"\"|'''(?:\\.|.)*?'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
)
_TOKEN = re.compile(
    rf"(?P<string>{_STRING})|(?P<comment>//[^\n]*)|(?P<space>\s+)|(?P<number>\d[\w.]*)|(?P<name>[A-Za-z_]\w*)|(?P<mark>.)",
    re.DOTALL | re.ASCII,
)
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PATH = re.compile(
    rf"({'|'.join(ROOTS + LOCALS)})"
    rf"((?:\s*\.\s*{_NAME}|\s*\[\s*(?:\d{{1,9}}|\"[^\"\\]*\"|'[^'\\]*')\s*\])*)",
    re.ASCII,
)
_PART = re.compile(rf"\.\s*({_NAME})|\[\s*(?:(\d+)|\"([^\"]*)\"|'([^']*)')\s*\]", re.ASCII)


class Hole(NamedTuple):
    """An expression in a text: what stands between the braces, and the offset where that begins."""

    source: str
    offset: int


class Reference(NamedTuple):
    """A name an expression refers to.

    Attributes:
        root: vars, steps, run, secrets, item, index, error or revision.
        parts: What is known of the path below it without evaluating.
        offset: Where it begins in the expression.
        ends: Offsets behind those of the parts, from the first on, that stand there as a plain path.
    """

    root: str
    parts: tuple[str | int, ...]
    offset: int
    ends: tuple[int, ...] = ()


class Unclosed(ValueError):
    """A text has `${{` without its `}}`; `offset` is where."""

    def __init__(self, offset: int) -> None:
        super().__init__("${{ without }}")
        self.offset = offset


def split(text: str) -> list[str | Hole]:
    """The parts of a text: plain text, and expressions. `$${{` is a plain `${{`.

    Raises:
        Unclosed: An expression does not end.
    """
    parts: list[str | Hole] = []
    plain = ""
    at = 0
    while (start := text.find("${{", at)) >= 0:
        if start > at and text[start - 1] == "$":
            plain += text[at : start - 1] + "${{"
            at = start + 3
            continue
        plain += text[at:start]
        if plain:
            parts.append(plain)
            plain = ""
        end = _end(text, start + 3)
        if end < 0:
            raise Unclosed(start)
        parts.append(Hole(text[start + 3 : end], start + 3))
        at = end + 2
    plain += text[at:]
    if plain:
        parts.append(plain)
    return parts


def _end(text: str, at: int) -> int:
    """Offset of the `}}` that closes an expression: not one inside a string or a map; -1 without."""
    depth = 0
    while match := _TOKEN.match(text, at):
        if match.lastgroup == "mark":
            if match[0] == "{":
                depth += 1
            elif match[0] == "}":
                if depth == 0:
                    return at if text.startswith("}}", at) else -1
                depth -= 1
        elif match.lastgroup == "comment":
            # A comment would run over the closing braces.
            close = match[0].find("}}")
            if close >= 0 and depth == 0:
                return at + close
        at = match.end()
    return -1


def parse_path(source: str) -> plan.Path | None:
    """The plain path an expression is; None when it is anything else."""
    source = source.strip()
    match = _PATH.fullmatch(source)
    if match is None:
        return None
    parts = tuple(
        int(part[2]) if part[2] is not None else str(next(text for text in part.group(1, 3, 4) if text is not None))
        for part in _PART.finditer(match[2])
    )
    return plan.Path(match[1], parts, source)


def references(source: str, named: tuple[str, ...] | None = None) -> list[Reference]:
    """Every root an expression names, with the static path below it; the roots of templates unless others are named.

    Errs on the side of naming too much: a comprehension's variable that is called vars, steps or run counts
    as the root; one that is called item, index, error or revision
    does not.
    """
    tokens = [t for t in _TOKEN.finditer(source) if t.lastgroup not in ("space", "comment")]
    bound = {
        name[0] for call, name, comma in zip(tokens, tokens[1:], tokens[2:], strict=False) if call[0] + comma[0] == "(,"
    }
    roots = {*ROOTS, *(set(LOCALS) - bound)} if named is None else set(named)
    found: list[Reference] = []
    for at, token in enumerate(tokens):
        if token.lastgroup != "name" or token[0] not in roots:
            continue
        if at and tokens[at - 1][0] == "." and at > 1 and _operand(tokens[at - 2]):
            continue  # a field of something else that is called like a root
        parts, ends = _below(tokens, at + 1)
        # What has() is asked of must stay a path, and a name that a comprehension gives is something else.
        plain = token[0] not in bound and [t[0] for t in tokens[max(0, at - 2) : at]] != ["has", "("]
        found.append(Reference(token[0], parts, token.start(), ends if plain else ()))
    return found


def functions(source: str) -> set[str]:
    """Names of everything an expression calls, methods and macros included."""
    tokens = [t for t in _TOKEN.finditer(source) if t.lastgroup not in ("space", "comment")]
    pairs = itertools.pairwise(tokens)
    return {token[0] for token, after in pairs if token.lastgroup == "name" and after[0] == "("}


def _operand(token: re.Match[str]) -> bool:
    return token.lastgroup in ("name", "string", "number") or token[0] in ")]}`"


def _below(tokens: list[re.Match[str]], at: int) -> tuple[tuple[str | int, ...], tuple[int, ...]]:
    parts: list[str | int] = []
    ends: list[int] = []
    sure = True
    while at < len(tokens):
        # `.?name` and `[?0]` are the same path, of values that may not be there.
        optional = at + 1 < len(tokens) and tokens[at + 1][0] == "?"
        sure = sure and not optional
        inner = tokens[at + 1 + optional : at + 3 + optional]
        if tokens[at][0] == "." and inner and inner[0].lastgroup == "name":
            if len(inner) > 1 and inner[1][0] == "(":
                break  # a method
            parts.append(inner[0][0])
            ends += [inner[0].end()] if sure else []
            at += 2 + optional
        elif tokens[at][0] == "[" and len(inner) == 2 and inner[1][0] == "]" and (key := _key(inner[0])) is not None:
            parts.append(key)
            ends += [inner[1].end()] if sure else []
            at += 3 + optional
        else:
            break
    return tuple(parts), tuple(ends)


def _key(token: re.Match[str]) -> str | int | None:
    text = token[0]
    if token.lastgroup == "number" and text.isdigit():
        return int(text) if len(text) < 10 else None
    if token.lastgroup == "string" and text[0] in "\"'" and not text.startswith(('"""', "'''")) and "\\" not in text:
        return text[1:-1]
    return None
