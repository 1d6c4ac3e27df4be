"""Moments a cron expression names in a time zone.

Days on which clocks change: an expression whose minute and hour are both fixed fires once on such a day. Its time is
skipped in spring: it fires at the first moment after the gap. Its time comes twice in autumn: it fires the first time.
One that begins with `*` in minute or hour fires by elapsed time: nothing in the gap, and in both of the hours that
are called the same.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from wfe_servicekit.checks import Violations

#: Characters of an expression.
LONGEST = 100
#: How far back firings are looked for at first; then further, so that a minutely schedule costs as little as a monthly.
_LOOKS = tuple(dt.timedelta(minutes=minutes) for minutes in (15, 120, 1_440, 20_160))
# A zone's data is read once a process.
_ZONES = frozenset(available_timezones())


class Cron:
    """A cron expression in a time zone, checked.

    Args:
        expression: Five fields: minute, hour, day of month, month, day of week.
        zone: IANA name.

    Raises:
        InvalidInput: With what is wrong, of the fields `cron` and `time_zone`.
    """

    def __init__(self, expression: str, zone: str) -> None:
        faults = Violations()
        if zone not in _ZONES:
            faults.add("time_zone", "is not an IANA time zone such as Europe/Berlin")
        if len(expression) > LONGEST:
            faults.add("cron", f"must be at most {LONGEST} characters, has {len(expression)}")
        elif len(expression.split()) != 5:
            faults.add("cron", "must have five fields: minute, hour, day of month, month, day of week")
        elif (fault := _fault(expression)) is not None:
            faults.add("cron", fault)
        faults.raise_if_any()
        self.expression = expression
        # For UTC itself: with any zone of the database the library looks for days on which clocks change.
        self._zone: dt.tzinfo = dt.UTC if zone == "UTC" else ZoneInfo(zone)

    def after(self, moment: dt.datetime) -> dt.datetime | None:
        """The first firing after a moment, in UTC; None when there is none in 50 years."""
        found: dt.datetime
        for found in CronSim(self.expression, moment.astimezone(self._zone)):
            # On the day clocks go back, the library reads the second of two equal times as the first.
            if found > moment:
                return found.astimezone(dt.UTC)
        return None

    def newest(self, since: dt.datetime, until: dt.datetime, most: int) -> list[dt.datetime]:
        """The newest firings from `since` to `until`, both included, oldest first, at most so many."""
        found: deque[dt.datetime] = deque(maxlen=most)
        for look in (*_LOOKS, None):
            begin = since if look is None else max(since, until - look)
            found.clear()
            at = self.after(begin - dt.timedelta(microseconds=1))
            while at is not None and at <= until:
                found.append(at)
                at = self.after(at)
            if begin == since or len(found) == most:
                break
        return list(found)


def _fault(expression: str) -> str | None:
    """What is wrong with an expression; None when nothing is."""
    try:
        moments = CronSim(expression, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    except (CronSimError, AssertionError, TypeError, ValueError) as fault:
        # Beside its own errors the library has some for terms it never expected, such as 1L/2.
        told = str(fault) if isinstance(fault, CronSimError) else "cannot be read"
        return f"{told[:1].lower()}{told[1:]}"
    return None if next(moments, None) is not None else "names no day there ever is"
