"""The CEL environment all expressions are compiled in: its roots, its functions, its limits."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from wfe_language.expressions.scan import LATER_ROOTS, ROOTS

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


#: What expressions outside of templates may begin with: filters over events, filters and mappings of hooks.
OUTSIDE_ROOTS = (("event",), ("body", "headers"))


@functools.cache
def environment(roots: tuple[str, ...] = ROOTS + LATER_ROOTS) -> cel.Env:
    """The environment of templates, or of other roots. The first takes a tenth of a second, mostly the library's start.

    CEL has no arithmetic between whole and fractional numbers, and JSON does not tell 2 from 2.0: whether
    `vars.amount * 1.5` works would depend on how the amount was written. So the four operators are declared
    anew, with CEL's own overloads and two more for mixed operands, which give a fraction.
    """
    excluded = "".join(f'    - name: "_{sign}_"\n' for sign in _ARITHMETIC)
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(f"name: wfe\nstdlib:\n  exclude_functions:\n{excluded}"),
        variables=dict.fromkeys(roots, cel.Type.DYN),
        functions=[_operator(sign, *rest) for sign, rest in _ARITHMETIC.items()],
        extensions=[ext_strings.ExtStrings()],
    )


def _operator(sign: str, word: str, kinds: tuple[str, ...], mixed: Callable[[Any, Any], Any]) -> cel.FunctionDecl:
    overloads = []
    for signature in kinds:
        left, right, result = signature.split()
        overloads.append(cel.Overload(f"{word}_{left}_{right}", _KINDS[result], [_KINDS[left], _KINDS[right]], False))
    for left, right in (("int", "double"), ("double", "int")):
        parameters = [_KINDS[left], _KINDS[right]]
        overloads.append(cel.Overload(f"{word}_{left}_{right}", cel.Type.DOUBLE, parameters, False, mixed))
    return cel.FunctionDecl(f"_{sign}_", overloads)


def compile_cel(source: str, roots: tuple[str, ...] = ROOTS + LATER_ROOTS) -> cel.Expression:
    """Compiles and type-checks; bounded by `MOST_SOURCE` bytes, and by the library to 32 levels.

    Args:
        source: The expression.
        roots: Names it may begin with; those of templates unless said otherwise.

    Raises:
        NotCel: It is too long or does not compile.
    """
    if len(source) > MOST_SOURCE or len(source.encode(errors="replace")) > MOST_SOURCE:
        raise NotCel([Problem(None, f"it is longer than {MOST_SOURCE} bytes")])
    try:
        return environment(roots).compile(source)
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


def _readable(message: str) -> str:
    message = (
        message.removesuffix(" [INVALID_ARGUMENT]")
        .replace(" (in container '')", "")
        .replace("'<EOF>'", "the end")
        .replace("<EOF>", "the end")
    )
    message = re.sub(r" expecting \{.*", "", message)
    return message[:300].strip()
