"""The CEL environment all expressions are compiled in: its roots, its functions, its limits."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cel_expr_python import cel
from cel_expr_python.ext import ext_encoders, ext_math, ext_optional, ext_strings

from wfe_language.expressions.functions import declarations
from wfe_language.expressions.scan import LOCALS, ROOTS

#: Bytes of UTF-8 an expression may have.
MOST_SOURCE = 4096

_PROBLEM = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_LIMIT = re.compile(r"recursion (?:depth|limit)")

_KINDS = {
    "int": cel.Type.INT, "uint": cel.Type.UINT, "double": cel.Type.DOUBLE, "string": cel.Type.STRING,
    "bytes": cel.Type.BYTES, "list": cel.Type.LIST, "duration": cel.Type.DURATION,
    "timestamp": cel.Type.TIMESTAMP,
}  # fmt: skip
_NUMBERS = ("int int int", "uint uint uint", "double double double")
_ARITHMETIC: dict[str, tuple[str, tuple[str, ...], Callable[[Any, Any], Any]]] = {
    "+": (
        "add",
        (*_NUMBERS, "string string string", "bytes bytes bytes", "list list list",
         "duration duration duration", "timestamp duration timestamp", "duration timestamp timestamp"),
        lambda a, b: a + b,
    ),
    "-": (
        "subtract",
        (*_NUMBERS, "duration duration duration", "timestamp duration timestamp",
         "timestamp timestamp duration"),
        lambda a, b: a - b,
    ),
    "*": ("multiply", _NUMBERS, lambda a, b: a * b),
    "/": ("divide", _NUMBERS, lambda a, b: a / b),
}  # fmt: skip


class Problem(NamedTuple):
    """What the CEL compiler found: offset in the expression, or None, and its message."""

    offset: int | None
    message: str


class NotCel(ValueError):
    """An expression does not compile; `problems` says why, at most three."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


@functools.cache
def environment() -> cel.Env:
    """The one environment expressions are evaluated in; made in a tenth of a second, mostly the library's own start.

    CEL has no arithmetic between whole and fractional numbers, and JSON does not tell 2 from 2.0: whether
    `vars.amount * 1.5` works would depend on how the amount was written. So the four operators are declared
    anew, with CEL's own overloads and two more for mixed operands, which give a fraction.
    """
    return _environment({})


#: What expressions outside of templates may begin with: filters over events, filters and mappings of hooks.
OUTSIDE_ROOTS = (("event",), ("body", "headers"))


@functools.cache
def outside_environment(roots: tuple[str, ...]) -> cel.Env:
    """One with other roots than those of templates: one of `OUTSIDE_ROOTS`."""
    return _environment({}, roots)


#: Names that stand for values of a known type, by type; only to check expressions in. NUMBER is a whole number in one
#: environment and a fraction in the other.
PLACEHOLDERS = {"BOOL": "_wb", "STRING": "_ws", "INT": "_wi", "NUMBER": "_wn", "LIST": "_wl", "MAP": "_wm"}


@functools.cache
def typed_environment(number: str) -> cel.Env:
    """One that knows `PLACEHOLDERS`, with NUMBER as DOUBLE or INT."""
    kinds = {
        "BOOL": cel.Type.BOOL, "STRING": cel.Type.STRING, "INT": cel.Type.INT,
        "NUMBER": cel.Type.DOUBLE if number == "DOUBLE" else cel.Type.INT,
        "LIST": cel.Type.List(cel.Type.DYN), "MAP": cel.Type.Map(cel.Type.DYN, cel.Type.DYN),
    }  # fmt: skip
    return _environment({PLACEHOLDERS[kind]: known for kind, known in kinds.items()})


def _environment(types: Mapping[str, cel.Type], roots: tuple[str, ...] = ROOTS + LOCALS) -> cel.Env:
    excluded = "".join(f'    - name: "_{sign}_"\n' for sign in _ARITHMETIC)
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(f"name: wfe\nstdlib:\n  exclude_functions:\n{excluded}"),
        variables={**dict.fromkeys(roots, cel.Type.DYN), **types},
        functions=_functions(),
        extensions=[
            ext_strings.ExtStrings(),
            ext_encoders.ExtEncoders(),
            ext_math.ExtMath(),
            ext_optional.ExtOptional(),
        ],
    )


@functools.cache
def _functions() -> list[cel.FunctionDecl]:
    return [*(_operator(sign, *rest) for sign, rest in _ARITHMETIC.items()), *declarations()]


def _operator(sign: str, word: str, kinds: tuple[str, ...], mixed: Callable[[Any, Any], Any]) -> cel.FunctionDecl:
    overloads = []
    for signature in kinds:
        left, right, result = signature.split()
        overloads.append(cel.Overload(f"{word}_{left}_{right}", _KINDS[result], [_KINDS[left], _KINDS[right]], False))
    for left, right in (("int", "double"), ("double", "int")):
        parameters = [_KINDS[left], _KINDS[right]]
        overloads.append(cel.Overload(f"{word}_{left}_{right}", cel.Type.DOUBLE, parameters, False, mixed))
    return cel.FunctionDecl(f"_{sign}_", overloads)


def compile_cel(source: str, env: cel.Env | None = None) -> cel.Expression:
    """Compiles and type-checks; bounded by `MOST_SOURCE` bytes, and by the library to 32 levels.

    Args:
        env: Where; None for the one expressions are evaluated in.

    Raises:
        NotCel: It is too long or does not compile.
    """
    if len(source) > MOST_SOURCE or len(source.encode(errors="replace")) > MOST_SOURCE:
        raise NotCel([Problem(None, f"it is longer than {MOST_SOURCE} bytes")])
    try:
        return (env or environment()).compile(source)
    except (RuntimeError, UnicodeError) as error:
        raise NotCel(_problems(source, str(error))) from None


def _problems(source: str, text: str) -> list[Problem]:
    if _LIMIT.search(text):
        return [Problem(None, "it is nested more than 32 levels deep, or chains more than 32 operators")]
    found = []
    for match in _PROBLEM.finditer(text):
        line, column = int(match[1]), int(match[2])
        lines = source.split("\n")
        offset = sum(len(each) + 1 for each in lines[: line - 1]) + column - 1 if 0 < line <= len(lines) else None
        found.append(Problem(offset, _readable(match[3])))
    return found[:3] or [Problem(None, _readable(text.split("\n")[0]))]


_OVERLOAD = re.compile(r"found no matching overload for '(.+)' applied to '(.*)'")
_TYPE_WORDS = {
    "int": "a whole number", "uint": "a whole number", "double": "a number", "string": "text", "bool": "true or false",
    "null_type": "null", "bytes": "bytes", "dyn": "a value", "duration": "a span", "timestamp": "a moment",
}  # fmt: skip


def type_words(kind: str) -> str:
    """A CEL type for a sentence: `list(dyn)` as "a list"."""
    head = re.split(r"[(<]", kind.strip())[0]
    return _TYPE_WORDS.get(head, {"list": "a list", "map": "an object", "optional_type": "an optional"}.get(head, kind))


def _readable(message: str) -> str:
    message = (
        message.removesuffix(" [INVALID_ARGUMENT]")
        .replace(" (in container '')", "")
        .replace("'<EOF>'", "the end")
        .replace("<EOF>", "the end")
    )
    if overload := _OVERLOAD.search(message):
        return _mismatch(overload[1], overload[2])
    message = re.sub(r" expecting \{.*", "", message)
    return message[:300].strip()


def _mismatch(name: str, operands: str) -> str:
    """`'_+_' applied to '(int, string)'` as "+ does not work on a whole number and text"."""
    method = re.fullmatch(r"(.+)\.\((.*)\)", operands)
    inner = f"{method[1]}, {method[2]}".strip(", ") if method else operands.strip("()")
    depth, words, word = 0, [], ""
    for mark in inner:
        depth += (mark in "(<") - (mark in ")>")
        if mark == "," and not depth:
            words.append(word)
            word = ""
        else:
            word += mark
    words = [type_words(each) for each in [*words, word] if each.strip()]
    sign = name.replace("_", "") if name.startswith(("_", "!", "-", "@")) else f"{name}()"
    sign = {"@in": "in", "[]": "an index in [ ]", "?:": "a condition ? :"}.get(sign, sign)
    return f"{sign} does not work on {' and '.join(words) or 'nothing'}"[:300]
