"""What reads text from outside, each as a function of any bytes that refuses by its own exceptions or is content."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import wfe_language
from wfe_egress import EgressDenied, Guard
from wfe_engine.errors import Unauthenticated
from wfe_language.expressions.environment import NotCel, compile_cel
from wfe_scheduler.callbacks import Callbacks
from wfe_servicekit.auth.keys import parse_key

_GUARD = Guard(allow="10.0.0.0/8")
_CALLBACKS = Callbacks([bytes(32)], "http://outside")
_RUN = UUID(int=7)


def template(data: bytes) -> None:
    """The loader and the compiler of templates: faults or a plan."""
    faults = wfe_language.validate(data)
    if not faults:
        wfe_language.compile(data)
    for fault in faults:
        if not (fault.reason and fault.mend):
            raise AssertionError(f"a fault without words: {fault}")


def expression(data: bytes) -> None:
    """The compiler of expressions, alone and in a template."""
    text = data.decode("utf-8", "replace")
    with suppress(NotCel):
        compile_cel(text)
    step = {"id": "a", "set": {"x": f"${{{{ {text} }}}}"}}
    template(json.dumps({"name": "t", "variables": {"n": {"type": "integer"}}, "steps": [step]}).encode())


def url(data: bytes) -> None:
    """The guard of URLs: what passes has a host, and no literal address inside."""
    with suppress(EgressDenied):
        passed = _GUARD.check_url(data.decode("utf-8", "surrogateescape"))
        if not passed.host or passed.scheme not in ("http", "https"):
            raise AssertionError(f"passed: {passed!r}")
        # What passes once passes again, as it would be called.
        _GUARD.check_url(passed)


def token(data: bytes) -> None:
    """Tokens of callbacks, and keys: only those the engine made are good, in no other spelling."""
    text = data.decode("utf-8", "surrogateescape")
    found = _CALLBACKS.read(text)
    if found is not None and _CALLBACKS.url(*found).rpartition("/")[2] != text:
        raise AssertionError(f"another spelling of a token was taken: {text!r}")
    with suppress(Unauthenticated):
        parse_key(text)


_SOURCES = (
    b'name: t\nvariables: {n: {type: integer}}\nsteps:\n  - {id: a, set: {x: "${{ vars.n + 1 }}"}}\n',
    b'{"name": "t", "steps": [{"id": "a", "foreach": {"items": [1], "steps": [{"id": "b", "wait": {"for": "1s"}}]}}]}',
)
_EXPRESSIONS = (b"vars.n + 1", b"[1, 2].map(x, x * 2).sum()", b"{'a': 1}.merge({'b': 'c'}).?a.orValue(0)")
_URLS = (
    b"http://[::2]@",
    b"http://example.com/a?b=c#d",
    b"https://10.1.2.3:8080/",
    b"http://[::ffff:127.0.0.1]/",
    b"http://0x7f.1/",
)
_TOKENS = (
    _CALLBACKS.url(_RUN, "callback:scan").rpartition("/")[2].encode(),
    _CALLBACKS.url(_RUN, "callback:a").rpartition("/")[2].encode(),
    b"wfe_AAAAAAAA_" + b"A" * 43,
)
#: By name, each with texts to begin with.
TARGETS: dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "template": (template, _SOURCES),
    "expression": (expression, _EXPRESSIONS),
    "url": (url, _URLS),
    "token": (token, _TOKENS),
}
