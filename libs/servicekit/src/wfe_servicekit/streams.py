"""Which streams are open, and who may open more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from uuid import UUID

from wfe_engine.errors import ResourceExhausted

from wfe_servicekit.calls import Call

__all__ = ["Streams"]

_RETRY_AFTER = 5.0


class Streams:
    """Streams under way. Those that need no credentials have a room of their own, and take none from the others.

    Args:
        most: Of callers with credentials, at the same time.
        most_of_owner: The same for one owner.
        most_public: Of callers without, all of them together.
    """

    def __init__(self, *, most: int, most_of_owner: int, most_public: int) -> None:
        self._most = most
        self._most_of_owner = most_of_owner
        self._most_public = most_public
        self._open: dict[Call, None] = {}
        self._of_owners: Counter[UUID] = Counter()
        self._known = self._public = 0

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._open))

    def opened(self, call: Call) -> None:
        """A stream begins; who opens it is not known yet."""
        self._open[call] = None

    def admit(self, call: Call) -> None:
        """Count a stream as its caller's, or as one of nobody's.

        Raises:
            ResourceExhausted: There is no room; it is not counted.
        """
        if call.caller is None:
            if self._public >= self._most_public:
                raise _too_many("too many streams without credentials are open")
            self._public += 1
        else:
            if self._known >= self._most:
                raise _too_many("too many streams are open")
            owner = call.caller.owner_id
            if self._of_owners[owner] >= self._most_of_owner:
                raise _too_many("too many streams of this owner are open")
            self._known += 1
            self._of_owners[owner] += 1
        call.counted = True

    def closed(self, call: Call) -> None:
        """A stream has ended."""
        del self._open[call]
        if not call.counted:
            return
        if call.caller is None:
            self._public -= 1
            return
        self._known -= 1
        owner = call.caller.owner_id
        self._of_owners[owner] -= 1
        if not self._of_owners[owner]:
            del self._of_owners[owner]


def _too_many(message: str) -> ResourceExhausted:
    return ResourceExhausted(message, reason="TOO_MANY_STREAMS", retry_after=_RETRY_AFTER)
