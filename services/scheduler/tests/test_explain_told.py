"""Why a schedule does not fire and a webhook is not told, from facts in the store."""

from __future__ import annotations

import datetime as dt
import json
import uuid

import pytest
from wfe_scheduler.explain_told import explain_schedule, explain_webhook
from wfe_store.explaining_told import schedule_facts, webhook_facts
from wfe_store.pool import Database

OWNER, ANOTHER = uuid.UUID(int=7), uuid.UUID(int=8)
NOW = dt.datetime.now(dt.UTC)
LONG_AGO = NOW - dt.timedelta(minutes=10)
JUST_NOW = NOW
SOON = NOW + dt.timedelta(hours=1)


@pytest.fixture
async def given(database: Database):
    """Puts rows into a table."""

    async def put(table, **values):
        marks = ", ".join(["%s"] * len(values))
        async with database.connection() as connection:
            await connection.execute(
                f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", list(values.values())
            )

    await put("owners", id=OWNER, name="acme")
    return put


@pytest.fixture
def schedule(given, database: Database):
    """Makes a schedule with a firing, and explains it."""

    async def make(firing=None, *, active=False, **values):
        template, made = uuid.uuid4(), uuid.uuid4()
        await given("templates", id=template, owner_id=OWNER, name=template.hex, draft="")
        defaults = {
            "id": made, "owner_id": OWNER, "name": made.hex, "template_id": template, "input": "{}", "labels": "{}",
            "cron": "* * * * *", "time_zone": "UTC", "overlap": "skip", "catch_up_seconds": 3600, "next_at": SOON,
            "reckoned_at": LONG_AGO, "created_by": OWNER, "starter": OWNER,
        }  # fmt: skip
        await given("schedules", **(defaults | values))
        run = None
        if active:
            run = uuid.uuid4()
            await given(
                "runs", id=run, owner_id=OWNER, template_id=template, template_name="t", template_version=1,
                status="running", version=1, seq=1, state="{}", input="{}", trigger_type="schedule", created_by=OWNER,
                created_at=LONG_AGO, updated_at=LONG_AGO,
            )  # fmt: skip
            early = LONG_AGO - dt.timedelta(minutes=10)
            await given("schedule_firings", schedule_id=made, at=early, status="started", run_id=run)
        if firing:
            status, at, reason = firing
            await given("schedule_firings", schedule_id=made, at=at, status=status, reason=reason)
        async with database.connection() as connection:
            assert await schedule_facts(connection, ANOTHER, made) is None
            return explain_schedule(await schedule_facts(connection, OWNER, made)), run

    return make


async def test_a_schedule_that_waits_for_its_moment(schedule):
    said, _ = await schedule()
    assert (said.reason, said.until, said.action) == ("WAITING_TIME", SOON, "")


async def test_a_schedule_that_is_paused(schedule):
    said, _ = await schedule(next_at=None, paused_at=LONG_AGO)
    assert (said.reason, said.since, said.action) == ("PAUSED", LONG_AGO, "resume it")


async def test_a_schedule_that_never_fires_again(schedule):
    assert (await schedule(next_at=None))[0].reason == "NEVER"


@pytest.mark.parametrize(("overlap", "does"), [("queue", "waits for the end of run"), ("cancel", "has cancelled run")])
async def test_a_firing_behind_a_run_that_goes_on(schedule, overlap, does):
    said, run = await schedule(("due", LONG_AGO, ""), active=True, overlap=overlap)
    assert (said.reason, said.since, said.details["run"]) == ("OVERLAP", LONG_AGO, str(run))
    assert f"{does} {run}" in said.message
    assert said.action == f"ask why {run} is not moving"


@pytest.mark.parametrize("firing", [None, ("due", LONG_AGO, ""), ("starting", LONG_AGO, "")])
async def test_a_moment_nobody_took_up(schedule, firing):
    said, _ = await schedule(firing, next_at=SOON if firing else LONG_AGO)
    assert (said.reason, said.since) == ("FIRING_LATE", LONG_AGO)


async def test_a_firing_of_this_moment(schedule, database: Database):
    assert (await schedule(("due", dt.datetime.now(dt.UTC), "")))[0].reason == "HANDED_OUT"


@pytest.mark.parametrize("status", ["skipped", "missed", "failed"])
async def test_a_last_firing_that_started_nothing(schedule, status):
    said, run = await schedule((status, LONG_AGO, "WHY: so"), active=True)
    assert (said.reason, said.since, said.until) == (status.upper(), LONG_AGO, SOON)
    assert said.message.endswith("WHY: so")
    assert (str(run) in said.action) == (status == "skipped"), "the run in whose favour it was skipped"
    assert said.details["active"] == str(run)


@pytest.fixture
def webhook(given, database: Database):
    """Makes a webhook with a delivery, and explains it."""

    async def make(delivery=None, **values):
        made = uuid.uuid4()
        defaults = {
            "id": made, "owner_id": OWNER, "name": "w", "url": "u", "event_types": ["*"], "active_from": LONG_AGO,
            "created_by": OWNER,
        }  # fmt: skip
        await given("webhooks", **(defaults | values))
        if delivery is not None:
            await given(
                "webhook_deliveries", id=uuid.uuid4(), owner_id=OWNER, webhook_id=made, message_id=made.hex, **delivery
            )
        async with database.connection() as connection:
            assert await webhook_facts(connection, ANOTHER, made) is None
            return explain_webhook(await webhook_facts(connection, OWNER, made))

    return make


@pytest.mark.parametrize(
    ("why", "said"),
    [("asked", "somebody disabled it"), ("gone", "it answered 410"), ("failing", "it failed for too long")],
)
async def test_a_webhook_that_is_disabled(webhook, why, said):
    found = await webhook({"status": "failed", "next_at": LONG_AGO}, disabled_at=LONG_AGO, disabled_reason=why)
    assert (found.reason, found.since) == ("DISABLED", LONG_AGO)
    assert said.removeprefix("it ") in found.message
    assert (found.details["failed"], found.details["disabled_reason"]) == ("1", why)


async def test_a_receiver_that_asked_to_be_left_alone(webhook):
    found = await webhook({"status": "pending", "next_at": LONG_AGO}, paused_until=SOON)
    assert (found.reason, found.until) == ("RECEIVER_BUSY", SOON)


async def test_a_delivery_nobody_took_up(webhook):
    found = await webhook({"status": "pending", "next_at": LONG_AGO})
    assert (found.reason, found.since, found.details["pending"]) == ("TOLD_LATE", LONG_AGO, "1")


async def test_a_held_delivery_is_late_for_nobody(webhook):
    assert (await webhook({"status": "pending", "next_at": LONG_AGO, "held": True})).reason == "MOVING"


async def test_an_event_nobody_made_deliveries_of(webhook, given):
    run = uuid.uuid4()
    await given("events", run_id=run, seq=1, at=LONG_AGO, type="run.created", actor="system", data="{}")
    await given("webhook_outbox", owner_id=OWNER, run_id=run, first_seq=1, last_seq=1)
    found = await webhook()
    assert (found.reason, found.since) == ("TOLD_LATE", LONG_AGO)


async def test_an_attempt_that_failed(webhook):
    log = [json.dumps({"status": 500, "error": "it answered 500"})]
    found = await webhook({"status": "pending", "next_at": SOON, "attempts": 2, "log": log}, failing_since=LONG_AGO)
    assert (found.reason, found.since, found.until) == ("RETRY_LATER", LONG_AGO, SOON)
    assert found.message == "attempt 2 failed: it answered 500"
    assert (found.details["status"], found.details["attempts"]) == ("500", "2")


async def test_a_webhook_that_is_new_and_one_that_was_told_everything(webhook):
    assert (await webhook(active_from=None)).reason == "STARTING"
    assert (await webhook({"status": "delivered", "next_at": LONG_AGO})).reason == "IDLE"
