"""ScheduleService: schedules of an owner, which start runs by cron."""

# ruff: noqa: N802, ARG002 - gRPC gives methods their names and arguments

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

import msgspec
import structlog
from wfe.api.v1 import schedule_service_pb2 as pb
from wfe.api.v1 import schedule_service_pb2_grpc, workflow_pb2
from wfe_servicekit.calls import current_caller, http_status
from wfe_servicekit.checks import Violations, choice, plain_text, struct_to_dict, timestamp
from wfe_servicekit.values import dict_to_struct
from wfe_store.firings import Firings
from wfe_store.schedules import Firing, Schedule, Schedules, Terms

from wfe_scheduler.api import mapping, requests
from wfe_scheduler.api.engine import Engine, StartOptions
from wfe_scheduler.cron import Cron
from wfe_scheduler.schedules import check_scheduled, reckon

LONGEST_NAME = 100
#: Bytes of a schedule's input: it is read at every firing.
MOST_INPUT = 256 << 10
OVERLAPS = ("skip", "queue", "cancel", "allow")
#: Seconds a firing may be late.
LEAST_CATCH_UP, MOST_CATCH_UP, CATCH_UP = 10, 604_800, 3_600
#: Firings in the answer to a get.
SHOWN = 20

_log = structlog.get_logger("wfe.schedules")


class ScheduleService(schedule_service_pb2_grpc.ScheduleServiceServicer):  # type: ignore[misc]
    """Checks requests, asks the store, maps answers. Every call is scoped to the caller's owner."""

    def __init__(self, engine: Engine, schedules: Schedules, firings: Firings) -> None:
        self._engine = engine
        self._schedules = schedules
        self._firings = firings

    async def CreateSchedule(self, request: pb.CreateScheduleRequest, context: Any) -> pb.Schedule:
        """Make a schedule; 201.

        Raises:
            InvalidInput: With every violation; those of the input only once the rest is right.
            NotFound, StateConflict: About the template.
            AlreadyExists: The name is taken.
            ResourceExhausted: There are too many.
        """
        faults = Violations()
        terms = _terms(faults, request)
        faults.raise_if_any()
        await self._check(terms)
        caller = current_caller()
        made = await self._schedules.create(caller.owner_id, caller.principal_id, terms, reckon(terms))
        _log.info("schedule made", schedule=str(made.id), principal=str(caller.principal_id))
        http_status(201)
        return _message(made)

    async def UpdateSchedule(self, request: pb.UpdateScheduleRequest, context: Any) -> pb.Schedule:
        """Replace what a schedule says.

        Raises:
            As for making one; besides
            NotFound: There is no such schedule.
            StateConflict: It has another revision than expected.
        """
        faults = Violations()
        schedule = requests.uuid(faults, request.id, "id")
        terms = _terms(faults, request)
        expected = None
        if request.HasField("expected_revision"):
            expected = requests.at_least(faults, request.expected_revision, "expected_revision", 1)
        faults.raise_if_any()
        caller = current_caller()
        await self._schedules.get(caller.owner_id, schedule)
        await self._check(terms)
        made = await self._schedules.update(
            caller.owner_id, schedule, caller.principal_id, terms, reckon(terms), expected=expected
        )
        _log.info("schedule updated", schedule=str(schedule), principal=str(caller.principal_id))
        return _message(made)

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Any) -> pb.ListSchedulesResponse:
        """A page of the owner's schedules, by name."""
        faults = Violations()
        with faults.collect():
            plain_text(request.name, "name", longest=LONGEST_NAME)
        limit, offset = requests.page_of(faults, request)
        faults.raise_if_any()
        found, total = await self._schedules.list(
            current_caller().owner_id, name=request.name, limit=limit, offset=offset
        )
        shown = [_message(schedule) for schedule in found]
        for message in shown:
            message.ClearField("input")
        return pb.ListSchedulesResponse(schedules=shown, total=total, limit=limit, offset=offset)

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Any) -> pb.Schedule:
        """One schedule with its newest firings."""
        schedule = _id(request)
        found, firings = await self._schedules.get(current_caller().owner_id, schedule, firings=SHOWN)
        message = _message(found)
        message.firings.extend(_firing(each) for each in firings)
        return message

    async def PauseSchedule(self, request: pb.PauseScheduleRequest, context: Any) -> pb.Schedule:
        """Let no more firings happen."""
        schedule, caller = _id(request), current_caller()
        paused = await self._schedules.pause(caller.owner_id, schedule)
        _log.info("schedule paused", schedule=str(schedule), principal=str(caller.principal_id))
        return _message(paused)

    async def ResumeSchedule(self, request: pb.ResumeScheduleRequest, context: Any) -> pb.Schedule:
        """Let firings happen again, from now on."""
        schedule, caller = _id(request), current_caller()
        resumed = await self._schedules.resume(caller.owner_id, schedule, reckon)
        _log.info("schedule resumed", schedule=str(schedule), principal=str(caller.principal_id))
        return _message(resumed)

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, context: Any) -> pb.Schedule:
        """Remove a schedule; its runs go on."""
        schedule, caller = _id(request), current_caller()
        gone = await self._schedules.delete(caller.owner_id, schedule)
        _log.info("schedule deleted", schedule=str(schedule), principal=str(caller.principal_id))
        return _message(gone)

    async def TriggerSchedule(self, request: pb.TriggerScheduleRequest, context: Any) -> workflow_pb2.Workflow:
        """Start a run of a schedule now, as the caller; 201, always pending.

        Raises:
            As for a start; besides
            NotFound: There is no such schedule.
        """
        faults = Violations()
        schedule = requests.uuid(faults, request.id, "id")
        reason = requests.reason(faults, request.reason)
        key = requests.idempotency_key(faults)
        faults.raise_if_any()
        caller = current_caller()
        found, _ = await self._schedules.get(caller.owner_id, schedule)
        terms = found.terms
        await self._check(terms)
        run = await self._engine.start(
            caller,
            terms.template_id,
            terms.version,
            msgspec.json.decode(terms.input),
            msgspec.json.decode(terms.labels),
            key,
            b"" if key is None else requests.body_hash("TriggerSchedule", request),
            StartOptions(trigger="schedule", reason=reason or f"schedule {terms.name}, triggered"),
        )
        await self._firings.triggered(schedule, dt.datetime.fromtimestamp(run.created_at, dt.UTC), run.run_id)
        http_status(201)
        return mapping.started(run, trigger="schedule")

    async def _check(self, terms: Terms) -> None:
        published = await self._engine.published(current_caller().owner_id, terms.template_id, terms.version)
        check_scheduled(published, msgspec.json.decode(terms.input))


def _id(request: Any) -> UUID:
    faults = Violations()
    found = requests.uuid(faults, request.id, "id")
    faults.raise_if_any()
    return found


def _terms(faults: Violations, request: Any) -> Terms:
    """What a request says a schedule is to be, checked as far as that needs no store."""
    with faults.collect():
        plain_text(request.name, "name", longest=LONGEST_NAME, shortest=1)
    template = requests.uuid(faults, request.template_id, "template_id")
    version = None
    if request.HasField("version"):
        version = requests.at_least(faults, request.version, "version", 1)
    given: dict[str, Any] = {}
    if request.HasField("input"):
        with faults.collect():
            given = struct_to_dict(request.input, "input", max_bytes=MOST_INPUT)
    labels = requests.labels(faults, request.labels) if request.labels else {}
    zone, overlap = request.time_zone or "UTC", request.overlap or "skip"
    with faults.collect():
        Cron(request.cron, zone)
    with faults.collect():
        choice(overlap, "overlap", OVERLAPS)
    catch_up = request.catch_up_seconds if request.HasField("catch_up_seconds") else CATCH_UP
    if not LEAST_CATCH_UP <= catch_up <= MOST_CATCH_UP:
        faults.add("catch_up_seconds", f"must be {LEAST_CATCH_UP} to {MOST_CATCH_UP}")
    return Terms(
        name=request.name,
        template_id=template,
        version=version,
        input=msgspec.json.encode(given).decode(),
        labels=msgspec.json.encode(labels).decode(),
        cron=" ".join(request.cron.split()),
        time_zone=zone,
        overlap=overlap,
        catch_up_seconds=catch_up,
    )


def _message(schedule: Schedule) -> pb.Schedule:
    terms = schedule.terms
    return pb.Schedule(
        id=str(schedule.id),
        name=terms.name,
        template_id=str(terms.template_id),
        version=terms.version,
        input=dict_to_struct(msgspec.json.decode(terms.input)),
        labels=msgspec.json.decode(terms.labels),
        cron=terms.cron,
        time_zone=terms.time_zone,
        overlap=terms.overlap,
        catch_up_seconds=terms.catch_up_seconds,
        status="active" if schedule.paused_at is None else "paused",
        next_at=timestamp(schedule.next_at),
        revision=schedule.revision,
        created_by=str(schedule.created_by),
        starter=str(schedule.starter),
        created_at=timestamp(schedule.created_at),
        updated_at=timestamp(schedule.updated_at),
    )


def _firing(firing: Firing) -> pb.Firing:
    return pb.Firing(
        at=timestamp(firing.at),
        # That its run is about to be started is of no use to anybody: it lasts milliseconds, or is tried again.
        status="due" if firing.status == "starting" else firing.status,
        workflow_id="" if firing.run_id is None else str(firing.run_id),
        reason=firing.reason,
    )
