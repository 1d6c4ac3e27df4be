"""Evaluates expressions that are not plain paths."""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from cel_expr_python import cel
from wfe_engine import plan

from wfe_language.expressions.environment import OUTSIDE_ROOTS, NotCel, compile_cel
from wfe_language.expressions.scan import functions, references

#: Bytes of JSON an expression may give.
MOST_RESULT = 256 * 1024
#: Levels of lists and objects in what it gives.
MOST_LEVELS = 32
#: Values in what it gives.
MOST_VALUES = 50_000
#: Bounds of what may be evaluated where it would hold up others: values and characters handed to it.
CHEAP_VALUES = 200
CHEAP_CHARACTERS = 16 * 1024

_LARGEST_INTEGER = 2**53 - 1
#: Whatever loops over a list or makes more text than it was given.
_COSTLY = frozenset(
    {"all", "exists", "exists_one", "existsOne", "map", "filter", "matches", "format", "join", "replace",
     "split", "transformList", "transformMap", "transformMapEntry"}
)  # fmt: skip


class ExpressionError(Exception):
    """An expression could not be evaluated; evaluating it again gives the same.

    Attributes:
        code: EXPRESSION_ERROR.
        message: One sentence, at most 500 characters; never holds a sensitive value, as none is handed to
            CEL.
        expression: As written between the braces.
    """

    code = "EXPRESSION_ERROR"

    def __init__(self, message: str, expression: str) -> None:
        message = message[:500]
        super().__init__(f"{message} (in ${{{{ {expression.strip()[:200]} }}}})")
        self.message = message
        self.expression = expression


class CelEvaluator:
    """Compiles and evaluates expressions in this process; keeps what it compiled.

    Args:
        cache: Compiled expressions kept, the least used dropped first.
    """

    def __init__(self, cache: int = 4096) -> None:
        self._compiled = functools.lru_cache(maxsize=cache)(compile_cel)

    def evaluate(self, expression: plan.Cel, bindings: Mapping[str, Any]) -> Any:
        """What an expression gives, as JSON values.

        Moments become RFC 3339 text in UTC, spans text like `90s`. Whole numbers stay int, fractions float,
        also when they have no fraction (2.0).

        Args:
            expression: From a plan.
            bindings: Values of the roots, as JSON values: {"vars": {...}, "steps": {...}, "run": {...}}. Only
                what the expression refers to is handed to CEL.

        Raises:
            ExpressionError: It does not compile, fails (a missing key, a division by zero, operands of wrong
                types), loops too much, or gives what is not JSON or more than the limits above.
        """
        try:
            value = self._compile(expression).eval(data=project(expression, bindings))
        except NotCel as error:
            raise ExpressionError(f"It does not compile: {error}.", expression.source) from None
        except (RuntimeError, UnicodeError, TypeError, ValueError, OverflowError) as error:
            raise ExpressionError(_sentence(str(error)), expression.source) from None
        if value.type() == cel.Type.ERROR:
            raise ExpressionError(_sentence(str(value.plain_value())), expression.source)
        try:
            result = _Plain().value(value.plain_value(), 0)
            size = len(msgspec.json.encode(result))
        except (ValueError, UnicodeError, OverflowError, RuntimeError) as error:
            raise ExpressionError(f"It gives what cannot be stored: {error}.", expression.source) from None
        if size > MOST_RESULT:
            raise ExpressionError(f"It gives {size} bytes, more than {MOST_RESULT}.", expression.source)
        return result

    def _compile(self, expression: plan.Cel) -> cel.Expression:
        named = tuple(root for root, _ in expression.roots)
        return self._compiled(expression.source, named) if named in OUTSIDE_ROOTS else self._compiled(expression.source)


def outside_expression(source: str, roots: tuple[str, ...]) -> plan.Cel:
    """An expression that stands outside of templates, compiled once to see that it can be.

    Args:
        source: CEL, without braces.
        roots: One of OUTSIDE_ROOTS: the names it may begin with.

    Raises:
        ExpressionError: It does not compile.
    """
    try:
        compile_cel(source, roots)
    except NotCel as error:
        raise ExpressionError(f"It does not compile: {error}.", source) from None
    return plan.Cel(source, tuple((root, "") for root in roots))


@functools.lru_cache(maxsize=4096)
def _paths(source: str, roots: tuple[str, ...]) -> tuple[tuple[str | int, ...], ...]:
    """Static paths an expression follows, shorter ones first."""
    found = {(reference.root, *reference.parts) for reference in references(source, roots)}
    return tuple(sorted(found, key=lambda path: (len(path), repr(path))))


def narrowed(expression: plan.Cel, bindings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the bindings an expression that stands outside of templates looks at, as far as its text tells.

    Handing values to CEL costs more than most expressions do.
    """
    found: dict[Any, Any] = {}
    for path in _paths(expression.source, tuple(root for root, _ in expression.roots)):
        here: Mapping[Any, Any] = bindings
        there = found
        for depth, name in enumerate(path, 1):
            if name not in here:
                break
            inner = here[name]
            if depth == len(path) or not isinstance(inner, Mapping):
                there[name] = inner
                break
            if there.get(name) is inner:
                break  # a shorter path took all of it
            here, there = inner, there.setdefault(name, {})
    return found


def project(expression: plan.Cel, bindings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the bindings an expression refers to. Missing ones are left out; CEL then says so."""
    data: dict[str, Any] = {}
    for root, first in expression.roots:
        if root not in bindings:
            continue
        if not first:
            data[root] = bindings[root]
        elif isinstance(within := bindings[root], Mapping):
            part = data.setdefault(root, {})
            if first in within and part is not within:
                part[first] = within[first]
        else:
            data[root] = within
    return data


def is_cheap(expression: plan.Cel, bindings: Mapping[str, Any]) -> bool:
    """Whether an expression may be evaluated at once, where others wait for it: well below a millisecond.

    Not if it calls anything that loops, matches a pattern or multiplies text, and not with more than
    `CHEAP_VALUES` values or `CHEAP_CHARACTERS` characters of bindings. The others belong into an
    `ExpressionPool`.
    """
    if not _calls_cheap(expression.source):
        return False
    values, characters = CHEAP_VALUES, CHEAP_CHARACTERS
    waiting: list[Any] = [project(expression, bindings)]
    while waiting:
        value = waiting.pop()
        values -= 1
        if isinstance(value, str):
            characters -= len(value)
        elif isinstance(value, Mapping):
            if len(value) > values:
                return False
            waiting.extend(value.values())
            characters -= sum(map(len, value))
        elif isinstance(value, list):
            if len(value) > values:
                return False
            waiting.extend(value)
        if values < 0 or characters < 0:
            return False
    return True


@functools.lru_cache(maxsize=4096)
def _calls_cheap(source: str) -> bool:
    return _COSTLY.isdisjoint(functions(source))


def _sentence(message: str) -> str:
    """CEL's message without its own codes around it."""
    head, _, rest = message.partition(": ")
    if rest and head.replace("_", "").isupper():
        message = rest.removesuffix(f" [{head}]")
    if "No matching overloads found" in message:
        message = message.replace("No matching overloads found : ", "No operator or function for these types: ")
    elif message.startswith("Key not found in map : "):
        message = message.replace("Key not found in map : ", "There is no key ")
    elif index := re.fullmatch(r"Index error: index=(-?\d+) size=(\d+)", message):
        message = f"There is no position {index[1]} in a list of {index[2]}"
    elif message.startswith("Iteration budget exceeded"):
        message = "It loops more than 10,000 times"
    return message.rstrip(".")[:1].upper() + message.rstrip(".")[1:] + "."


class _Plain:
    """Turns what CEL gives into JSON values, within limits."""

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def value(self, value: Any, level: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {MOST_VALUES} values")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            if abs(value) > _LARGEST_INTEGER:
                raise ValueError(f"the integer {value}, which a JSON number cannot carry")
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError("a number that is not finite")
            return value
        if isinstance(value, datetime.datetime):
            return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
        if isinstance(value, datetime.timedelta):
            return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
        if level >= MOST_LEVELS:
            raise ValueError(f"more than {MOST_LEVELS} levels")
        if isinstance(value, list):
            return [self.value(item, level + 1) for item in value]
        if isinstance(value, dict):
            return {self._key(key): self.value(item, level + 1) for key, item in value.items()}
        raise ValueError("a value of a type JSON does not have")

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise ValueError(f"an object whose key {key!r:.40} is not text")
        return self._text(key)

    @staticmethod
    def _text(text: str) -> str:
        if "\0" in text:
            raise ValueError("text with a NUL character")
        return text
