"""What is known at publish of the values expressions refer to: types of variables, what steps of each kind give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cel_expr_python import cel
from wfe_engine import plan

from wfe_language.expressions.environment import PLACEHOLDERS, NotCel, Problem, compile_cel, typed_environment
from wfe_language.expressions.scan import Reference

_JSON = {
    "boolean": "BOOL", "string": "STRING", "integer": "INT", "number": "NUMBER", "array": "LIST", "object": "MAP",
    "null": "NULL",
}  # fmt: skip
#: What CEL refuses of types it knows, and JSON has no objection to: null beside something else.
_HARMLESS = re.compile(r"^a condition \? : does not|^[=!]= does not work on (.* and null|null and .*)$")
_RUN = {"id": "STRING", "created_at": "STRING", "epoch": "INT"}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a value.

    Attributes:
        kind: BOOL, STRING, INT, NUMBER, LIST, MAP or NULL; empty when that is not known.
        keys: Of an object: its keys; None when it may have others.
        some: Of an object: keys whose values are known.
    """

    kind: str = ""
    keys: tuple[str, ...] | None = None
    some: Mapping[str, Known] = field(default_factory=dict)


UNKNOWN = Known()
_TEXT, _WHOLE = Known("STRING"), Known("INT")
#: What steps give, by kind; a kind that is not here may give anything.
OUTPUTS = {
    "http": Known(
        "MAP",
        ("status", "headers", "body", "body_base64", "url"),
        {"status": _WHOLE, "headers": Known("MAP"), "body_base64": _TEXT, "url": _TEXT},
    ),
    "mcp": Known("MAP", ("structured", "text", "content"), {"text": _TEXT, "content": Known("LIST")}),
    "agent": Known("MAP", None, {"turns": _WHOLE, "usage": Known("MAP"), "message": Known("MAP")}),
    "approval": Known("MAP", None, {"decision": _TEXT}),
    "wait": Known("NULL"),
    "checkpoint": Known("NULL"),
    "emit": Known("NULL"),
    "foreach": Known("LIST"),
}


def of_variable(variable: plan.Variable) -> Known:
    """What is known of a variable's value in every run."""
    known = _of_schema(variable.schema)
    may_be_null = not variable.required and variable.default in (msgspec.UNSET, None)
    return Known("", known.keys, known.some) if may_be_null or variable.sensitive else known


def _of_schema(schema: Any) -> Known:
    if not isinstance(schema, dict):
        return UNKNOWN
    kind = schema.get("type")
    word = _JSON.get(kind, "") if isinstance(kind, str) else ""
    properties = schema.get("properties")
    if word != "MAP" or not isinstance(properties, dict):
        return Known(word)
    closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    required = schema.get("required")
    sure = required if isinstance(required, list) else []
    some = {name: _of_schema(each) for name, each in properties.items() if name in sure}
    return Known(word, tuple(properties) if closed else None, some)


def of_step(step: Any) -> Known:
    """What is known of a step's output, from its text; that it may be skipped, too."""
    if not isinstance(step, dict):
        return UNKNOWN
    kind = next((key for key in step if key in plan.KINDS), "")
    known = OUTPUTS.get(kind, UNKNOWN)
    if kind == "set":
        known = _of_value(step["set"])
    elif kind == "wait_for" and isinstance(step["wait_for"], dict) and "output" not in str(step["wait_for"]):
        known = Known("MAP", ("name", "payload"), {"name": _TEXT})
    elif kind == "parallel" and isinstance(step["parallel"], dict):
        branches = step["parallel"].get("branches")
        known = Known("MAP", tuple(branches)) if isinstance(branches, dict) else UNKNOWN
    if (step.get("if", True) is not True or "approved_by" in step) and known.kind != "NULL":
        return Known("", known.keys, known.some)
    return known


def _of_value(value: Any) -> Known:
    if isinstance(value, str):
        return UNKNOWN if "${{" in value else _TEXT
    if isinstance(value, dict):
        return Known("MAP", tuple(value), {key: _of_value(each) for key, each in value.items()})
    if isinstance(value, bool):
        return Known("BOOL")
    # A whole number is one here, a fraction may be compared with whole ones.
    return Known({int: "INT", list: "LIST"}.get(type(value), ""))


class Types:
    """What is known of all names expressions at a place may use; the same for all steps of a block."""

    def __init__(self, known: Mapping[str, Known]) -> None:
        self._known = known

    @classmethod
    def of_variables(cls, variables: Mapping[str, plan.Variable]) -> Types:
        """Of the variables, and of the run."""
        known = {f"vars.{name}": of_variable(variable) for name, variable in variables.items()}
        return cls({**known, **{f"run.{name}": Known(kind) for name, kind in _RUN.items()}})

    def with_steps(self, steps: Mapping[str, Any]) -> Types:
        """And of the steps of a block, by id."""
        known = dict(self._known)
        for id_, step in steps.items():
            known |= {
                f"steps.{id_}.status": _TEXT, f"steps.{id_}.attempts": _WHOLE, f"steps.{id_}.output": of_step(step),
            }  # fmt: skip
        return Types(known)

    def of(self, root: str, parts: tuple[str | int, ...]) -> Known:
        """What is known of the value at a path."""
        at = 1 if root in ("vars", "run") else 2
        known = self._known.get(".".join([root, *map(str, parts[:at])]), UNKNOWN)
        for part in parts[at:]:
            known = known.some.get(str(part), UNKNOWN) if isinstance(part, str) else UNKNOWN
        return known

    def missing(self, reference: Reference) -> tuple[str, Known] | None:
        """A key a reference names that its value surely does not have, and what is known of that value."""
        at = 1 if reference.root == "vars" else 2
        for end in range(at, len(reference.parts)):
            known, part = self.of(reference.root, reference.parts[:end]), reference.parts[end]
            if known.kind == "NULL" or (known.keys is not None and part not in known.keys):
                return str(part), known
        return None

    def typed(self, source: str, found: list[Reference]) -> str:
        """An expression with names of known types in place of paths, everything else where it was."""
        for reference in reversed(found):
            for count in range(len(reference.ends), 0, -1):
                name = PLACEHOLDERS.get(self.of(reference.root, reference.parts[:count]).kind)
                if name is not None:
                    begin, end = reference.offset, reference.ends[count - 1]
                    source = source[:begin] + name.ljust(end - begin) + source[end:]
                    break
        return source


def check(source: str, typed: str) -> tuple[str, list[Problem]]:
    """The CEL type an expression gives, empty when unknown, and what is wrong with the types in it.

    JSON does not tell whole numbers from others, CEL does: an expression with numbers that may be either is only faulty
    when it is with both, at the same place.

    Args:
        typed: What `Types.typed` gives for it.

    Raises:
        NotCel: It does not compile, whatever the types are.
    """
    if source == typed:
        return _name(compile_cel(source)), []
    wrong: list[Problem] = []
    for at, number in enumerate(("DOUBLE", "INT") if PLACEHOLDERS["NUMBER"] in typed else ("DOUBLE",)):
        try:
            return _name(compile_cel(typed, typed_environment(number))), []
        except NotCel as error:
            now = [problem for problem in error.problems if not _HARMLESS.search(problem.message)]
            wrong = [problem for problem in now if not at or problem.offset in {other.offset for other in wrong}]
    if not wrong:
        compile_cel(source)
    return "", wrong


def _name(compiled: cel.Expression) -> str:
    kind = compiled.return_type()
    return "" if kind == cel.Type.DYN else str(kind.name()).partition("<")[0]
