"""Expressions that want to cost a lot, with the values they are given."""

from __future__ import annotations

from typing import Any

TEXT = "x" * 16_000


def _deep() -> Any:
    value: Any = 1
    for _ in range(30):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "l": list(range(190)), "t": TEXT, "q": "'\\" * 8000, "a": "a" * 8000, "b": "a" * 7999 + "b", "n": 3,
    "o": {f"k{i}": i for i in range(150)}, "big": "x" * 250_000, "deep": _deep(),
    **{f"v{i}": "x" * 250_000 for i in range(12)},
}  # fmt: skip

#: By what they try.
HOSTILE = {
    "quotes doubled": "strings.quote(" * 30 + "vars.q" + ")" * 30,
    "JSON of JSON": "json.encode(" * 30 + "vars.q" + ")" * 30,
    "Base64 of Base64": "base64.encode(bytes(" * 15 + "vars.t" + "))" * 15,
    "escapes of escapes": "url.encode(" * 30 + "vars.t" + ")" * 30,
    "text again and again": "[" + ",".join(["vars.t"] * 120) + "]",
    "lists again and again": "[" + ",".join(["vars.l"] * 140) + "]",
    "text added up": "+".join(["vars.t"] * 31),
    "lists added up": "+".join(["vars.l"] * 31),
    "search": "vars.a.contains(vars.b)",
    "searches": "||".join(["vars.a.contains(vars.b)"] * 30),
    "position": "vars.a.indexOf(vars.b)",
    "loops in loops": "vars.l.map(a, vars.l.map(b, vars.l))",
    "all in all": "vars.l.all(a, vars.l.all(b, vars.l.all(c, vars.l.all(d, true))))",
    "pattern": "vars.t.matches('(x+x+)+y')",
    "large pattern": "'a'.matches('((a{100}){100}){100}')",
    "long number": "'%.1000000f'.format([1.0])",
    "parentheses": "(" * 30 + "1" + ")" * 30,
    "many parentheses": "(" * 2000 + "1" + ")" * 2000,
    "many conditions": "vars.n>0" + "".join(f"&&vars.n>{i}" for i in range(1, 90)),
    "a long list": "[" + ",".join(map(str, range(270))) + "]",
    "a long object": "{" + ",".join(f"'k{i}':{i}" for i in range(90)) + "}",
    "choices": "vars.n==1?1:" * 30 + "2",
    "sorts": "vars.l.sort()" + ".sort()" * 20,
    "objects merged": "vars.o" + ".merge(vars.o)" * 25,
    "unique": "vars.l" + ".unique()" * 25,
    "hashes": "hash.sha256(" * 28 + "vars.t" + ")" * 28,
    "chunks": "vars.l.chunk(1).chunk(1).chunk(1)",
    "a deep value": "vars.deep",
    "deep values compared": "vars.deep==vars.deep",
    "lists compared": "&&".join(["vars.l==vars.l"] * 20),
    "membership": "&&".join(f"{i} in vars.l" for i in range(60)),
    "moments": "&&".join(["timestamp('2030-01-01T00:00:00Z')<timestamp('2031-01-01T00:00:00Z')"] * 14),
    "large text": "vars.big+vars.big",
    "3 MB": "[" + ",".join(f"vars.v{i}" for i in range(12)) + "]",
    "single quotes": "'" * 900,
    "double quotes": '"' * 4000,
    "triple quotes": "'''" * 1300,
    "optionals doubled": "optional.of([1])" + ".optMap(a,[a,a])" * 20 + ".orValue(0)",
    "a long comment": "vars.n" + "+vars.n" * 30 + " //" + "c" * 3500,
    "characters": "vars.t.split('')",
    "replacement": "vars.t.replace('x','yyyy').replace('y','zzzz')",
    "a wide join": "vars.l.map(x, string(x)).join(vars.t)",
    "a slice": "vars.l.slice(-9007199254740991, 9007199254740991)",
    "first of many": "coalesce(" * 28 + "null" + ",vars.l)" * 28,
}
