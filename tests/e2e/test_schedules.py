"""Schedules on the real engine: a firing starts a run as the principal behind it, once, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from typing import Any

import psycopg
import pytest
from e2e_runs import path_of, refused, statuses, until
from wfe_stack.rest import Rest
from wfe_stack.waiting import wait_for

WORK = "name: {name}\nsteps: [{{id: work, call: {{handler: echo, input: {{text: hi}}}}}}]"
WAITS = "name: {name}\nsteps: [{{id: paid, wait_for: {{signal: paid}}}}]"
ASKS = "name: {name}\nsteps: [{{id: ask, approval: {{title: Go on?, approvers: {{groups: [editors]}}}}}}]"


def new_name(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class Minute:
    """The minute before this one, as a cron expression of once a year; so no test waits for the next one."""

    def __init__(self) -> None:
        self.moment = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - dt.timedelta(minutes=1)
        self.cron = f"{self.moment.minute} {self.moment.hour} {self.moment.day} {self.moment.month} *"

    async def has_come(self, url: str, *schedules: dict[str, Any]) -> None:
        """Let it be the next firing of schedules."""
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(
                "UPDATE schedules SET next_at = %s WHERE id = ANY(%s)",
                (self.moment, [uuid.UUID(schedule["id"]) for schedule in schedules]),
            )


async def make(rest: Rest, template: str, minute: Minute, **terms: Any) -> dict[str, Any]:
    given = {"name": new_name("s"), "template_id": template, "cron": minute.cron} | terms
    made: dict[str, Any] = await rest.post("/api/v1/schedules", given)
    assert int(made["next_at"][:4]) > minute.moment.year
    return made


async def firings(rest: Rest, schedule: dict[str, Any], *wanted: str) -> list[dict[str, Any]]:
    """Firings of a schedule, oldest first, once they have these statuses."""

    async def look() -> list[dict[str, Any]] | None:
        shown = await rest.get(f"/api/v1/schedules/{schedule['id']}")
        found = list(reversed(shown.get("firings", [])))
        return found if [each["status"] for each in found] == list(wanted) else None

    found = await wait_for(look, seconds=30, what=f"firings {wanted}")
    assert found is not None
    return found


async def test_a_firing_starts_a_run_whose_starter_is_behind_the_schedule(stack, sam, ada, rest_as, publish):
    minute, template = Minute(), await publish(ASKS.format(name=new_name("asks")))
    schedule = await make(rest_as("max"), template, minute, labels={"kind": "nightly"})
    await minute.has_come(stack.database_url, schedule)
    (firing,) = await firings(sam, schedule, "started")
    run = await until(sam, firing["workflow_id"], "waiting_approval")
    assert (run["trigger_type"], run["labels"]) == ("schedule", {"kind": "nightly"})
    assert run["created_by"] == schedule["starter"]
    assert run["events"][0]["actor"] == f"schedule:{schedule['id']}"
    assert schedule["name"] in run["events"][0]["reason"]
    gate = run["approvals"][0]["id"]
    # An editor like ada, but behind the schedule: a starter may not approve.
    own = await refused(rest_as("max").post(path_of(run["id"], "approvals", gate, "approve")))
    assert own.status == 403
    await ada.post(path_of(run["id"], "approvals", gate, "approve"))
    await until(sam, run["id"], "completed")
    shown = await sam.get(f"/api/v1/schedules/{schedule['id']}")
    assert int(shown["next_at"][:4]) > minute.moment.year, "the next one is in a year"


@pytest.mark.parametrize(
    ("overlap", "first", "then"),
    [
        ("skip", "running", ["skipped", "started"]),
        ("queue", "running", ["due", "started"]),
        ("allow", "running", ["started", "started"]),
        ("cancel", "cancelled", ["started", "started"]),
    ],
)
async def test_what_a_firing_does_while_a_run_goes_on(stack, sam, publish, overlap, first, then):
    minute, template = Minute(), await publish(WAITS.format(name=new_name("waits")))
    schedule = await make(sam, template, minute, overlap=overlap)
    run = await sam.post(f"/api/v1/schedules/{schedule['id']}/trigger", {"reason": "by hand"})
    await until(sam, run["id"], lambda found: statuses(found).get("paid") == "waiting")
    await minute.has_come(stack.database_url, schedule)
    found = await firings(sam, schedule, *then)
    earlier = await until(sam, run["id"], first)
    assert earlier["trigger_type"] == "schedule"
    if overlap == "cancel":
        assert earlier["events"][-1]["actor"] == f"schedule:{schedule['id']}"
    if overlap == "queue":
        await sam.post(path_of(run["id"], "signals", "paid"))
        found = await firings(sam, schedule, "started", "started")
    if overlap != "skip":
        later = await until(sam, found[0]["workflow_id"], lambda each: statuses(each).get("paid") == "waiting")
        assert later["id"] != run["id"]
        await sam.post(path_of(later["id"], "cancel"))


async def test_a_firing_that_cannot_start_says_why(stack, sam, publish):
    minute, template = Minute(), await publish(WORK.format(name=new_name("gone")))
    schedule = await make(sam, template, minute)
    await sam.post(f"/api/v1/templates/{template}/deprecate")
    await minute.has_come(stack.database_url, schedule)
    (firing,) = await firings(sam, schedule, "failed")
    assert firing["reason"].startswith("TEMPLATE_DEPRECATED")
    assert not firing.get("workflow_id")
    late = await refused(sam.post(f"/api/v1/schedules/{schedule['id']}/trigger"))
    assert (late.status, late.reason) == (409, "TEMPLATE_DEPRECATED")


async def test_every_firing_starts_one_run_though_schedulers_are_killed(crash_stack, publish):
    async with Rest(crash_stack.url, crash_stack.keys["sam"], repeat_seconds=30) as sam:
        minute, template = Minute(), await publish(WORK.format(name=new_name("crash")), sam)
        made: list[dict[str, Any]] = []
        for part in ("scheduler", "scheduler-2"):
            more = [await make(sam, template, minute, labels={"n": str(len(made) + n)}) for n in range(20)]
            await minute.has_come(crash_stack.database_url, *more)
            # Killed while it, or the other one, is anywhere between a moment's row and its run.
            await wait_for(lambda more=more: begun(crash_stack.database_url, more), what="a firing")
            await crash_stack.kill(part)
            await crash_stack.restart(part)
            made += more
        for schedule in made:
            await firings(sam, schedule, "started")
        runs = (await sam.get("/api/v1/workflows", template_id=template, limit=200))["workflows"]
        assert sorted(int(run["labels"]["n"]) for run in runs) == list(range(len(made)))
        await asyncio.gather(*(until(sam, run["id"], "completed") for run in runs))


async def begun(url: str, schedules: list[dict[str, Any]]) -> bool:
    """Whether some of these schedules have fired."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        rows = await connection.execute(
            "SELECT 1 FROM schedule_firings WHERE schedule_id = ANY(%s) LIMIT 1",
            ([uuid.UUID(each["id"]) for each in schedules],),
        )
        return await rows.fetchone() is not None
