"""What the API asks of the scheduler: starts, actions, snapshots, forks. Answers come after the commit."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID, uuid5

import msgspec
from nats.aio.client import Client
from wfe_bus import messages as m
from wfe_bus import subjects
from wfe_engine import commands as cmd
from wfe_engine.errors import NotFound, StateConflict
from wfe_engine.rewind import frontier, live_numbers, nodes_from, without
from wfe_engine.scopes import ROOT
from wfe_engine.state import RunState, Scope
from wfe_engine.values import Record, Values
from wfe_servicekit.auth import Caller
from wfe_store.batch import NewRun
from wfe_store.leases import live_handlers
from wfe_store.load import (
    LoadedRun,
    known_signals,
    load_runs,
    steps_within,
)
from wfe_store.load_snapshot import SnapshotState, load_snapshot
from wfe_store.pool import Database

from wfe_scheduler.api.engine import StartedRun, StartOptions
from wfe_scheduler.clock import StoreClock
from wfe_scheduler.cycle import Cycle
from wfe_scheduler.entries import Entry, Item, run_facts
from wfe_scheduler.gather import Gather
from wfe_scheduler.ids import new_run_id
from wfe_scheduler.inputs import checked
from wfe_scheduler.limits import Admission
from wfe_scheduler.once import Once
from wfe_scheduler.plans import Plans, Published
from wfe_scheduler.readiness import readiness
from wfe_scheduler.seal import Sealer, seal_variables
from wfe_scheduler.traces import Traces
from wfe_scheduler.unsealing import check_secrets, sealed_again
from wfe_scheduler.watch import Nudges, Watchers

_encode = msgspec.json.encode


class Engine:
    """The scheduler as its API sees it."""

    def __init__(
        self,
        *,
        database: Database,
        bus: Client,
        clock: StoreClock,
        plans: Plans,
        cycle: Cycle,
        watchers: Watchers,
        sealer: Sealer | None,
        admission: Admission,
        traces: Traces | None = None,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._plans = plans
        self._cycle = cycle
        self._watchers = watchers
        self._sealer = sealer
        self._admission = admission
        self._traces = traces or Traces(database, clock)
        self._signals = Gather(self._known_signals)
        self._once = Once(database)

    # ---- starting

    async def start(
        self,
        caller: Caller,
        template_id: UUID,
        version: int | None,
        input: dict[str, Any] | bytes,  # noqa: A002 - the contract's word
        labels: dict[str, str],
        idempotency_key: str | None,
        body_hash: bytes,
        options: StartOptions = StartOptions(),  # noqa: B008 - frozen
    ) -> StartedRun:
        """Start a run and answer once it is durable.

        Raises:
            InvalidInput: With every violation of the template's variables.
            NotFound, StateConflict: About the template.
            AlreadyExists: The key was used with another body.
        """

        async def begin() -> StartedRun:
            published = await self._plans.resolve(caller.owner_id, template_id, version)
            values = await checked(published.plan.variables, input)
            await check_secrets(self._database, caller.owner_id, published)
            run = new_run_id()
            shown, sealed = seal_variables(self._sealer, run, published.plan.variables, values)
            new = self._new(caller, published, shown, labels, options.trigger, idempotency_key, body_hash)
            new.sealed = sealed
            template = str(published.template)
            command = cmd.Start(
                template=template,
                template_version=published.version,
                trigger=options.trigger,
                input=shown,
                labels=labels,
                start_at=options.moment(new.created_at),
            )
            reason, actor = options.reason, options.actor
            return await self._begin(caller, run, published, new, command, shown, labels, {}, reason, actor)

        started = await self._once.begin(caller.owner_id, idempotency_key, body_hash, begin)
        if options.signal is not None:
            with contextlib.suppress(StateConflict):  # it has ended already, and waited for nothing
                await self.signal(caller, started.run_id, *options.signal, options.reason, idempotency_key)
        return started

    async def fork(
        self,
        caller: Caller,
        run_id: UUID,
        snapshot_id: UUID,
        labels: dict[str, str] | None,
        reason: str,
        idempotency_key: str | None,
        body_hash: bytes,
    ) -> StartedRun:
        """Start a run that begins at a snapshot of another."""

        async def begin() -> StartedRun:
            source, snapshot = await self._snapshot(caller, run_id, snapshot_id)
            published = await self._plans.of_run(caller.owner_id, source.template, source.template_version)
            await check_secrets(self._database, caller.owner_id, published)
            run = new_run_id()
            given = source.labels if labels is None else labels
            new = self._new(caller, published, source.input, given, "fork", idempotency_key, body_hash)
            new.forked_from, new.forked_snapshot, new.copied_seq = run_id, snapshot_id, snapshot.seq
            new.not_copied = live_numbers(snapshot.state.scopes)
            new.sealed = await sealed_again(self._database, self._sealer, run_id, run)
            command = cmd.Start(
                template=str(published.template),
                template_version=published.version,
                trigger="fork",
                input=source.input,
                labels=given,
                forked_from=str(run_id),
                snapshot=str(snapshot_id),
                scopes=frontier(published.plan, snapshot.state.scopes),
                next_no=snapshot.state.next_no,
                inputs=snapshot.inputs,
            )
            return await self._begin(
                caller, run, published, new, command, source.input, given, snapshot.records, reason
            )

        return await self._once.begin(caller.owner_id, idempotency_key, body_hash, begin)

    async def rerun(
        self,
        caller: Caller,
        run_id: UUID,
        from_step: str,
        labels: dict[str, str] | None,
        reason: str,
        idempotency_key: str | None,
        body_hash: bytes,
    ) -> StartedRun:
        """Start a run that begins at a step of another, with what that step does not need taken over."""

        async def begin() -> StartedRun:
            source = (await self._load([run_id])).get(run_id)
            if source is None or source.owner != caller.owner_id:
                raise NotFound(f"there is no workflow {run_id}", workflow_id=run_id)
            published = await self._plans.of_run(caller.owner_id, source.template, source.template_version)
            again = nodes_from(published.plan.root, from_step)
            if again is None:
                raise NotFound(f"the template has no step {from_step}", reason="STEP_UNKNOWN", step=from_step)
            run = new_run_id()
            given = source.labels if labels is None else labels
            new = self._new(caller, published, source.input, given, "fork", idempotency_key, body_hash)
            new.forked_from, new.copied_seq = run_id, source.state.seq
            new.sealed = await sealed_again(self._database, self._sealer, run_id, run)
            async with self._database.connection() as connection:
                new.not_copied = await steps_within(connection, run_id, again, published.plan.root)
            command = cmd.Start(
                template=str(published.template),
                template_version=published.version,
                trigger="fork",
                input=source.input,
                labels=given,
                forked_from=str(run_id),
                scopes={ROOT: without(source.state.scopes.get(ROOT, Scope()), again)},
                next_no=source.state.next_no,
            )
            names = {published.plan.root.nodes[index].id for index in again}
            records = {key: record for key, record in source.records.items() if key.partition("/")[2] not in names}
            return await self._begin(caller, run, published, new, command, source.input, given, records, reason)

        return await self._once.begin(caller.owner_id, idempotency_key, body_hash, begin)

    def _new(
        self,
        caller: Caller,
        published: Published,
        shown: dict[str, Any],
        labels: dict[str, str],
        trigger: str,
        key: str | None,
        body_hash: bytes,
    ) -> NewRun:
        return NewRun(
            owner=caller.owner_id,
            template=published.template,
            template_name=published.name,
            template_version=published.version,
            input=_encode(shown),
            labels=_encode(labels),
            trigger=trigger,
            created_by=caller.principal_id,
            # In microseconds, as the store keeps it: the answer to the same start again is the same.
            created_at=round(self._clock.now(), 6),
            key=key,
            key_hash=body_hash,
        )

    async def _begin(
        self,
        caller: Caller,
        run: UUID,
        published: Published,
        new: NewRun,
        command: cmd.Start,
        shown: dict[str, Any],
        labels: dict[str, str],
        records: dict[str, Record],
        reason: str = "",
        actor: str = "",
    ) -> StartedRun:
        await self._admission.start(caller.owner_id)
        moment = dt.datetime.fromtimestamp(new.created_at, dt.UTC).isoformat().replace("+00:00", "Z")
        facts = run_facts(run, published.name, published.version, caller.principal_id, moment, labels) | {"epoch": 1}
        entry = Entry(
            run,
            caller.owner_id,
            caller.principal_id,
            published,
            RunState(),
            0,
            Values(shown, facts, dict(records)),
            new,
        )
        self._traces.begin(run)
        await self._submit(run, command, caller, reason, entry=entry, actor=actor)
        return StartedRun(
            run_id=run,
            template_id=published.template,
            template_name=published.name,
            template_version=published.version,
            input=shown,
            labels=labels,
            created_at=new.created_at,
            created_by=caller.principal_id,
            start_at=command.start_at,
        )

    # ---- acting

    async def command(
        self, caller: Caller, run_id: UUID, command: cmd.Command, reason: str, *, actor: str = ""
    ) -> None:
        """Let a command happen to a run of the caller's owner, and answer once it is durable."""
        await self._submit(run_id, command, caller, reason, actor=actor)

    async def rollback(self, caller: Caller, run_id: UUID, snapshot_id: UUID, reason: str) -> None:
        """Go back to a snapshot."""
        _, snapshot = await self._snapshot(caller, run_id, snapshot_id)
        command = cmd.Rollback(
            snapshot=str(snapshot_id),
            seq=snapshot.seq,
            scopes=snapshot.state.scopes,
            undo=snapshot.state.undo,
            inputs=snapshot.inputs,
            records=snapshot.records,
            asked=snapshot.asked,
        )
        await self._submit(run_id, command, caller, reason)

    async def snapshot(self, caller: Caller, run_id: UUID, name: str, reason: str) -> UUID:
        """Take a snapshot; gives its id."""
        snapshot = new_run_id()
        await self._submit(run_id, cmd.TakeSnapshot(name=name, snapshot=str(snapshot)), caller, reason)
        return snapshot

    async def signal(
        self, caller: Caller, run_id: UUID, name: str, payload: bytes, reason: str, idempotency_key: str | None
    ) -> None:
        """Tell a run something; the same key tells it once."""
        signal = new_run_id() if idempotency_key is None else uuid5(run_id, f"{name}\0{idempotency_key}")
        if idempotency_key is not None and await self._signals.get((caller.owner_id, run_id, signal)):
            return
        await self._submit(run_id, cmd.Signal(signal=str(signal), name=name, payload=payload), caller, reason)

    async def _known_signals(self, wanted: list[tuple[UUID, UUID, UUID]]) -> dict[tuple[UUID, UUID, UUID], bool]:
        async with self._database.connection() as connection:
            return await known_signals(connection, wanted)

    async def answer(self, run_id: UUID, command: cmd.Command) -> None:
        """Let a run have the answer to a callback; the token was the credential."""
        await self._submit(run_id, command, None, "")

    async def _snapshot(self, caller: Caller, run: UUID, snapshot: UUID) -> tuple[LoadedRun, SnapshotState]:
        loaded = (await self._load([run])).get(run)
        if loaded is None or loaded.owner != caller.owner_id:
            raise NotFound(f"there is no workflow {run}", workflow_id=run)
        async with self._database.connection() as connection:
            found = await load_snapshot(connection, caller.owner_id, run, snapshot)
        if found is None:
            raise NotFound(f"workflow {run} has no snapshot {snapshot}", workflow_id=run, snapshot_id=snapshot)
        if found.void:
            raise StateConflict(
                f"snapshot {snapshot} is void: the run was rolled back behind it",
                reason="SNAPSHOT_VOID",
                snapshot_id=snapshot,
            )
        return loaded, found

    async def _load(self, runs: Iterable[UUID]) -> dict[UUID, LoadedRun]:
        async with self._database.connection() as connection:
            return await load_runs(connection, list(runs))

    async def _submit(
        self, run: UUID, command: cmd.Command, caller: Caller | None, reason: str, *, actor: str = "",
        entry: Entry | None = None,
    ) -> None:  # fmt: skip
        self._admission.command(run)
        self._traces.caused(run)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(refusal: Exception | None) -> None:
            if future.done():
                return  # the caller has gone; the commit stands
            if refusal is None:
                future.set_result(None)
            else:
                future.set_exception(refusal)

        self._cycle.submit(
            Item(
                run,
                command,
                done,
                actor=actor or ("callback" if caller is None else f"principal:{caller.principal_id}"),
                reason=reason,
                owner=None if caller is None else caller.owner_id,
                entry=entry,
            )
        )
        await future

    # ---- the rest

    def watch(self, run_id: UUID, *, ends: bool = False) -> AbstractContextManager[Nudges]:
        """Nudges for a run."""
        return self._watchers.watch(run_id, ends=ends)

    def goes_on(self, owner_id: UUID, run_id: UUID) -> bool:
        """Whether a run of the owner is known here as one that has not ended."""
        return self._cycle.goes_on(owner_id, run_id)

    async def published(self, owner_id: UUID, template_id: UUID, version: int | None) -> Published:
        """The version of a template that a start would take."""
        return await self._plans.resolve(owner_id, template_id, version)

    async def template_changed(self, template_id: UUID) -> None:
        """Tell every scheduler, this one first."""
        self._plans.changed(template_id)
        await self._bus.publish(subjects.TEMPLATE, m.encode(m.TemplateChanged(template=template_id.bytes)))

    async def readiness(self) -> dict[str, str]:
        """Part by part, ok or what is wrong."""
        return await readiness(self._database, self._bus)

    async def handlers(self) -> frozenset[str] | None:
        """Names of handlers that live executors know; None when no executor is live."""
        async with self._database.connection() as connection:
            return await live_handlers(connection)
