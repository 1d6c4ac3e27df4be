"""Firings on a real Postgres under a clock the test sets, with an engine that starts rows instead of runs."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from wfe_engine.errors import InvalidInput, StateConflict, Unavailable
from wfe_engine.plan import Block, Plan, Variable
from wfe_scheduler.api.engine import StartedRun, StartOptions
from wfe_scheduler.plans import Published
from wfe_scheduler.schedules import Scheduling, reckon
from wfe_servicekit.calls import Caller
from wfe_store.firings import Firings
from wfe_store.identity import Identity
from wfe_store.pool import Connection, Database
from wfe_store.schedules import Schedule, Schedules, Terms
from wfe_store.templates import Templates

NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
PLAN = Plan("nightly", (Variable("tone", {"type": "string"}), Variable("token", {}, sensitive=True)), Block((), (0,)))


class Died(BaseException):
    """The process ends here."""


class World:
    """Schedules of one owner, the clock, and what was started.

    Attributes:
        now: What the clock says.
        begun: Starts and cancels, in order.
        dies: Raised right after a run was started: whoever started it tells nobody.
        refuses: Raised instead of starting.
    """

    def __init__(self, database: Database, owner: uuid.UUID, principal: uuid.UUID, template: uuid.UUID) -> None:
        self.database, self.owner, self.principal, self.template = database, owner, principal, template
        self.schedules = Schedules(database)
        self.firings = Firings(database, self.clock)
        self.now = NOON
        self.begun: list[tuple[str, uuid.UUID]] = []
        self.reasons: list[str] = []
        self.callers: list[Caller] = []
        self.keys: dict[str, uuid.UUID] = {}
        self.dies = False
        self.refuses: Exception | None = None

    async def clock(self, connection: Connection) -> dt.datetime:
        return self.now

    async def make(
        self, cron: str = "* * * * *", *, overlap: str = "allow", catch_up: int = 3600, **more: Any
    ) -> Schedule:
        terms = Terms(
            name=f"s{uuid.uuid4().hex}", template_id=self.template, version=None, labels="{}", cron=cron,
            time_zone="UTC", overlap=overlap, catch_up_seconds=catch_up, **({"input": "{}"} | more),
        )  # fmt: skip
        made = await self.schedules.create(self.owner, self.principal, terms, reckon(terms))
        await self.execute(
            "UPDATE schedules SET next_at = %s, reckoned_at = %s WHERE id = %s",
            reckon(terms)(self.now),
            self.now,
            made.id,
        )
        return made

    async def execute(self, statement: str, *values: Any) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement, values)

    async def log(self, schedule: Schedule) -> list[tuple[str, str]]:
        """Moments and statuses of its firings, oldest first."""
        _, firings = await self.schedules.get(self.owner, schedule.id, firings=1000)
        return [(f"{each.at:%H:%M}", each.status) for each in reversed(firings)]

    async def end(self, run: uuid.UUID) -> None:
        await self.execute("UPDATE runs SET status = 'completed', ended_at = %s WHERE id = %s", self.now, run)

    def later(self, **span: float) -> None:
        self.now += dt.timedelta(**span)

    async def sweep(self) -> None:
        await Scheduling(self.firings, self).run_once()

    # ---- as an engine

    async def published(self, owner: uuid.UUID, template: uuid.UUID, version: int | None) -> Published:
        return Published(template, "nightly", 1, PLAN)

    async def start(
        self, caller: Caller, template: uuid.UUID, version: Any, given: Any, labels: Any, key: str, body: bytes,
        options: StartOptions,
    ) -> StartedRun:  # fmt: skip
        assert options.trigger == "schedule"
        if self.refuses is not None:
            raise self.refuses
        await asyncio.sleep(0)
        self.callers.append(caller)
        if key not in self.keys:
            run = self.keys[key] = uuid.uuid4()
            await self.execute(
                "INSERT INTO runs (id, owner_id, template_id, template_name, template_version, status, version, seq,"
                " state, input, trigger_type, created_by, created_at, updated_at)"
                " VALUES (%s, %s, %s, 'nightly', 1, 'running', 1, 0, '{}', '{}', 'schedule', %s, %s, %s)",
                run, caller.owner_id, template, caller.principal_id, self.now, self.now,
            )  # fmt: skip
            self.begun.append(("start", run))
            self.reasons.append(options.reason)
        if self.dies:
            self.dies = False
            raise Died
        return StartedRun(
            run_id=self.keys[key], template_id=template, template_name="nightly", template_version=1, input={},
            labels={}, created_at=self.now.timestamp(), created_by=caller.principal_id,
        )  # fmt: skip

    async def command(self, caller: Caller, run: uuid.UUID, command: Any, reason: str, *, actor: str) -> None:
        self.begun.append(("cancel", run))


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    identity = Identity(database)
    owner = (await identity.seed_owner(f"o{uuid.uuid4().hex}")).owner_id
    person = await identity.create_principal(owner, name="sam", kind="person", roles=("operator",), subject=None)
    template = await Templates(database).create(owner, name="nightly", source="name: nightly")
    return World(database, owner, person.id, template.id)


async def test_each_moment_starts_one_run_as_the_principal_behind_the_schedule(world):
    schedule = await world.make("*/10 * * * *")
    await world.sweep()
    assert world.begun == [], "nothing is due yet"
    for _ in range(3):
        world.later(minutes=10, seconds=1)
        await world.sweep()
        await world.sweep()
    assert await world.log(schedule) == [("12:10", "started"), ("12:20", "started"), ("12:30", "started")]
    assert len(world.begun) == 3
    assert {caller.principal_id for caller in world.callers} == {world.principal}
    assert world.reasons[0].endswith("firing of 2026-11-24T12:10:00Z")


async def test_many_schedulers_at_once_start_one_run_for_each_firing(world):
    schedules = [await world.make() for _ in range(5)]
    others = [Scheduling(Firings(world.database, world.clock), world) for _ in range(6)]
    for _ in range(4):
        world.later(minutes=1)
        await asyncio.gather(*(other.run_once() for other in others))
    await world.sweep()
    assert len(world.begun) == 5 * 4
    for schedule in schedules:
        assert [status for _, status in await world.log(schedule)] == ["started"] * 4


async def test_a_death_between_the_start_and_its_record_starts_nothing_twice(world):
    schedule = await world.make(overlap="skip")
    world.later(minutes=1)
    world.dies = True
    with pytest.raises(Died):
        await world.sweep()
    assert await world.log(schedule) == [("12:01", "starting")]
    await world.sweep()
    assert await world.log(schedule) == [("12:01", "started")], "its own run does not make it skip"
    assert len(world.begun) == 1


async def test_what_was_decided_on_a_firing_is_not_decided_again(world):
    schedule = await world.make(overlap="skip")
    world.later(minutes=1)
    world.refuses = Unavailable("the bus is down")
    with pytest.raises(Unavailable):
        await world.sweep()
    world.refuses = None
    by_hand = await world.start(
        Caller(world.owner, "", world.principal, "", "", frozenset(), frozenset()), world.template, None, {}, {}, "key",
        b"", StartOptions(trigger="schedule"),
    )  # fmt: skip
    await world.firings.triggered(schedule.id, world.now + dt.timedelta(seconds=1), by_hand.run_id)
    await world.sweep()
    assert await world.log(schedule) == [("12:01", "started")] * 2, "it was to start before that run began"


async def test_skip_starts_nothing_while_a_run_goes_on(world):
    schedule = await world.make(overlap="skip")
    for _ in range(3):
        world.later(minutes=1)
        await world.sweep()
    await world.end(world.begun[0][1])
    world.later(minutes=1)
    await world.sweep()
    log = await world.log(schedule)
    assert log == [("12:01", "started"), ("12:02", "skipped"), ("12:03", "skipped"), ("12:04", "started")]
    _, firings = await world.schedules.get(world.owner, schedule.id, firings=3)
    assert str(world.begun[0][1]) in firings[1].reason


async def test_queue_lets_one_firing_wait_and_no_more(world):
    schedule = await world.make(overlap="queue")
    for _ in range(4):
        world.later(minutes=1)
        await world.sweep()
    assert await world.log(schedule) == [
        ("12:01", "started"), ("12:02", "due"), ("12:03", "skipped"), ("12:04", "skipped")
    ]  # fmt: skip
    await world.sweep()
    assert len(world.begun) == 1
    await world.end(world.begun[0][1])
    await world.sweep()
    assert (await world.log(schedule))[1] == ("12:02", "started")


async def test_cancel_ends_the_run_and_starts_once_it_has_ended(world):
    schedule = await world.make(overlap="cancel")
    world.later(minutes=1)
    await world.sweep()
    first = world.begun[0][1]
    world.later(minutes=1)
    await world.sweep()
    assert world.begun == [("start", first), ("cancel", first)], "it may have something to take back first"
    await world.end(first)
    await world.sweep()
    assert [what for what, _ in world.begun] == ["start", "cancel", "start"]
    assert [status for _, status in await world.log(schedule)] == ["started", "started"]


async def test_allow_starts_whatever_goes_on(world):
    await world.make(overlap="allow")
    for _ in range(3):
        world.later(minutes=1)
        await world.sweep()
    assert [what for what, _ in world.begun] == ["start"] * 3


@pytest.mark.parametrize(
    ("catch_up", "down", "expected"),
    [
        (3600, {"minutes": 3}, ["started"] * 3),
        (90, {"minutes": 3}, ["missed", "started", "started"]),
        (10, {"minutes": 3, "seconds": 30}, ["missed"]),
        (604_800, {"hours": 5}, ["missed"] + ["started"] * 10),
        (604_800, {"days": 400}, ["missed"] + ["started"] * 10),
    ],
)
async def test_after_downtime_the_newest_firings_happen_and_one_row_stands_for_the_rest(
    world, catch_up, down, expected
):
    schedule = await world.make(catch_up=catch_up)
    world.later(**down)
    await world.sweep()
    assert [status for _, status in await world.log(schedule)] == expected
    found, _ = await world.schedules.get(world.owner, schedule.id)
    assert world.now < found.next_at <= world.now + dt.timedelta(minutes=1)
    await world.sweep()
    assert len(world.begun) == expected.count("started")


async def test_a_clock_that_jumps_ahead_and_back_repeats_nothing_and_stops_nothing(world):
    schedule = await world.make("0 * * * *", catch_up=600)
    world.later(days=365)
    await world.sweep()
    world.later(days=-365, seconds=30)
    await world.sweep()
    found, _ = await world.schedules.get(world.owner, schedule.id)
    assert found.next_at == NOON + dt.timedelta(hours=1), "and not in a year"
    before = len(world.begun)
    world.now = NOON + dt.timedelta(hours=1)
    await world.sweep()
    # The row for 13:00 stands for what the jump had missed: it has had its turn.
    assert len(world.begun) == before
    world.later(hours=1)
    await world.sweep()
    assert len(world.begun) == before + 1


async def test_a_small_step_back_repeats_nothing(world):
    schedule = await world.make()
    world.later(minutes=1, seconds=1)
    await world.sweep()
    world.later(seconds=-5)
    await world.sweep()
    world.later(seconds=5)
    await world.sweep()
    assert await world.log(schedule) == [("12:01", "started")]


async def test_a_paused_schedule_starts_nothing_and_goes_on_from_its_resumption(world):
    schedule = await world.make(overlap="queue")
    world.later(minutes=1)
    await world.sweep()
    world.later(minutes=1)
    await world.sweep()
    paused = await world.schedules.pause(world.owner, schedule.id)
    assert paused.next_at is None
    assert await world.log(schedule) == [("12:01", "started"), ("12:02", "skipped")]
    assert (await world.schedules.pause(world.owner, schedule.id)).revision == paused.revision
    world.later(hours=1)
    await world.sweep()
    assert len(world.begun) == 1
    resumed = await world.schedules.resume(world.owner, schedule.id, reckon)
    assert resumed.paused_at is None
    assert resumed.next_at > resumed.reckoned_at, "what was due meanwhile does not happen"


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (
            StateConflict("template nightly is deprecated", reason="TEMPLATE_DEPRECATED"),
            "TEMPLATE_DEPRECATED: template",
        ),
        (InvalidInput("wrong", field="input.tone", reason="INVALID_RUN_INPUT"), "INVALID_RUN_INPUT: input.tone"),
    ],
)
async def test_a_start_that_is_refused_is_on_record_and_the_next_firing_is_tried(world, refusal, reason):
    schedule = await world.make()
    world.later(minutes=1)
    world.refuses = refusal
    await world.sweep()
    _, firings = await world.schedules.get(world.owner, schedule.id, firings=1)
    assert (firings[0].status, firings[0].run_id) == ("failed", None)
    assert firings[0].reason.startswith(reason)
    world.refuses = None
    world.later(minutes=1)
    await world.sweep()
    assert [status for _, status in await world.log(schedule)] == ["failed", "started"]


async def test_a_start_that_could_not_be_made_now_is_made_later(world):
    schedule = await world.make()
    world.later(minutes=1)
    world.refuses = Unavailable("the store is down")
    with pytest.raises(Unavailable):
        await world.sweep()
    world.refuses = None
    await world.sweep()
    assert await world.log(schedule) == [("12:01", "started")]


async def test_input_is_checked_anew_at_every_firing(world):
    for given, wrong in (
        ({"tone": 7}, "input.tone"),
        ({"token": "s3cret"}, "sensitive"),
        ({"nothing": 1}, "input.nothing"),
    ):
        schedule = await world.make(input=msgspec.json.encode(given).decode())
        world.later(minutes=1)
        await world.sweep()
        _, firings = await world.schedules.get(world.owner, schedule.id, firings=1)
        assert firings[0].status == "failed"
        assert wrong in firings[0].reason
        assert "s3cret" not in firings[0].reason
        await world.schedules.delete(world.owner, schedule.id)


async def test_nobody_is_behind_a_schedule_once_its_starter_is_shut_out(world):
    schedule = await world.make()
    await world.execute("UPDATE principals SET disabled_at = clock_timestamp() WHERE id = %s", world.principal)
    world.later(minutes=1)
    await world.sweep()
    _, firings = await world.schedules.get(world.owner, schedule.id, firings=1)
    assert firings[0].reason.startswith("STARTER_DISABLED")
    assert world.begun == []


async def test_only_the_newest_hundred_firings_are_kept(world):
    schedule = await world.make()
    for _ in range(105):
        world.later(minutes=1)
        await world.sweep()
    assert len(await world.log(schedule)) == 100
    assert len(world.begun) == 105
