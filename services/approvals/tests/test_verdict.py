"""What follows from an attempt, as a table; and who wants which event."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest
from wfe_approvals.webhooks.payload import MOST_DATA, run_event
from wfe_approvals.webhooks.verdict import MOST_PAUSE, SCHEDULE, judge
from wfe_approvals.webhooks.wanted import Wanted, matches, parse_types
from wfe_engine.errors import InvalidInput
from wfe_engine.events import TYPES
from wfe_store.webhook_feed import Happened
from wfe_store.webhooks import Webhook

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OWNER = uuid.uuid4()


def verdict(status, *, error="", retry_after=None, attempts=0, chance=0.0):
    return judge(status, error, retry_after, attempts=attempts, schedule=SCHEDULE, chance=chance, now=NOW)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_only_2xx_is_success(status):
    found = verdict(status)
    assert (found.status, found.error, found.pause) == ("delivered", "", 0)


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 304, 307, 308, 400, 401, 404, 409, 418, 500, 501])
def test_everything_else_comes_again(status):
    found = verdict(status)
    assert (found.status, found.delay, found.pause, found.gone) == ("pending", 5, 0, False)
    assert str(status) in found.error
    assert ("redirect" in found.error) == (300 <= status < 400)


def test_the_schedule_to_its_end():
    assert SCHEDULE == (0, 5, 300, 1800, 7200, 18000, 36000, 36000)
    delays = [verdict(500, attempts=made).delay for made in range(7)]
    assert delays == [5, 300, 1800, 7200, 18000, 36000, 36000]
    assert verdict(500, attempts=7).status == "failed"
    assert verdict(0, error="it did not answer", attempts=7).error == "it did not answer"
    assert verdict(500, chance=1.0).delay == pytest.approx(5.5)


def test_410_is_the_end_of_the_subscription():
    found = verdict(410)
    assert (found.status, found.gone) == ("failed", True)


@pytest.mark.parametrize(
    ("status", "retry_after", "pause"),
    [
        (429, None, 10), (429, "120", 120), (503, "120", 120), (502, "7", 7), (504, None, 0), (503, None, 0),
        (429, "Fri, 02 Jan 2026 03:05:05 GMT", 60), (429, "Thu, 01 Jan 2026 00:00:00 GMT", 10),
        (429, "999999999", MOST_PAUSE), (429, "soon", 10), (429, "-5", 10), (429, "1.5", 10), (500, "120", 0),
    ],
)  # fmt: skip
def test_who_is_overloaded_is_left_alone(status, retry_after, pause):
    found = verdict(status, retry_after=retry_after)
    assert found.pause == pytest.approx(pause)
    assert found.delay == max(5, found.pause)


def webhook(types=("*",), filter="", **changed):  # noqa: A002
    plain = Webhook(
        id=uuid.uuid4(), owner_id=OWNER, name="", url="https://example.com", event_types=tuple(types), filter=filter,
        ordered=False, version=1, active_from=NOW, failing_since=None, paused_until=None, disabled_at=None,
        disabled_reason="", created_by=OWNER, created_at=NOW,
    )  # fmt: skip
    return plain.__class__(**{name: getattr(plain, name) for name in plain.__slots__} | changed)


def happened(kind="run.completed", data="{}", labels="{}", **changed):
    given = {
        "owner_id": OWNER, "run_id": uuid.uuid4(), "seq": 7, "at": NOW, "type": kind, "actor": "system", "reason": "",
        "data": data, "template_id": uuid.uuid4(), "template_name": "publish", "template_version": 2, "labels": labels,
    }  # fmt: skip
    return Happened(**given | changed)


def told(one, *webhooks):
    """Which of the webhooks are told, and which of those have their filter still before them."""
    found = Wanted().address([one], webhooks)
    to = [w.id for one in found for w in one.to]
    return [w.id in to for w in webhooks], [w.id in a.unfiltered for a in found for w in a.to]


def test_types_and_prefixes():
    assert matches("*", "run.completed")
    assert matches("run.*", "run.completed")
    assert not matches("run.*", "runner.up")
    assert not matches("run.complete", "run.completed")
    kinds = ["run.completed", "approval.*", "*", "step.completed"]
    assert told(happened(), *(webhook([kind]) for kind in kinds))[0] == [True, False, True, False]


@pytest.mark.parametrize(
    "types", [[], ["run.complete"], ["run."], ["Run.*"], ["a*b"], ["*.completed"], ["x"], ["*"] * 51]
)
def test_types_that_could_never_match_are_refused(types):
    with pytest.raises(InvalidInput):
        parse_types(types)


def test_every_type_of_the_engine_can_be_subscribed_to_once():
    for kind in TYPES:
        assert parse_types([kind]) == (kind,)
    assert parse_types(["emitted", "webhook.disabled", "run.*", "run.*"]) == ("emitted", "webhook.disabled", "run.*")


def test_filters_see_the_event():
    one = happened(labels='{"team": "red"}')
    filters = [
        'event.data.workflow.labels.team == "red"', 'event.data.workflow.labels.team == "blue"',
        "event.data.missing == 1", 'event.type == "run.completed"', "event.data.seq", '"true"',
    ]  # fmt: skip
    found, unfiltered = told(one, *(webhook(filter=each) for each in filters))
    assert found == [True, False, False, True, False, False]
    assert not any(unfiltered)


def test_filters_that_may_take_long_are_left_to_the_sender():
    slow = webhook(filter='event.data.workflow.labels.exists(k, k == "team")')
    assert told(happened(), slow) == ([True], [True])


def test_only_the_owners_subscriptions_and_only_from_their_moment_on():
    other = webhook(owner_id=uuid.uuid4())
    later = webhook(active_from=NOW.replace(second=6))
    assert told(happened(), other, later, webhook())[0] == [False, False, True]


def test_the_payload_is_a_cloud_event():
    one = happened("step.completed", data='{"step":"a","no":1,"i":0,"scope":"","scopes":{},"attempt":1}')
    message, event = run_event(one)
    assert json.loads(message.body) == event
    assert event["specversion"] == "1.0"
    assert (event["id"], event["type"]) == (message.id, "step.completed")
    assert event["time"] == "2026-01-02T03:04:05Z"
    assert event["subject"] == f"workflows/{one.run_id}"
    assert event["data"]["event"] == {"step": "a", "no": 1, "attempt": 1}
    assert event["data"]["workflow"]["template"]["name"] == "publish"
    # The same event again is the same message; the id has none of the signature's separators.
    assert run_event(one)[0] == message
    assert "." not in message.id


def test_large_data_is_fetched_from_the_run():
    one = happened(data=json.dumps({"input": "x" * MOST_DATA}))
    assert "see /api/v1/workflows/" in run_event(one)[1]["data"]["event"]["omitted"]
