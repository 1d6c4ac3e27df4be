"""Values that expressions gave and that a step cannot use: what it fails with names expression, place and value."""

from __future__ import annotations

from typing import Any

from wfe_engine.plan import Expression, MapOf, Node
from wfe_engine.state import Fault
from wfe_engine.turn import encode

BAD_INPUT = "BAD_INPUT"


class Unsuitable(Exception):
    """One of a step's params has a value the step cannot use.

    Args:
        key: Which one.
        why: One sentence that shows the value.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why

    def fault(self, node: Node) -> Fault:
        """What the step fails with."""
        place = f"{node.kind}.{self.key}"
        given = dict(node.params.items).get(self.key) if isinstance(node.params, MapOf) else None
        source = _source(given)
        details = {"place": place} | ({"expression": source} if source else {})
        message = ": ".join(filter(None, (place, source, self.why)))
        return Fault(code=BAD_INPUT, message=message, step=node.path, details=details)


def shown(value: Any) -> str:
    """A value for a message, cut."""
    return encode(value).decode()[:80]


def _source(expression: Expression | None) -> str:
    """The first expression in a param; empty when there is none."""
    if isinstance(expression, MapOf):
        return next(filter(None, (_source(item) for _, item in expression.items)), "")
    return str(getattr(expression, "source", ""))
