"""Schedules over the API: everything wrong at once, revisions, names, owners."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from wfe.api.v1 import schedule_service_pb2 as pb
from wfe.api.v1 import schedule_service_pb2_grpc
from wfe_engine.errors import NotFound
from wfe_engine.plan import Block, Plan, Variable
from wfe_scheduler.api.engine import StartedRun
from wfe_scheduler.api.schedules import ScheduleService
from wfe_scheduler.plans import Published
from wfe_servicekit.calls import Caller
from wfe_servicekit.testing import refused, served
from wfe_store.firings import Firings
from wfe_store.identity import Identity
from wfe_store.pool import Database
from wfe_store.schedules import Schedules
from wfe_store.templates import Templates

from .conftest import FakeEngine, fields

PLAN = Plan(
    "nightly", (Variable("tone", {"type": "string"}), Variable("token", {"type": "string"}, sensitive=True)),
    Block((), (0,)),
)  # fmt: skip


class Engine(FakeEngine):
    """Knows one template, of one owner."""

    template = uuid.UUID(int=0)
    owner = uuid.UUID(int=0)

    async def published(self, owner: uuid.UUID, template: uuid.UUID, version: int | None) -> Published:
        if (owner, template) != (self.owner, self.template):
            raise NotFound(f"there is no template {template}")
        return Published(template, "nightly", version or 1, PLAN)

    async def start(self, caller: Caller, *arguments: Any, **more: Any) -> StartedRun:
        self.asked.append(("start", caller.principal_id, *arguments, more))
        return self.started


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[Any]:
    """The service with its stub, call metadata, and a request that is accepted."""
    database = Database(database_url, name="wfe-test", size=4)
    await database.open()
    owners = {name: (await Identity(database).seed_owner(name)).owner_id for name in ("acme", "rival")}
    engine = Engine()
    engine.owner = owners["acme"]
    engine.template = (await Templates(database).create(owners["acme"], name="nightly", source="name: nightly")).id
    service = ScheduleService(engine, Schedules(database), Firings(database))
    add = schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server
    async with served([(add, service, "wfe.api.v1.ScheduleService")]) as server:

        class World:
            stub = schedule_service_pb2_grpc.ScheduleServiceStub(server.channel)
            ann = server.bearer("operator", owner_id=owners["acme"])
            bob = server.bearer("operator", owner_id=owners["acme"])
            rival = server.bearer("operator", owner_id=owners["rival"], owner="rival")
            viewer = server.bearer("viewer", owner_id=owners["acme"])

            @staticmethod
            def terms(**changes: Any) -> dict[str, Any]:
                return {"name": "daily", "template_id": str(engine.template), "cron": "0 9 * * *"} | changes

            async def make(self, **changes: Any) -> pb.Schedule:
                return await self.stub.CreateSchedule(
                    pb.CreateScheduleRequest(**self.terms(**changes)), metadata=self.ann
                )

        World.engine = engine
        yield World()
    await database.close()


async def test_a_schedule_says_when_it_fires_next_and_as_whom(world):
    made = await world.make(time_zone="Europe/Berlin", input={"tone": "plain"}, labels={"team": "red"})
    assert (made.status, made.revision, made.overlap, made.catch_up_seconds) == ("active", 1, "skip", 3600)
    assert made.starter == made.created_by
    following = made.next_at.ToDatetime(dt.UTC)
    assert following.minute == 0
    assert following.hour in (7, 8)
    shown = await world.stub.GetSchedule(pb.GetScheduleRequest(id=made.id), metadata=world.viewer)
    assert shown == made
    listed = await world.stub.ListSchedules(pb.ListSchedulesRequest(name="daily"), metadata=world.viewer)
    assert (listed.total, listed.schedules[0].id, listed.schedules[0].HasField("input")) == (1, made.id, False)
    assert (await world.stub.ListSchedules(pb.ListSchedulesRequest(name="other"), metadata=world.viewer)).total == 0


async def test_everything_wrong_with_a_schedule_is_named_at_once(world):
    wrong = pb.CreateScheduleRequest(
        name="", template_id="x", version=0, cron="61 * * * *", time_zone="Moon", overlap="maybe", catch_up_seconds=5,
        labels={"": "x"},
    )  # fmt: skip
    refusal = await refused(world.stub.CreateSchedule(wrong, metadata=world.ann))
    assert fields(refusal) >= {"name", "template_id", "version", "cron", "time_zone", "overlap", "catch_up_seconds"}


@pytest.mark.parametrize(
    ("given", "field"),
    [({"tone": 7}, "input.tone"), ({"other": 1}, "input.other"), ({"token": "s3cret"}, "input.token")],
)
async def test_input_must_fit_and_sensitive_variables_cannot_be_given(world, given, field):
    refusal = await refused(world.make(input=given))
    assert fields(refusal) == {field}
    assert "s3cret" not in repr(refusal)


async def test_an_update_makes_its_caller_the_starter_and_meets_only_the_revision_it_expects(world):
    made = await world.make()
    change = world.terms(id=made.id, name="weekly", cron="0 9 * * MON", expected_revision=1)
    changed = await world.stub.UpdateSchedule(pb.UpdateScheduleRequest(**change), metadata=world.bob)
    assert (changed.name, changed.revision, changed.created_by) == ("weekly", 2, made.created_by)
    assert changed.starter != made.starter
    refusal = await refused(world.stub.UpdateSchedule(pb.UpdateScheduleRequest(**change), metadata=world.ann))
    assert refusal.info.reason == "SCHEDULE_REVISION"
    await world.stub.PauseSchedule(pb.PauseScheduleRequest(id=made.id), metadata=world.ann)
    change.pop("expected_revision")
    paused = await world.stub.UpdateSchedule(pb.UpdateScheduleRequest(**change), metadata=world.ann)
    assert (paused.status, paused.HasField("next_at")) == ("paused", False)


async def test_names_are_unique_within_an_owner(world):
    first = await world.make()
    assert (await refused(world.make())).info.reason == "SCHEDULE_NAME_TAKEN"
    other = await world.make(name="other")
    taken = pb.UpdateScheduleRequest(**world.terms(id=other.id))
    assert (await refused(world.stub.UpdateSchedule(taken, metadata=world.ann))).info.reason == "SCHEDULE_NAME_TAKEN"
    await world.stub.DeleteSchedule(pb.DeleteScheduleRequest(id=first.id), metadata=world.ann)
    await world.stub.UpdateSchedule(taken, metadata=world.ann)


async def test_pause_and_resume_may_be_repeated(world):
    made = await world.make()
    request = pb.PauseScheduleRequest(id=made.id)
    paused = await world.stub.PauseSchedule(request, metadata=world.ann)
    assert await world.stub.PauseSchedule(request, metadata=world.ann) == paused
    resumed = await world.stub.ResumeSchedule(pb.ResumeScheduleRequest(id=made.id), metadata=world.ann)
    assert (resumed.status, resumed.next_at, resumed.revision) == ("active", made.next_at, 3)
    assert resumed.starter == made.starter


async def test_a_run_by_hand_is_its_callers_and_on_record(world):
    made = await world.make(input={"tone": "plain"})
    run = await world.stub.TriggerSchedule(pb.TriggerScheduleRequest(id=made.id), metadata=world.bob)
    assert run.trigger_type == "schedule"
    _, principal, _, _, given, _, key, _, options, _ = world.engine.asked[-1]
    assert (str(principal) != made.starter, given, key) == (True, {"tone": "plain"}, None)
    assert options.trigger == "schedule"
    shown = await world.stub.GetSchedule(pb.GetScheduleRequest(id=made.id), metadata=world.viewer)
    assert [(each.status, each.workflow_id) for each in shown.firings] == [("started", run.id)]


async def test_another_owners_schedule_is_a_missing_one(world):
    made = await world.make()
    calls = {
        "GetSchedule": pb.GetScheduleRequest(id=made.id),
        "PauseSchedule": pb.PauseScheduleRequest(id=made.id),
        "ResumeSchedule": pb.ResumeScheduleRequest(id=made.id),
        "DeleteSchedule": pb.DeleteScheduleRequest(id=made.id),
        "TriggerSchedule": pb.TriggerScheduleRequest(id=made.id),
        "UpdateSchedule": pb.UpdateScheduleRequest(**world.terms(id=made.id)),
    }
    for method, request in calls.items():
        refusal = await refused(getattr(world.stub, method)(request, metadata=world.rival))
        assert refusal.code.name == "NOT_FOUND", method
    assert (await world.stub.ListSchedules(pb.ListSchedulesRequest(), metadata=world.rival)).total == 0
    foreign = await refused(world.stub.CreateSchedule(pb.CreateScheduleRequest(**world.terms()), metadata=world.rival))
    assert foreign.code.name == "NOT_FOUND", "and another owner's template too"
