"""Cron: days on which clocks change, what is refused, and the firings of a span."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from wfe_engine.errors import InvalidInput
from wfe_scheduler.cron import Cron

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def firings(cron: Cron, after: str, count: int) -> list[str]:
    found, at = [], utc(after)
    for _ in range(count):
        at = cron.after(at)
        assert at is not None
        found.append(f"{at:%m-%dT%H:%M}")
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        # Fixed times in spring: 02:30 is not there on 29 March, and 03:00 is the first moment after the gap.
        ("30 2 * * *", BERLIN, "2026-03-28T00:00", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00", ["03-08T07:00", "03-09T06:30"]),
        # Half an hour only is left out there.
        ("15 2 * * *", LORD_HOWE, "2026-10-03T00:00", ["10-03T15:30", "10-04T15:15"]),
        # Two times that fall to the same moment are one firing.
        ("0,30 2,3 * * *", BERLIN, "2026-03-29T00:00", ["03-29T01:00", "03-29T01:30", "03-30T00:00"]),
        # Fixed times in autumn: the first 02:30 of 25 October, and not the second.
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["10-25T00:30", "10-26T01:30"]),
        ("30 2 * * *", BERLIN, "2026-10-25T00:30", ["10-26T01:30"]),
        ("30 2 * * *", BERLIN, "2026-10-25T01:10", ["10-26T01:30"]),
        # By elapsed time: nothing in the gap, and both hours that are called two.
        ("*/30 * * * *", BERLIN, "2026-03-29T00:15", ["03-29T00:30", "03-29T01:00", "03-29T01:30"]),
        ("0 * * * *", BERLIN, "2026-10-24T23:30", ["10-25T00:00", "10-25T01:00", "10-25T02:00"]),
        # Without a zone nothing ever changes.
        ("30 2 * * *", "UTC", "2026-03-28T12:00", ["03-29T02:30", "03-30T02:30"]),
        ("0 9 * * MON-FRI", BERLIN, "2026-11-27T09:00", ["11-30T08:00"]),
        ("0 0 L * *", "UTC", "2026-02-01T00:00", ["02-28T00:00", "03-31T00:00"]),
        ("0 0 * * MON#2", "UTC", "2026-02-01T00:00", ["02-09T00:00", "03-09T00:00"]),
    ],
)
def test_firings(expression, zone, after, expected):
    assert firings(Cron(expression, zone), after, len(expected)) == expected


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE, "America/Sao_Paulo", "Pacific/Apia"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "0 0 * * *", "*/20 * * * *", "15,45 1-3 * * SUN"])
def test_firings_always_go_forward_and_a_daily_one_comes_once_a_day(expression, zone):
    cron, at, found = Cron(expression, zone), utc("2026-01-01T00:00"), []
    for _ in range(800):
        at = cron.after(at)
        found.append(at)
    assert all(early < late for early, late in itertools.pairwise(found))
    if expression.startswith(("30 2", "0 0")):
        assert all(
            dt.timedelta(hours=22) < late - early < dt.timedelta(hours=26) for early, late in itertools.pairwise(found)
        )


@pytest.mark.parametrize(
    ("expression", "zone", "fields"),
    [
        ("", "UTC", {"cron"}),
        ("* * * *", "UTC", {"cron"}),
        ("0 * * * * *", "UTC", {"cron"}),
        ("60 * * * *", "UTC", {"cron"}),
        ("* * 30 2 *", "UTC", {"cron"}),
        ("* * 31 4,6 */2", "UTC", {"cron"}),
        ("* * * * 1L/2", "UTC", {"cron"}),
        ("* * L,1/0 * *", "UTC", {"cron"}),
        ("@daily", "UTC", {"cron"}),
        ("* * * * * " + " " * 100, "UTC", {"cron"}),
        ("0 9 * * *", "Mars/Olympus", {"time_zone"}),
        ("0 9 * * *", "../../etc/passwd", {"time_zone"}),
        ("0 9 * * *", "", {"time_zone"}),
        ("nonsense", "CET/nonsense", {"cron", "time_zone"}),
    ],
)
def test_what_is_refused(expression, zone, fields):
    with pytest.raises(InvalidInput) as refusal:
        Cron(expression, zone)
    assert {violation.field for violation in refusal.value.violations} == fields


def test_the_newest_firings_of_a_span():
    minutely, daily = Cron("* * * * *", "UTC"), Cron("0 9 * * *", BERLIN)
    since, until = utc("2026-03-20T00:00"), utc("2026-03-30T12:00:30")
    assert minutely.newest(since, until, 3) == [
        utc("2026-03-30T11:58"),
        utc("2026-03-30T11:59"),
        utc("2026-03-30T12:00"),
    ]
    assert [f"{at:%dT%H:%M}" for at in daily.newest(since, until, 3)] == ["28T08:00", "29T07:00", "30T07:00"]
    assert len(daily.newest(since, until, 100)) == 11
    assert minutely.newest(until, until, 3) == []
    assert minutely.newest(utc("2026-03-30T12:00"), utc("2026-03-30T12:00"), 3) == [utc("2026-03-30T12:00")]


def test_the_newest_firings_of_a_long_span_cost_no_more_than_those_of_a_short_one(monkeypatch):
    asked = 0
    after = Cron.after

    def counted(self, moment):
        nonlocal asked
        asked += 1
        return after(self, moment)

    monkeypatch.setattr(Cron, "after", counted)
    for expression in ("* * * * *", "0 * * * *", "0 9 * * *", "0 0 1 1 *"):
        Cron(expression, BERLIN).newest(utc("2016-01-01T00:00"), utc("2026-01-01T00:00"), 10)
    assert asked < 4_000, "and not five million"
