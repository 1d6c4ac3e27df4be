"""The scheduler put together: everything is built here, in order, and closed in reverse."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from wfe.api.v1 import (
    blob_service_pb2_grpc,
    callback_service_pb2_grpc,
    explain_service_pb2_grpc,
    mending_service_pb2_grpc,
    schedule_service_pb2_grpc,
    secret_service_pb2_grpc,
    system_service_pb2_grpc,
    template_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from wfe_bus import messages as m
from wfe_bus import subjects
from wfe_bus.connection import connect
from wfe_language import ExpressionPool
from wfe_servicekit.auth import Authenticator, load_issuers
from wfe_servicekit.health import Readiness
from wfe_servicekit.large import LargeRequests
from wfe_servicekit.lifecycle import Stack
from wfe_servicekit.loops import PeriodicLoop
from wfe_servicekit.policy import POLICY
from wfe_servicekit.server import build_server
from wfe_servicekit.settings import ConfigFault
from wfe_servicekit.telemetry.start import observe
from wfe_store.firings import Firings
from wfe_store.keys import Keys
from wfe_store.leases import fences
from wfe_store.load import StoredEvent, load_event, load_runs
from wfe_store.pool import Database
from wfe_store.schedules import Schedules
from wfe_store.sealing import read_keys
from wfe_store.secrets import Secrets
from wfe_store.switches import hold_dispatch
from wfe_store.templates import Templates

from wfe_scheduler.api.blobs import BlobService
from wfe_scheduler.api.callbacks import CallbackService
from wfe_scheduler.api.explain import ExplainService
from wfe_scheduler.api.large import large_methods
from wfe_scheduler.api.mending import MendingService
from wfe_scheduler.api.schedules import ScheduleService
from wfe_scheduler.api.secrets import SecretService
from wfe_scheduler.api.system import SystemService
from wfe_scheduler.api.templates import TemplateService
from wfe_scheduler.api.workflows import WorkflowService
from wfe_scheduler.asks import Asks
from wfe_scheduler.callbacks import Callbacks
from wfe_scheduler.children import Children
from wfe_scheduler.clock import StoreClock
from wfe_scheduler.config import SchedulerSettings
from wfe_scheduler.cycle import Cycle
from wfe_scheduler.dispatcher import Dispatcher
from wfe_scheduler.engine import Engine
from wfe_scheduler.entries import Cache, Entry, entry_of
from wfe_scheduler.evaluate import Evaluator
from wfe_scheduler.executors import Executors
from wfe_scheduler.gates import Gates
from wfe_scheduler.limits import Admission
from wfe_scheduler.metrics import Meter, read_gauges
from wfe_scheduler.plans import Plans
from wfe_scheduler.schedules import Scheduling
from wfe_scheduler.seal import Sealer
from wfe_scheduler.subscribers import PERIOD, Subscribers
from wfe_scheduler.survey import Survey
from wfe_scheduler.sweeper import Sweeper
from wfe_scheduler.telling import Teller
from wfe_scheduler.traces import Traces
from wfe_scheduler.unsealing import Unsealing
from wfe_scheduler.watch import Watchers
from wfe_scheduler.work import Outcome

_log = structlog.get_logger("wfe.scheduler")


async def serve(stack: Stack, settings: SchedulerSettings) -> None:
    """Build and start a scheduler; the stack closes it.

    Raises:
        ConfigFault: The port, the key file or the issuers' file cannot be used.
        Unavailable: The store did not answer in time.
    """
    scheduler = f"{socket.gethostname()}-{secrets.token_hex(4)}".replace(".", "-")
    sealer = _sealer(settings)
    callbacks = _callbacks(settings)
    url = settings.database_url.get_secret_value()
    stack.push(await observe("scheduler", settings), "telemetry")

    database = Database(url, name="wfe-scheduler", size=settings.connections)
    await database.open()
    stack.push(database.close, "store")
    clock = StoreClock(database)
    await clock.sample()
    pool = await stack.enter(ExpressionPool(), "expressions")
    large = await stack.enter(LargeRequests(large_methods(callbacks)), "large requests")

    dispatcher_ref: list[Dispatcher] = []

    async def claim_again() -> None:
        for dispatcher in dispatcher_ref:
            dispatcher.room()

    bus = await connect(
        settings.nats_url,
        role="scheduler",
        name=scheduler,
        user=settings.nats_user,
        password=settings.nats_password.get_secret_value() if settings.nats_password else None,
        ca=settings.nats_ca,
        on_reconnect=claim_again,
    )
    stack.push(bus.drain, "bus")

    plans = Plans(Templates(database))
    cache = Cache(settings.cache_runs)
    traces, meter = Traces(database, clock), Meter(clock)
    dispatcher = Dispatcher(bus, database, clock, scheduler, traces)
    dispatcher_ref.append(dispatcher)
    watchers = Watchers(lambda runs: _announce(bus, scheduler, runs))

    async def load_entries(runs: Iterable[UUID]) -> dict[UUID, Entry]:
        async with database.connection() as connection:
            loaded = await load_runs(connection, list(runs))
        await traces.load(loaded)
        entries = {}
        for run, found in loaded.items():
            published = plans.known(found.template, found.template_version) or await plans.of_run(
                found.owner, found.template, found.template_version
            )
            entries[run] = entry_of(found, published)
        return entries

    async def present_fence(run: UUID, no: int) -> int | None:
        async with database.connection() as connection:
            return (await fences(connection, [(run, no)])).get((run, no))

    subscribers = Subscribers(database)
    await subscribers.run_once()

    async def recorded(run: UUID, seq: int) -> StoredEvent | None:
        async with database.connection() as connection:
            return await load_event(connection, run, seq)

    teller_ref: list[Teller] = []
    gates_ref: list[Gates] = []
    cycle = Cycle(
        url,
        name=f"wfe-scheduler-cycle-{scheduler}",
        clock=clock,
        cache=cache,
        evaluator=Evaluator(pool),
        assign=dispatcher.assign,
        unassign=dispatcher.credits.give_back,
        load=load_entries,
        present_fence=present_fence,
        recorded=recorded,
        untold=lambda run: gates_ref[0].untold(run),
        committed=lambda outcome: _committed(outcome, teller_ref[0], meter, traces),
        answered=lambda outcome: teller_ref[0].answered(outcome),
        told=subscribers.includes,
        cycles=settings.cycles,
        batch=settings.batch,
        snapshot_every=settings.snapshot_every,
    )
    executors = Executors(
        bus,
        database,
        clock,
        cycle,
        dispatcher,
        Unsealing(database, plans, sealer, callbacks),
        scheduler=scheduler,
        lease_seconds=settings.lease_seconds,
    )
    sweeper = Sweeper(
        database, cycle, dispatcher, lease_seconds=settings.lease_seconds, lease_losses=settings.lease_losses
    )
    children = Children(database, cycle, plans, clock, traces)
    teller_ref.append(Teller(bus, clock, dispatcher, executors, watchers, sweeper, children))
    gates = Gates(database, cycle, cache, traces)
    gates_ref.append(gates)
    admission = Admission(
        cycle,
        database,
        most_seconds=settings.overload_seconds,
        open_runs=settings.owner_open_runs,
        starts=settings.owner_starts,
    )
    engine = Engine(
        database=database,
        bus=bus,
        clock=clock,
        plans=plans,
        cycle=cycle,
        watchers=watchers,
        sealer=sealer,
        admission=admission,
        traces=traces,
    )

    if settings.dispatch == "held":
        async with database.connection() as connection:
            await hold_dispatch(connection, f"scheduler:{scheduler}", "WFE_DISPATCH=held")
    await sweeper.run_once()  # whether dispatch is held is known before the first step is handed out
    stack.push(cycle.close, "cycle")
    stack.spawn(cycle.run(), "cycle")
    stack.push(cycle.drain, "cycle under way")
    stack.spawn(dispatcher.run(), "claims")
    await _listen(bus, scheduler, clock, dispatcher, watchers, plans, gates)
    await executors.subscribe()
    await Asks(bus, engine).subscribe()
    stack.loop(PeriodicLoop(sweeper.run_once, settings.sweep_seconds, "sweep"))
    stack.loop(PeriodicLoop(children.run_once, settings.sweep_seconds, "children"))
    firings = Firings(database)
    stack.loop(PeriodicLoop(Scheduling(firings, engine).run_once, settings.sweep_seconds, "schedules"))
    stack.loop(PeriodicLoop(clock.sample, 5.0, "clock"))
    saving = PeriodicLoop(traces.save, 0.5, "traces")
    traces.on_unsaved = saving.nudge
    stack.loop(saving)
    if settings.metrics_port is not None or settings.otlp_endpoint is not None:
        read_gauges(cycle, cache, database)
        stack.loop(
            PeriodicLoop(Survey(database, 6 * settings.survey_seconds).run_once, settings.survey_seconds, "survey")
        )
    stack.loop(PeriodicLoop(subscribers.run_once, PERIOD, "subscribers"))
    stack.loop(PeriodicLoop(lambda: _remind(bus, scheduler, clock, watchers), 10.0, "watchers"))

    readiness = Readiness()
    readiness.add("store", database.ping, timeout=2.0)
    readiness.add("bus", lambda: _reached(bus), timeout=2.0)
    keys = Keys(database)
    server = build_server(
        settings,
        [
            (
                workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server,
                WorkflowService(engine, database),
                "wfe.api.v1.WorkflowService",
            ),
            (
                template_service_pb2_grpc.add_TemplateServiceServicer_to_server,
                TemplateService(engine, Templates(database)),
                "wfe.api.v1.TemplateService",
            ),
            (
                mending_service_pb2_grpc.add_MendingServiceServicer_to_server,
                MendingService(engine, database),
                "wfe.api.v1.MendingService",
            ),
            (
                callback_service_pb2_grpc.add_CallbackServiceServicer_to_server,
                CallbackService(engine, callbacks),
                "wfe.api.v1.CallbackService",
            ),
            (
                blob_service_pb2_grpc.add_BlobServiceServicer_to_server,
                BlobService(database),
                "wfe.api.v1.BlobService",
            ),
            (
                schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server,
                ScheduleService(engine, Schedules(database), firings),
                "wfe.api.v1.ScheduleService",
            ),
            (
                secret_service_pb2_grpc.add_SecretServiceServicer_to_server,
                SecretService(Secrets(database), sealer),
                "wfe.api.v1.SecretService",
            ),
            (
                explain_service_pb2_grpc.add_ExplainServiceServicer_to_server,
                ExplainService(database),
                "wfe.api.v1.ExplainService",
            ),
            (
                system_service_pb2_grpc.add_SystemServiceServicer_to_server,
                SystemService(engine),
                "wfe.api.v1.SystemService",
            ),
        ],
        Authenticator(keys, load_issuers(settings.oidc_file), owners=keys),
        POLICY,
        readiness=readiness,
        large=large,
    )
    await server.start()
    stack.serve(server, drain=settings.drain_seconds, grace=settings.shutdown_grace_seconds)


def _committed(outcome: Outcome, teller: Teller, meter: Meter, traces: Traces) -> None:
    teller.committed(outcome)
    try:
        meter.committed(outcome)
        traces.committed(outcome)
    except Exception:  # noqa: BLE001 - what is seen of a commit must not harm it
        _log.exception("telemetry failed")


async def _reached(bus: Client) -> None:
    """Raise when NATS does not answer now; a flush alone says nothing while the client connects anew."""
    if not bus.is_connected:
        raise ConnectionError("no connection to NATS")
    await bus.flush()


def _sealer(settings: SchedulerSettings) -> Sealer | None:
    if settings.seal_key_file is None:
        return None
    try:
        return Sealer.from_file(settings.seal_key_file)
    except ValueError as fault:
        raise ConfigFault(str(fault)) from fault


def _callbacks(settings: SchedulerSettings) -> Callbacks | None:
    if settings.seal_key_file is None:
        return None
    return Callbacks(read_keys(settings.seal_key_file), settings.public_url.rstrip("/"))


def _announce(bus: Client, scheduler: str, runs: list[UUID]) -> None:
    message = m.Watching(scheduler=scheduler, runs=tuple(run.bytes for run in runs))
    task = asyncio.ensure_future(bus.publish(subjects.WATCHING, m.encode(message)))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _remind(bus: Client, scheduler: str, clock: StoreClock, watchers: Watchers) -> None:
    runs = watchers.local_runs()
    for start in range(0, len(runs), 10_000):
        _announce(bus, scheduler, runs[start : start + 10_000])
    watchers.forget_old(clock.now())


async def _listen(
    bus: Client,
    scheduler: str,
    clock: StoreClock,
    dispatcher: Dispatcher,
    watchers: Watchers,
    plans: Plans,
    gates: Gates,
) -> None:
    """Listen to the other schedulers and to approvals."""
    ready, watching, ended = m.decoder(m.Ready).decode, m.decoder(m.Watching).decode, m.decoder(m.Gone).decode
    moved, changed = m.decoder(m.Moved).decode, m.decoder(m.TemplateChanged).decode

    async def on_ready(message: Msg) -> None:
        told = ready(message.data)
        if told.scheduler != scheduler:
            dispatcher.ready(told.queues, announce=False)

    async def on_gone(message: Msg) -> None:
        told = ended(message.data)
        if told.scheduler != scheduler:
            dispatcher.gone(told.executors, announce=False)

    async def on_watching(message: Msg) -> None:
        told = watching(message.data)
        if told.scheduler != scheduler:
            watchers.remember(told.scheduler, [UUID(bytes=run) for run in told.runs], clock.now())

    async def on_moved(message: Msg) -> None:
        told = moved(message.data)
        for run in told.runs:
            watchers.nudge(UUID(bytes=run), ended=run in told.ended)

    async def on_template(message: Msg) -> None:
        plans.changed(UUID(bytes=changed(message.data).template))

    async def on_gate(message: Msg) -> None:
        task = asyncio.create_task(gates.on_message(message))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def on_ping(message: Msg) -> None:
        await message.respond(b"ok")

    handlers: list[tuple[str, Any, str]] = [
        (subjects.READY, on_ready, ""),
        (subjects.GONE, on_gone, ""),
        (subjects.WATCHING, on_watching, ""),
        (subjects.moved_for(scheduler), on_moved, ""),
        (subjects.TEMPLATE, on_template, ""),
        (subjects.RUN, on_gate, subjects.SCHEDULERS),
        (subjects.ping("scheduler"), on_ping, subjects.SCHEDULERS),
    ]
    for subject, handler, group in handlers:
        await bus.subscribe(subject, queue=group, cb=handler)
