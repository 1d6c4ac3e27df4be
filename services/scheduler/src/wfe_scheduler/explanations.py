"""What explains why something is not moving."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

#: A run that changed this recently is moving, and a decision or a ready step this young is on its way.
YOUNG = timedelta(seconds=3)


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """See the message of the same name in the API."""

    reason: str
    message: str
    action: str = ""
    step: str = ""
    since: datetime | None = None
    until: datetime | None = None
    details: dict[str, str] = {}
