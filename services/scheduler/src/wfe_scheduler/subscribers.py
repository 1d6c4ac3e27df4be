"""Which owners have subscriptions, so that only their events cost an entry in the outbox.

The set is read every half second. A reading is good for `GOOD_SECONDS` from the moment it was asked for; when none
came for longer, every owner counts as one with subscriptions, and the statement itself looks. So an event that was
decided `wfe_store.webhooks.SURE_SECONDS` after a subscription was committed reaches the outbox, whatever happens to
this process in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from wfe_store.pool import Database
from wfe_store.webhooks import GOOD_SECONDS, subscribed_owners

#: Seconds between two readings.
PERIOD = 0.5


class Subscribers:
    """The owners with enabled subscriptions, as last read.

    Args:
        database: The run store.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._owners: frozenset[UUID] = frozenset()
        self._good_until = float("-inf")

    async def run_once(self) -> None:
        """Read the set.

        Raises:
            Unavailable: The store did not answer; the old reading goes on until it is no longer good.
        """
        asked = self._monotonic()
        async with self._database.connection() as connection:
            self._owners = await subscribed_owners(connection)
        self._good_until = asked + GOOD_SECONDS

    def includes(self, owner: UUID) -> bool:
        """Whether the owner has subscriptions, as far as is known."""
        return owner in self._owners or self._monotonic() > self._good_until
