"""What all events have in common."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of every event.

    Attributes:
        TYPE: Name in the log, in the API and in webhooks.
    """

    TYPE: ClassVar[str] = ""
