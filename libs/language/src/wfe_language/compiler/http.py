"""Reads `http`: one request and what counts as its success."""

from __future__ import annotations

import re
from typing import Any

from wfe_engine import plan

from wfe_language.compiler.auth import read_auth, read_headers, read_url
from wfe_language.compiler.reading import Missing, Reading
from wfe_language.compiler.values import Scope, Values, map_of
from wfe_language.faults import Where

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: Ways to take the body of an answer.
READS = ("auto", "json", "text", "bytes")
#: Bytes of an answer's body a step may ask for; more could not be stored.
MOST_ANSWER = 16 * 1024 * 1024
#: Redirects a step may follow.
MOST_REDIRECTS = 10

HTTP_KEYS = (
    "method", "url", "headers", "query", "json", "body", "form", "auth", "expect", "read", "max_bytes", "redirects",
)  # fmt: skip
_BODIES = ("json", "body", "form")
_STATUS = re.compile(r"[1-5]xx")


def read_http(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of a request: method and url, and what else is given of the keys."""
    scope = scope.at("in the params of an http step", sealing=True)
    mend = 'Write {method: GET, url: "https://..."}.'
    given = reading.object(value, where, HTTP_KEYS, required=("url",), mend=mend)
    params: dict[str, plan.Expression] = {"method": plan.Literal(_method(reading, given, where))}
    if "url" in given:
        params["url"] = read_url(reading, values, given["url"], (*where, "url"), scope)
    if "headers" in given:
        params["headers"] = read_headers(reading, values, given["headers"], (*where, "headers"), scope)
    if "auth" in given:
        params["auth"] = read_auth(reading, values, given["auth"], (*where, "auth"), scope)
        _check_authorization(reading, given, where)
    if "query" in given:
        params["query"] = _names(reading, values, given["query"], (*where, "query"), scope, "{page: 1}")
    params |= _body(reading, values, given, where, scope)
    if "expect" in given:
        params["expect"] = plan.Literal(_expect(reading, given["expect"], (*where, "expect")))
    fixed = {
        "read": reading.optional(given, where, "read", lambda v, w: reading.choice(v, w, READS)),
        "max_bytes": reading.optional(given, where, "max_bytes", lambda v, w: reading.integer(v, w, 0, MOST_ANSWER)),
        "redirects": reading.optional(given, where, "redirects", lambda v, w: reading.integer(v, w, 0, MOST_REDIRECTS)),
    }
    params |= {key: plan.Literal(one) for key, one in fixed.items() if not isinstance(one, Missing)}
    return map_of(params)


def _method(reading: Reading, given: dict[str, Any], where: Where) -> str:
    method = given.get("method", "GET")
    method = method.upper() if isinstance(method, str) else method
    read = reading.choice(method, (*where, "method"), METHODS)
    return "GET" if isinstance(read, Missing) else read


def _names(reading: Reading, values: Values, value: Any, where: Where, scope: Scope, like: str) -> plan.Expression:
    if not isinstance(value, dict):
        reading.object(value, where, (), mend=f"Write names and values: {like}.")
    return values.value(value, where, scope)


def _body(
    reading: Reading, values: Values, given: dict[str, Any], where: Where, scope: Scope
) -> dict[str, plan.Expression]:
    found = [key for key in _BODIES if key in given]
    for other in found[1:]:
        reading.key_fault(
            (*where, other), f"{other} stands beside {found[0]}.",
            "Keep one: json for values, form for fields of a form, body for text.",
        )  # fmt: skip
    if not found:
        return {}
    key = found[0]
    inner = (*where, key)
    if key == "json":
        return {"json": values.value(given["json"], inner, scope)}
    if key == "form":
        return {"form": _names(reading, values, given["form"], inner, scope, "{grant_type: client_credentials}")}
    if isinstance(given["body"], str):
        return {"body": values.text(given["body"], inner, scope, "Write text.", empty=True)}
    reading.text(given["body"], inner, "body is text; use json for values.")
    return {}


def _check_authorization(reading: Reading, given: dict[str, Any], where: Where) -> None:
    headers, auth = given.get("headers"), given["auth"]
    names = [name for name in headers if isinstance(name, str)] if isinstance(headers, dict) else []
    taken = "authorization"
    if isinstance(auth, dict) and isinstance(auth.get("header"), dict):
        taken = str(auth["header"].get("name", "")).lower()
    for name in names:
        if name.lower() == taken:
            reading.key_fault((*where, "headers", name), f"The header {name} is what auth sends.", "Keep one of them.")


def _expect(reading: Reading, value: Any, where: Where) -> list[Any]:
    mend = "Write statuses or classes of them: [200, 404] or 2xx."
    found: list[Any] = []
    for at, status in enumerate(value if isinstance(value, list) else [value]):
        inner = (*where, at) if isinstance(value, list) else where
        if isinstance(status, str) and _STATUS.fullmatch(status):
            found.append(status)
        elif isinstance(status, str):
            reading.fault(inner, f"{status[:40]!r} is not a class of statuses.", mend)
        elif not isinstance(reading.integer(status, inner, 100, 599), Missing):
            found.append(status)
    if isinstance(value, list) and not value:
        reading.fault(where, "No status is expected.", mend)
    return found
