"""Reads the variables a template declares."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from wfe_engine import plan

from wfe_language.compiler.reading import Missing, Reading
from wfe_language.faults import Where, choices, suggest
from wfe_language.schemas import FORMATS, KEYWORDS, TYPES, make_validator
from wfe_language.variables import check_value

MOST_VARIABLES = 100

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
NAME_RULE = "Use a-z, 0-9 and _, beginning with a letter, at most 63 characters."
#: Words of CEL that cannot follow a dot.
RESERVED = frozenset({"true", "false", "null", "in"})

_KEYS = (*KEYWORDS, "schema", "default", "required", "sensitive", "description")


def read_variables(reading: Reading, value: Any, where: Where) -> tuple[plan.Variable, ...]:
    """Declared variables in the order of the text; faulty ones too, so that references to them are known."""
    if not isinstance(value, dict):
        reading.object(value, where, (), mend="Write names with their schemas: {tone: {type: string}}.")
        return ()
    if len(value) > MOST_VARIABLES:
        reading.key_fault(
            where,
            f"There are {len(value)} variables, more than {MOST_VARIABLES}.",
            "Put related ones into an object.",
        )
    found = []
    for name, declared in value.items():
        inner = (*where, name)
        if not NAME.fullmatch(name):
            reading.key_fault(inner, f"The variable {name[:60]!r} is not a valid name.", NAME_RULE)
        elif name in RESERVED:
            reading.key_fault(inner, f"{name} is a word of the expressions.", "Choose another name.")
        found.append(_variable(reading, name, declared, inner))
    return tuple(found)


def _variable(reading: Reading, name: str, value: Any, where: Where) -> plan.Variable:
    before = len(reading.faults)
    given = reading.object(value, where, _KEYS, mend="Write its schema: {type: string}.")
    if isinstance(given.get("required"), list):
        reading.fault(
            (*where, "required"), "Here stands a list; required says whether the variable must be given.",
            "Write true or false; required properties go under schema: {type: object, required: [...]}.",
        )  # fmt: skip
        required: bool | Missing = False
    else:
        required = reading.optional(given, where, "required", reading.boolean)
    sensitive = reading.optional(given, where, "sensitive", reading.boolean)
    if "description" in given:
        reading.text(given["description"], (*where, "description"), "Describe it, or remove the key.", most=2000)
    schema = _schema(reading, given, where)
    variable = plan.Variable(
        name=name,
        schema=schema,
        required=required is True,
        default=given.get("default", msgspec.UNSET),
        sensitive=sensitive is True,
    )
    if "default" in given:
        _check_default(reading, variable, where, sound=len(reading.faults) == before)
    return variable


def _schema(reading: Reading, given: dict[str, Any], where: Where) -> dict[str, Any]:
    if "schema" in given:
        words = [key for key in given if key in KEYWORDS]
        if words:
            reading.key_fault((*where, words[0]), f"The key {words[0]} stands beside schema.", "Move it into schema.")
        where = (*where, "schema")
        schema = (
            reading.object(given["schema"], where, given["schema"], mend="Write a JSON Schema.")
            if isinstance(given["schema"], dict)
            else reading.object(given["schema"], where, ())
        )
    else:
        schema = {key: given[key] for key in given if key in KEYWORDS}
    before = len(reading.faults)
    if "type" in schema:
        for kind in schema["type"] if isinstance(schema["type"], list) else [schema["type"]]:
            reading.choice(kind, (*where, "type"), TYPES)
    if "format" in schema and (not isinstance(schema["format"], str) or schema["format"] not in FORMATS):
        said = str(schema["format"])[:60]
        mend = suggest(said, FORMATS, f"Known: {choices(FORMATS, 20)}.")
        reading.fault((*where, "format"), f"The format {said} is not known.", mend)
    if len(reading.faults) > before:
        return {}
    try:
        make_validator(schema)
    except ValueError as error:
        reading.fault(where, f"The schema is not a valid JSON Schema: {error}.", "See json-schema.org, draft 2020-12.")
        return {}
    return schema


def _check_default(reading: Reading, variable: plan.Variable, where: Where, *, sound: bool) -> None:
    inner = (*where, "default")
    if variable.required:
        reading.key_fault(inner, "A required variable has a default, which is never used.", "Remove one of them.")
    if variable.sensitive:
        # The template's text is shown to everybody who may read it.
        reading.key_fault(inner, "A sensitive variable has a default.", "Give the value at the start of a run.")
    elif _has_expression(variable.default):
        reading.fault(inner, "An expression cannot stand here.", "Write the value itself; it is fixed at publish.")
    elif sound:
        for violation in check_value(variable, variable.default)[:1]:
            reading.fault(
                inner,
                f"The default breaks the variable's own schema: {violation.message}.",
                "Change one of them.",
            )


def _has_expression(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_expression, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and "${{" in value
