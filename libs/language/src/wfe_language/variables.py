"""Checks what a run is started with against the variables its template declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from wfe_engine.errors import Violation
from wfe_engine.plan import Variable

from wfe_language.compiler.reserved import reserved_key_in
from wfe_language.faults import choices, nearest
from wfe_language.schemas import validator

#: Violations named for one variable.
MOST_PER_VARIABLE = 5


def check_input(variables: Sequence[Variable], given: Any) -> tuple[dict[str, Any], tuple[Violation, ...]]:
    """Values of all declared variables, and what is wrong with the given ones.

    A variable that is not given gets its default, or null without one. Null given to an optional variable
    whose schema does not allow null counts as not given. A whole number given as 5.0 becomes 5 where an
    integer is wanted.

    Args:
        variables: Of the plan.
        given: The start's input: an object of JSON values by the names of the variables.

    Returns:
        The values, in the order of the declarations; to be used only when there are no violations. And the
        violations: fields are `input.<name>` and below; messages never hold a sensitive value.
    """
    if not isinstance(given, Mapping):
        return {}, (Violation("input", "It is not an object; give values by the names of the variables."),)
    names = [variable.name for variable in variables]
    violations = [Violation(f"input.{name[:60]}", _unknown(name, names)) for name in given if name not in names]
    values: dict[str, Any] = {}
    for variable in variables:
        value = given.get(variable.name, msgspec.UNSET)
        if value is msgspec.UNSET or (value is None and not allows_null(variable)):
            if variable.required:
                violations.append(Violation(f"input.{variable.name}", _missing(variable, value)))
            values[variable.name] = None if variable.default is msgspec.UNSET else variable.default
            continue
        if variable.schema.get("type") == "integer" and isinstance(value, float) and value.is_integer():
            value = int(value)
        violations += check_value(variable, value)
        reserved = reserved_key_in(value)
        if reserved is not None:
            message = f"The key {reserved[:60]} belongs to the engine; rename it."
            violations.append(Violation(f"input.{variable.name}", message))
        values[variable.name] = value
    return values, tuple(violations)


def allows_null(variable: Variable) -> bool:
    """Whether null is a value of the variable."""
    return bool(validator(variable.schema).is_valid(None))


def check_value(variable: Variable, value: Any, field: str = "input") -> list[Violation]:
    """What is wrong with one value; empty when nothing is."""
    found: list[Violation] = []
    try:
        for error in validator(variable.schema).iter_errors(value):
            if len(found) >= MOST_PER_VARIABLE:
                break
            where = f"{field}.{variable.name}"
            if variable.sensitive:
                rule = [str(part) for part in error.schema_path]
                found.append(Violation(where, f"The value does not fit the rule {'.'.join(rule) or 'of its schema'}."))
                continue
            for part in error.instance_path:
                where += f"[{part}]" if isinstance(part, int) else f".{str(part)[:60]}"
            found.append(Violation(where, _short(error.message)))
    except (ValueError, OverflowError, TypeError):
        found.append(Violation(f"{field}.{variable.name}", "The value is not JSON."))
    return found


def _short(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:140]} … {message[-140:]}"


def _unknown(name: str, names: Sequence[str]) -> str:
    near = nearest(name, names)
    if near:
        return f"There is no such variable; did you mean {near}?"
    return f"There is no such variable; the template declares {choices(names) or 'none'}."


def _missing(variable: Variable, value: Any) -> str:
    kind = variable.schema.get("type")
    said = f" ({kind})" if isinstance(kind, str) else ""
    return f"It is required{said}; {'null is not a value of it' if value is None else 'give it a value'}."
