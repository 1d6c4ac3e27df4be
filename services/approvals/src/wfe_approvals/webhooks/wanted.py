"""Who wants which event: by its type, and by the subscription's filter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import structlog
from wfe_engine.errors import InvalidInput
from wfe_engine.events import TYPES
from wfe_engine.plan import Cel
from wfe_language import CelEvaluator, ExpressionError, is_cheap, narrowed, outside_expression
from wfe_store.webhook_feed import Addressed, Happened
from wfe_store.webhooks import Webhook

from wfe_approvals.webhooks.payload import disabled, run_event

FILTER_ROOTS = ("event",)
#: Types of events that are none of a run's.
OWN_TYPES = ("webhook.disabled", "webhook.ping")
MOST_TYPES = 50

_PATTERN = re.compile(r"\*|[a-z][a-z0-9_.]{0,98}\*?", re.ASCII)
_log = structlog.get_logger("wfe.webhooks")


def parse_types(patterns: Sequence[str], field: str = "event_types") -> tuple[str, ...]:
    """Names of types, or prefixes with * at their end, without repeats. What could never match is refused."""
    if not patterns:
        raise InvalidInput("is required: name event types, e.g. run.completed, or * for all", field=field)
    if len(patterns) > MOST_TYPES:
        raise InvalidInput(f"must be at most {MOST_TYPES}, are {len(patterns)}", field=field)
    known = (*TYPES, *OWN_TYPES)
    for pattern in patterns:
        if _PATTERN.fullmatch(pattern) is None:
            raise InvalidInput(f"{pattern[:100]!r} is no event type, and no prefix with * at its end", field=field)
        # A mistyped one would be waited for in vain. What a template emits is of one type, whatever its name.
        if not any(matches(pattern, kind) for kind in known):
            family = pattern.partition(".")[0].rstrip("*")
            near = sorted(kind for kind in known if kind.startswith(f"{family}.")) or sorted(known)
            raise InvalidInput(f"there is no event type {pattern}; there are {', '.join(near)}", field=field)
    return tuple(dict.fromkeys(patterns))


def matches(pattern: str, kind: str) -> bool:
    """Whether a type is the pattern's, or begins like it when that ends with *."""
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern


@lru_cache(maxsize=4096)
def filter_of(source: str) -> Cel:
    """A subscription's filter.

    Raises:
        ExpressionError: It does not compile.
    """
    return outside_expression(source, FILTER_ROOTS)


class Wanted:
    """Addresses events. Filters that may take long are left to the sender, so that they delay only their own."""

    def __init__(self) -> None:
        self._cel = CelEvaluator()

    def address(self, happened: Sequence[Happened], webhooks: Sequence[Webhook]) -> list[Addressed]:
        """The messages of events of runs, each for those that want it."""
        of_owner: dict[UUID, list[Webhook]] = {}
        for webhook in webhooks:
            of_owner.setdefault(webhook.owner_id, []).append(webhook)
        found = []
        for one in happened:
            candidates = [
                webhook
                for webhook in of_owner.get(one.owner_id, ())
                if webhook.active_from is not None and webhook.active_from <= one.at and _by_type(webhook, one.type)
            ]
            if candidates:
                message, event = run_event(one)
                to, unfiltered = self._filtered(candidates, event)
                found.append(Addressed(message, to, unfiltered))
        return found

    def address_disabled(self, gone: Webhook, others: Sequence[Webhook]) -> Addressed:
        """The message that a subscription was disabled, for those of the others that want it."""
        message, event = disabled(gone)
        return Addressed(message, *self._filtered([w for w in others if _by_type(w, message.type)], event))

    def _filtered(self, webhooks: Sequence[Webhook], event: dict[str, Any]) -> tuple[list[Webhook], set[UUID]]:
        to, unfiltered = [], set()
        for webhook in webhooks:
            if webhook.filter:
                try:
                    expression = filter_of(webhook.filter)
                    bindings = narrowed(expression, {"event": event})
                    if not is_cheap(expression, bindings):
                        unfiltered.add(webhook.id)
                    elif self._cel.evaluate(expression, bindings) is not True:
                        continue
                except ExpressionError as fault:
                    # Most often an event of another type, which has no such field.
                    _log.debug("filter_failed", webhook=str(webhook.id), fault=fault.message)
                    continue
            to.append(webhook)
        return to, unfiltered


def _by_type(webhook: Webhook, kind: str) -> bool:
    return any(matches(pattern, kind) for pattern in webhook.event_types)
