"""Secrets in templates: what `secrets.NAME` compiles to, and which ones a plan refers to.

A secret's value is never in a plan. What stands there is the placeholder of a sealed value, fixed at publish, so
nothing that a run is given or gives back can name a secret its template does not name.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from wfe_engine import plan
from wfe_engine.values import SEALED

#: Names of secrets.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}", re.ASCII)
NAME_RULE = "Use letters, digits and _, beginning with a letter, at most 100 characters."


def placeholder(parts: tuple[str | int, ...]) -> plan.Literal:
    """What stands for a secret until an executor asks for it."""
    return plan.Literal({SEALED: [{"secret": str(parts[0]) if parts else ""}]})


def text_with(parts: tuple[Any, ...]) -> plan.Expression:
    """Text of strings, expressions and placeholders; a placeholder itself when nothing in it is an expression."""
    if any(isinstance(part, plan.Path | plan.Cel) for part in parts):
        return plan.Text(parts)
    joined: list[Any] = []
    for part in parts:
        joined += part.value[SEALED] if isinstance(part, plan.Literal) else [part]
    return plan.Literal({SEALED: joined})


def refer_secret(parts: tuple[str | int, ...], place: str, *, allowed: bool, whole: bool) -> tuple[str, str] | None:
    """Reason and mend of what is wrong with a reference to a secret; None when nothing is."""
    if not parts:
        return "secrets stands alone.", "Name one: ${{ secrets.API_KEY }}."
    name = str(parts[0])
    if not isinstance(parts[0], str) or not NAME.fullmatch(name):
        return f"{name[:60]!r} is not the name of a secret.", NAME_RULE
    if not allowed:
        return (
            f"The secret {name} cannot be used {place}.",
            "Secrets may only stand in the params of steps that an executor runs.",
        )
    if not whole or len(parts) > 1:
        return (
            f"The secret {name} is used in more than a plain path.",
            f"Use it whole, alone or inside text: ${{{{ secrets.{name} }}}}.",
        )
    return None


def secrets_of(compiled: Any) -> frozenset[str]:
    """Names of all secrets that a plan, or any part of one, refers to."""
    found: set[str] = set()
    waiting = [compiled]
    while waiting:
        part = waiting.pop()
        if isinstance(part, msgspec.Struct):
            waiting += [getattr(part, name) for name in part.__struct_fields__]
        elif isinstance(part, tuple | list):
            waiting += part
        elif isinstance(part, dict):
            if SEALED in part:
                found |= {one["secret"] for one in part[SEALED] if isinstance(one, dict) and "secret" in one}
            else:
                waiting += part.values()
    return frozenset(found)


def is_secret_name(name: str) -> bool:
    """Whether a secret may be called so."""
    return NAME.fullmatch(name) is not None


def is_fixed(expression: plan.Expression) -> bool:
    """Whether an expression is text as it stands in the template, readable by everybody who may read it."""
    return isinstance(expression, plan.Literal) and isinstance(expression.value, str)
