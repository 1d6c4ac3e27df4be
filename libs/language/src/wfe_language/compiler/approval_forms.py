"""Reads the form of an approval: what people fill in, and which parts of the payload they may change."""

from __future__ import annotations

import re
from typing import Any

from wfe_language.compiler.reading import Reading
from wfe_language.faults import Where
from wfe_language.schemas import make_validator

_POINTER = re.compile(r"(/([^~/]|~[01])*)+")
_LIMIT = re.compile(r"(<=|>=|<|>|==)\s*(original|-?\d+(?:\.\d+)?)")
MOST_POINTERS = 50


def read_form(reading: Reading, value: Any, where: Where) -> dict[str, Any]:
    """The form as the gate keeps it: schema, payload, editable, limits."""
    mend = "Write {schema: {...}, editable: [/args/amount]}."
    given = reading.object(value, where, ("schema", "payload", "editable", "limits"), mend=mend)
    found: dict[str, Any] = {}
    for key in ("schema", "payload"):
        if key in given:
            schema = given[key]
            if not isinstance(schema, dict):
                reading.object(schema, (*where, key), (), mend="Write a JSON Schema.")
                continue
            try:
                make_validator(schema)
            except ValueError as error:
                reading.fault((*where, key), f"This is no JSON Schema: {error}.", "See JSON Schema 2020-12.")
            found[key] = schema
    found["editable"] = _editable(reading, given, where)
    found["limits"] = _limits(reading, given, where, found["editable"])
    return found


def _editable(reading: Reading, given: dict[str, Any], where: Where) -> list[str]:
    if "editable" not in given:
        return []
    inner = (*where, "editable")
    mend = "Write JSON Pointers into the payload: [/args/amount]."
    listed = reading.list(given["editable"], inner, mend)
    if len(listed) > MOST_POINTERS:
        reading.fault(inner, f"There are {len(listed)} pointers.", f"Use {MOST_POINTERS} at most.")
    found = []
    for at, pointer in enumerate(listed):
        if isinstance(pointer, str) and _POINTER.fullmatch(pointer):
            found.append(pointer)
        else:
            reading.fault((*inner, at), "This is no JSON Pointer to a part of the payload.", mend)
    return found


def _limits(reading: Reading, given: dict[str, Any], where: Where, editable: list[str]) -> dict[str, str]:
    if "limits" not in given:
        return {}
    inner = (*where, "limits")
    mend = 'Write {"/args/amount": "<= original"}.'
    limits = given["limits"]
    if not isinstance(limits, dict):
        reading.object(limits, inner, (), mend=mend)
        return {}
    for pointer, limit in limits.items():
        if pointer not in editable:
            reading.key_fault((*inner, pointer), f"{pointer[:60]} is not editable.", "Add it to editable.")
        elif not isinstance(limit, str) or not _LIMIT.fullmatch(limit):
            reading.fault((*inner, pointer), "This is no limit.", mend)
    return {pointer: limit for pointer, limit in limits.items() if isinstance(limit, str)}
