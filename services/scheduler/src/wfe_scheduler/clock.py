"""The run store's clock, carried on by the monotonic clock between samples."""

from __future__ import annotations

import time

from wfe_store.pool import Database


class StoreClock:
    """Moments by Postgres's clock, in Unix seconds; never goes back.

    Leases, timers and deadlines of all processes are compared with one clock, whatever the machines' own ones say.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._offset = time.time() - time.monotonic()
        self._last = 0.0

    async def sample(self) -> None:
        """Ask Postgres for its time.

        Raises:
            Unavailable: It gave none.
        """
        async with self._database.connection() as connection:
            before = time.monotonic()
            cursor = await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            row = await cursor.fetchone()
            after = time.monotonic()
        assert row is not None
        moment = float(row[0])
        # It was that moment at some time between the two. A slow answer says little: on a busy machine its middle is
        # tens of milliseconds off. What is known already stays as it is, as long as the answer lets it.
        if not moment - after <= self._offset <= moment - before:
            self._offset = moment - (before + after) / 2

    def now(self) -> float:
        """The present moment."""
        # To the microsecond, as the store keeps it: what is folded from stored events is what was decided.
        self._last = max(self._last, round(time.monotonic() + self._offset, 6))
        return self._last
