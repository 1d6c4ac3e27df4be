"""A good call of every method for schedules; see `calls.SAMPLES`."""

from __future__ import annotations

from typing import Any

_SCHEDULE = {"id": "$schedule"}
_TERMS: dict[str, Any] = {
    "name": "$new_name",
    "template_id": "$template",
    "version": 1,
    "input": {"text": "b"},
    "labels": {"team": "a"},
    "cron": "0 9 * * MON-FRI",
    "time_zone": "Europe/Berlin",
    "overlap": "queue",
    "catch_up_seconds": 60,
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "CreateSchedule": _TERMS,
    "UpdateSchedule": {**_SCHEDULE, **_TERMS, "expected_revision": 1},
    "ListSchedules": {"name": "$schedule_name", "limit": 10, "offset": 0},
    "GetSchedule": _SCHEDULE,
    "PauseSchedule": _SCHEDULE,
    "ResumeSchedule": _SCHEDULE,
    "DeleteSchedule": _SCHEDULE,
    "TriggerSchedule": {**_SCHEDULE, "reason": "why"},
}
