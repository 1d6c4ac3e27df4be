"""What every event has, and every event of a step."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of every event.

    Attributes:
        TYPE: Name in the log, in the API and in webhooks.
    """

    TYPE: ClassVar[str] = ""


class StepEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to one step.

    Attributes:
        step: Its path.
        no: Its number.
        i: Its index in its block.
        scope: Key of its scope; empty for the root.
    """

    step: str
    no: int
    i: int
    scope: str = ""
