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
from wfe_engine.values import SEALED

from wfe_language.expressions.environment import OUTSIDE_ROOTS, NotCel, compile_cel, outside_environment
from wfe_language.expressions.functions import CHEAP, OWN
from wfe_language.expressions.scan import functions, references

#: Bytes of JSON an expression may give.
MOST_RESULT = 256 * 1024
#: Levels of lists and objects in what it gives.
MOST_LEVELS = 32
#: Values in what it gives.
MOST_VALUES = 50_000
#: Bounds of what may be evaluated where it would hold up others: bytes of source, values and characters handed to it,
#: and those times the number of references, which is what it could give.
CHEAP_SOURCE = 1000
CHEAP_VALUES, CHEAP_VALUES_USED = 200, 2000
CHEAP_CHARACTERS, CHEAP_CHARACTERS_USED = 16 * 1024, 128 * 1024

_LARGEST_INTEGER = 2**53 - 1


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
            raise _failed(str(error), expression, bindings) from None
        try:
            plain = value.plain_value()
        except TypeError:
            raise ExpressionError("It gives an optional; end it with .orValue(...).", expression.source) from None
        if value.type() == cel.Type.ERROR:
            raise _failed(str(plain), expression, bindings)
        try:
            result = _Plain().value(plain, 0)
            size = len(msgspec.json.encode(result))
        except (ValueError, UnicodeError, OverflowError, RuntimeError) as error:
            raise _failed(f"it gives what cannot be stored: {error}", expression, bindings) from None
        if size > MOST_RESULT:
            raise _failed(f"it gives {size} bytes, more than {MOST_RESULT}", expression, bindings)
        return result

    def _compile(self, expression: plan.Cel) -> cel.Expression:
        roots = _outside(expression)
        return self._compiled(expression.source, None if roots is None else outside_environment(roots))


def _outside(expression: plan.Cel) -> tuple[str, ...] | None:
    """Roots of an expression that stands outside of templates; None for one of a template."""
    named = tuple(root for root, _ in expression.roots)
    return named if named in OUTSIDE_ROOTS else None


def outside_expression(source: str, roots: tuple[str, ...]) -> plan.Cel:
    """An expression that stands outside of templates, compiled once to see that it can be.

    Args:
        source: CEL, without braces.
        roots: One of OUTSIDE_ROOTS: the names it may begin with.

    Raises:
        ExpressionError: It does not compile.
    """
    try:
        compile_cel(source, outside_environment(roots))
    except NotCel as error:
        raise ExpressionError(f"It does not compile: {error}.", source) from None
    return plan.Cel(source, tuple((root, "") for root in roots))


@functools.lru_cache(maxsize=4096)
def _paths(source: str, roots: tuple[str, ...]) -> tuple[tuple[str | int, ...], ...]:
    """Static paths an expression follows, shorter ones first."""
    found = {(reference.root, *reference.parts) for reference in references(source, roots)}
    return tuple(sorted(found, key=lambda path: (len(path), repr(path))))


def narrowed(expression: plan.Cel, bindings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the bindings an expression looks at, as far as its text tells.

    Handing values to CEL costs more than most expressions do. What is left does not show what is missing in it: see
    `met_in`.
    """
    found: dict[Any, Any] = {}
    for path in _paths(expression.source, tuple(dict.fromkeys(root for root, _ in expression.roots))):
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


def met_in(message: str, expression: plan.Cel, bindings: Mapping[str, Any]) -> str:
    """The message of an expression that failed with narrowed bindings, with the values as they are."""
    begin, here, _ = message.partition(" Here ")
    return (begin + _met(expression, bindings))[:500] if here else message


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

    Not if it is long, or calls anything but `functions.CHEAP`, and not with more bindings than the bounds above. The
    others belong into an `ExpressionPool`.
    """
    uses = _uses(expression.source, _outside(expression))
    if not uses:
        return False
    values = min(CHEAP_VALUES, CHEAP_VALUES_USED // uses)
    characters = min(CHEAP_CHARACTERS, CHEAP_CHARACTERS_USED // uses)
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
def _uses(source: str, roots: tuple[str, ...] | None) -> int:
    """How often an expression refers to something, at least 1; 0 when it is not cheap whatever it is given."""
    if len(source) > CHEAP_SOURCE or not functions(source) <= CHEAP:
        return 0
    return max(1, len(references(source, roots)))


#: Values named in an error, and characters of each.
MOST_SHOWN, MOST_SHOWN_LENGTH = 3, 80


def _failed(message: str, expression: plan.Cel, bindings: Mapping[str, Any]) -> ExpressionError:
    """What went wrong, and with which values."""
    return ExpressionError(_sentence(message) + _met(expression, bindings), expression.source)


def _met(expression: plan.Cel, bindings: Mapping[str, Any]) -> str:
    """The values an expression refers to, as a sentence: " Here vars.n is 3."; empty when it refers to none."""
    shown: dict[str, str] = {}
    for reference in references(expression.source, _outside(expression)):
        name, value = reference.root, bindings.get(reference.root)
        for part in reference.parts:
            if isinstance(value, Mapping) and part in value:
                name, value = f"{name}.{part}", value[part]
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                name, value = f"{name}[{part}]", value[part]
            else:
                break
        # A root as a whole says nothing about what is missing in it.
        if "." in name or name not in ("vars", "steps", "run", "event", "body", "headers"):
            shown[name] = _short(value)
        if len(shown) == MOST_SHOWN:
            break
    return f" Here {', '.join(f'{name} is {text}' for name, text in shown.items())}." if shown else ""


def _short(value: Any) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, UnicodeError):
        return "no JSON"
    return text if len(text) <= MOST_SHOWN_LENGTH else text[: MOST_SHOWN_LENGTH - 3] + "..."


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
    message = message.rstrip(".")
    begin = message.partition(" ")[0]
    return (message if begin in OWN else message[:1].upper() + message[1:]) + "."


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
            # CEL's objects are in no order; the same expression gives the same bytes in every process.
            return dict(sorted((self._key(key), self.value(item, level + 1)) for key, item in value.items()))
        raise ValueError("a value of a type JSON does not have")

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise ValueError(f"an object whose key {key!r:.40} is not text")
        if key.startswith((SEALED, "$blob")):
            raise ValueError(f"an object with the key {key[:40]}, which belongs to the engine")
        return self._text(key)

    @staticmethod
    def _text(text: str) -> str:
        if "\0" in text:
            raise ValueError("text with a NUL character")
        return text
