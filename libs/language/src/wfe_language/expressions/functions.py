"""The functions of expressions beyond those CEL brings: plain functions of JSON values.

None reads a clock or makes more than its arguments hold by more than a constant factor, but for those that are not in
`CHEAP`. Errors are ValueErrors whose message is the end of a sentence: "sum needs numbers, not \\"a\\"".
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from cel_expr_python import cel

_T = cel.Type
_ANY = cel.Type("any")
_LIST = _T.List(_T.DYN)
_MAP = _T.Map(_T.DYN, _T.DYN)
#: Digits `round` keeps at most.
_MOST_DIGITS = 12
#: What `time.format` knows; all numbers, so that no language or place matters.
_DIRECTIVES = frozenset("YmdHMSjuVGyf%")

#: What never takes long and gives no more than it is given; everything else is evaluated in the pool.
CHEAP = frozenset(
    {
        "bool", "bytes", "coalesce", "contains", "double", "duration", "dyn", "endsWith", "first", "flatten",
        "fromUnix", "chunk", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours",
        "getMilliseconds", "getMinutes", "getMonth", "getSeconds", "has", "hasValue", "int", "keys", "last",
        "lowerAscii", "max", "merge", "min", "none", "of", "ofNonZeroValue", "omit", "or", "orValue", "pick", "round",
        "sha256", "size", "slice", "sort", "sortBy", "startsWith", "string", "substring", "sum", "timestamp", "trim",
        "truncate", "type", "uint", "unique", "unix", "upperAscii", "value", "values",
        "abs", "ceil", "floor", "greatest", "isFinite", "isInf", "isNaN", "least", "sign", "trunc",
    }
)  # fmt: skip


#: Names of those that say themselves what is wrong.
OWN = frozenset(
    {
        "json.encode", "json.decode", "round", "time.format", "time.unix", "time.fromUnix", "sort", "sortBy", "chunk",
        "sum", "min", "max", "truncate",
    }
)  # fmt: skip
#: Names of functions, for suggestions.
FUNCTIONS = tuple(sorted(CHEAP - {"of", "none"}))


def _shown(value: Any) -> str:
    try:
        text = msgspec.json.encode(value, order="sorted").decode()
    except (TypeError, ValueError, UnicodeError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _number(value: Any, name: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} needs numbers, not {_shown(value)}")
    return value


def _json_encode(value: Any) -> str:
    try:
        return msgspec.json.encode(value, order="sorted").decode()
    except (TypeError, ValueError, UnicodeError, RecursionError):
        raise ValueError("json.encode was given what JSON does not have") from None


def _json_decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"json.decode was given {_shown(text)}, which is not JSON: {error}") from None


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _round(value: Any, digits: int) -> Any:
    if not 0 <= digits <= _MOST_DIGITS:
        raise ValueError(f"round keeps 0 to {_MOST_DIGITS} digits, not {digits}")
    value = _number(value, "round")
    if isinstance(value, int) or not math.isfinite(value):
        return value
    # Halves away from zero, as people do it, decided on the number as it is written.
    scaled = abs(float(f"{value!r}e{digits}")) if "e" not in repr(value) else abs(value) * 10**digits
    return math.copysign(math.floor(scaled + 0.5) / 10**digits, value)


def _sort(items: list[Any]) -> list[Any]:
    return sorted(items, key=_order(items, "sort"))


def _order(items: list[Any], name: str) -> Callable[[Any], Any]:
    if all(isinstance(item, str) for item in items):
        return lambda item: item
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise ValueError(f"{name} needs all numbers or all text, not {_shown(item)}")
    return lambda item: item


def _sort_by(items: list[Any], key: str) -> list[Any]:
    keys = [_get(item, key, "sortBy") for item in items]
    _order(keys, "sortBy")
    return [item for _, _, item in sorted(zip(keys, range(len(items)), items, strict=True), key=lambda each: each[:2])]


def _get(item: Any, key: str, name: str) -> Any:
    if not isinstance(item, dict) or key not in item:
        raise ValueError(f"{name} finds no {key[:60]} in {_shown(item)}")
    return item[key]


def _unique(items: list[Any]) -> list[Any]:
    found: dict[Any, Any] = {}
    for item in items:
        found.setdefault(_key(item), item)
    return list(found.values())


def _key(item: Any) -> Any:
    # 1 and 1.0 are the same number; true is none.
    if isinstance(item, str | int | float | None) and not isinstance(item, bool):
        return item
    return msgspec.json.encode(item, order="sorted")


def _slice(items: list[Any], start: int, end: int | None = None) -> list[Any]:
    return items[start:end]


def _flatten(items: list[Any]) -> list[Any]:
    flat: list[Any] = []
    for item in items:
        flat.extend(item) if isinstance(item, list) else flat.append(item)
    return flat


def _sum(items: list[Any]) -> Any:
    return sum(_number(item, "sum") for item in items)


def _extreme(name: str, pick: Callable[..., Any]) -> Callable[[list[Any]], Any]:
    def give(items: list[Any]) -> Any:
        if not items:
            raise ValueError(f"{name} of an empty list")
        _order(items, name)
        return pick(items)

    return give


def _chunk(items: list[Any], size: int) -> list[Any]:
    if size < 1:
        raise ValueError(f"chunk needs a size of at least 1, not {size}")
    return [items[at : at + size] for at in range(0, len(items), size)]


def _truncate(text: str, most: int) -> str:
    if most < 1:
        raise ValueError(f"truncate needs a length of at least 1, not {most}")
    return text if len(text) <= most else text[: most - 1] + "…"


def _moment(value: Any, name: str) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC)
    try:
        moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{name} needs a moment with its zone, like 2030-01-31T12:00:00Z, not {_shown(value)}")
    return moment.astimezone(dt.UTC)


def _time_format(value: Any, pattern: str) -> str:
    directives = pattern[1:].split("%") if "%" in pattern else []
    at = 0
    while (at := pattern.find("%", at)) >= 0:
        if pattern[at + 1 : at + 2] not in _DIRECTIVES or len(directives) > 50:
            raise ValueError(f"time.format knows %Y %m %d %H %M %S and %j, not {pattern[at : at + 2]!r}")
        at += 2
    moment = _moment(value, "time.format")
    # The C library writes years before 1000 without zeros.
    return moment.strftime(pattern.replace("%Y", f"{moment.year:04}"))


def _from_unix(seconds: Any) -> dt.datetime:
    try:
        return dt.datetime.fromtimestamp(_number(seconds, "time.fromUnix"), dt.UTC)
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"time.fromUnix needs seconds since 1970, not {_shown(seconds)}") from None


def _pick(given: dict[str, Any], names: list[Any]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _omit(given: dict[str, Any], names: list[Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}


def _one(name: str, result: Any, parameters: list[Any], impl: Callable[..., Any], *, member: bool) -> cel.FunctionDecl:
    word = name.replace(".", "_")
    identity = f"wfe_{word}_{len(parameters)}"
    return cel.FunctionDecl(name, [cel.Overload(identity, result, parameters, member, impl)])


def declarations() -> list[cel.FunctionDecl]:
    """All of them, for a CEL environment."""

    def function(name: str, result: Any, parameters: list[Any], impl: Callable[..., Any]) -> cel.FunctionDecl:
        return _one(name, result, parameters, impl, member=False)

    def method(name: str, result: Any, parameters: list[Any], impl: Callable[..., Any]) -> cel.FunctionDecl:
        return _one(name, result, parameters, impl, member=True)

    coalesce = [cel.Overload(f"wfe_coalesce_{n}", _T.DYN, [_ANY] * n, False, _coalesce) for n in (2, 3, 4)]
    slices = [
        cel.Overload("wfe_slice_2", _LIST, [_LIST, _T.INT], True, _slice),
        cel.Overload("wfe_slice_3", _LIST, [_LIST, _T.INT, _T.INT], True, _slice),
    ]
    return [
        cel.FunctionDecl("coalesce", coalesce),
        function("json.encode", _T.STRING, [_ANY], _json_encode),
        function("json.decode", _T.DYN, [_T.STRING], _json_decode),
        function("hash.sha256", _T.STRING, [_T.STRING], lambda text: hashlib.sha256(text.encode()).hexdigest()),
        function("url.encode", _T.STRING, [_T.STRING], lambda text: quote(text, safe="")),
        function("round", _T.DYN, [_ANY, _T.INT], _round),
        function("time.format", _T.STRING, [_ANY, _T.STRING], _time_format),
        function("time.unix", _T.INT, [_ANY], lambda value: math.floor(_moment(value, "time.unix").timestamp())),
        function("time.fromUnix", _T.TIMESTAMP, [_ANY], _from_unix),
        method("sort", _LIST, [_LIST], _sort),
        method("sortBy", _LIST, [_LIST, _T.STRING], _sort_by),
        method("unique", _LIST, [_LIST], _unique),
        cel.FunctionDecl("slice", slices),
        method("flatten", _LIST, [_LIST], _flatten),
        method("chunk", _LIST, [_LIST, _T.INT], _chunk),
        method("sum", _T.DYN, [_LIST], _sum),
        method("min", _T.DYN, [_LIST], _extreme("min", min)),
        method("max", _T.DYN, [_LIST], _extreme("max", max)),
        method("keys", _LIST, [_MAP], sorted),
        method("values", _LIST, [_MAP], lambda given: [given[key] for key in sorted(given)]),
        method("merge", _MAP, [_MAP, _MAP], lambda one, other: {**one, **other}),
        method("pick", _MAP, [_MAP, _LIST], _pick),
        method("omit", _MAP, [_MAP, _LIST], _omit),
        method("truncate", _T.STRING, [_T.STRING, _T.INT], _truncate),
        method("lines", _LIST, [_T.STRING], lambda text: text.splitlines()),
    ]
