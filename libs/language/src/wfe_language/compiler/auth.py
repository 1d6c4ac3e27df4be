"""Reads `auth`: how a call proves who makes it. Never with a secret written into the template."""

from __future__ import annotations

import re
from typing import Any

from wfe_engine import plan

from wfe_language.compiler.reading import Reading
from wfe_language.compiler.secrets import is_fixed
from wfe_language.compiler.values import Scope, Values, map_of
from wfe_language.faults import Where

AUTH_KEYS = ("bearer", "basic", "header")
BASIC_KEYS = ("username", "password")
HEADER_KEYS = ("name", "value")

HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}", re.ASCII)
_MEND = 'Write {bearer: "${{ secrets.TOKEN }}"}, or basic or header.'
_STORE = "Store it with `wfe secrets set NAME` and write ${{ secrets.NAME }}."


def read_auth(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """{"bearer": text}, {"basic": {"username", "password"}} or {"header": {"name", "value"}}."""
    given = reading.object(value, where, AUTH_KEYS, mend=_MEND)
    named = [key for key in given if key in AUTH_KEYS]
    if isinstance(value, dict) and len(named) != 1 and set(given) <= set(AUTH_KEYS):
        reading.fault(where, "An auth has exactly one of bearer, basic and header.", _MEND)
        return plan.Literal({})
    if "bearer" in given:
        return map_of({"bearer": secret_text(reading, values, given["bearer"], (*where, "bearer"), scope)})
    if "basic" in given:
        return map_of({"basic": _basic(reading, values, given["basic"], (*where, "basic"), scope)})
    if "header" in given:
        return map_of({"header": _header(reading, values, given["header"], (*where, "header"), scope)})
    return plan.Literal({})


def secret_text(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Text that comes from somewhere else; a fault when it stands in the template itself."""
    compiled = values.text(value, where, scope, _STORE)
    if is_fixed(compiled) and isinstance(value, str) and value.strip():
        reading.fault(where, "A secret stands in the template, for everybody to read.", _STORE)
    return compiled


def _basic(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    mend = 'Write {username: bot, password: "${{ secrets.PASSWORD }}"}.'
    given = reading.object(value, where, BASIC_KEYS, required=BASIC_KEYS, mend=mend)
    found: dict[str, plan.Expression] = {}
    if "username" in given:
        found["username"] = values.text(given["username"], (*where, "username"), scope, mend)
    if "password" in given:
        found["password"] = secret_text(reading, values, given["password"], (*where, "password"), scope)
    return map_of(found)


def _header(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    mend = 'Write {name: X-Api-Key, value: "${{ secrets.API_KEY }}"}.'
    given = reading.object(value, where, HEADER_KEYS, required=HEADER_KEYS, mend=mend)
    found: dict[str, plan.Expression] = {}
    if "name" in given:
        rule = "Use letters, digits and -."
        named = reading.name(given["name"], (*where, "name"), "The header", HEADER, rule)
        found["name"] = plan.Literal(named if isinstance(named, str) else "")
    if "value" in given:
        found["value"] = secret_text(reading, values, given["value"], (*where, "value"), scope)
    return map_of(found)


def read_headers(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Headers of a call, by name."""
    if not isinstance(value, dict):
        reading.object(value, where, (), mend="Write names and values: {Accept: text/html}.")
        return plan.Literal({})
    headers: dict[str, plan.Expression] = {}
    for name, text in value.items():
        inner = (*where, name)
        if not HEADER.fullmatch(name):
            reading.key_fault(inner, f"{name[:60]!r} is not the name of a header.", "Use letters, digits and -.")
        if any(name.lower() == other.lower() for other in headers):
            reading.key_fault(inner, f"The header {name} is there twice.", "Names of headers ignore case; keep one.")
        headers[name] = values.text(text, inner, scope, "Write its value as text, in quotes.")
        fixed = headers[name]
        if isinstance(fixed, plan.Literal) and isinstance(fixed.value, str) and re.search(r"[\r\n]", fixed.value):
            reading.fault(inner, "The value of a header holds a line break.", "Write it in one line.")
    return map_of(headers)


def read_url(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """An address of http or https; what is fixed in it is looked at."""
    compiled = values.text(value, where, scope, 'Write an address: "https://...".')
    fixed = compiled.value if is_fixed(compiled) else ""  # type: ignore[union-attr]
    if fixed and not re.match(r"https?://[^/\s]+", fixed, re.IGNORECASE):
        reading.fault(where, f"{fixed[:60]!r} is not an http or https address.", "Begin with https://.")
    return compiled
