"""WorkflowService: runs of published templates."""

# ruff: noqa: N802, ARG002 - gRPC gives methods their names and arguments

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from wfe.api.v1 import workflow_pb2, workflow_service_pb2, workflow_service_pb2_grpc
from wfe_engine import commands as cmd
from wfe_engine.errors import Unavailable
from wfe_servicekit.calls import current_call, current_caller, http_status, large_value
from wfe_servicekit.checks import Violations, choice, page_limit, plain_text, struct_to_dict
from wfe_store.history import History
from wfe_store.pool import Database
from wfe_store.runs import ENDED, Run, RunDetail, Runs, no_run

from wfe_scheduler.api import mapping, requests
from wfe_scheduler.api.engine import Engine
from wfe_scheduler.api.payloads import Payloads
from wfe_scheduler.gather import Gather

#: Seconds one wait for a nudge may take; the nudges' own fallback is shorter.
_WAIT_SECONDS = 30.0
#: What a get shows of a run.
_FULL, _BASIC = "full", "basic"
#: Seconds a blocking get waits on the word of what is in memory alone before it looks.
_TRUST_SECONDS = 0.1
#: Events read at once for a watcher.
_WATCH_PAGE = 200


class WorkflowService(workflow_service_pb2_grpc.WorkflowServiceServicer):  # type: ignore[misc]
    """Checks requests, asks the engine or the store, maps answers. Every call is scoped to the caller's owner."""

    def __init__(self, engine: Engine, database: Database) -> None:
        self._engine = engine
        self._runs = Runs(database)
        self._basics = Gather(self._runs.basics)
        self._history = History(database)

    async def StartWorkflow(
        self, request: workflow_service_pb2.StartWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """Start a run; 201, pending, or as it is once it has ended or `wait_seconds` are over.

        Raises:
            InvalidInput: With every violation, the template's of its variables only once the rest is right.
            NotFound, StateConflict: About the template.
            AlreadyExists: The Idempotency-Key was used with another body.
        """
        faults = Violations()
        template_id = requests.uuid(faults, request.template_id, "template_id")
        version = None
        if request.HasField("version"):
            version = requests.at_least(faults, request.version, "version", 1)
        labels = requests.labels(faults, request.labels) if request.labels else {}
        large = large_value("input")
        given: dict[str, Any] | bytes = large or {}
        if request.HasField("input"):
            with faults.collect():
                given = struct_to_dict(request.input, "input")
        options = requests.start_options(faults, request)
        seconds = requests.wait_seconds(faults, request)
        key = requests.idempotency_key(faults)
        faults.raise_if_any()
        # Whoever repeats a start may wait longer than before.
        request.ClearField("wait_seconds")
        body_hash = b"" if key is None else requests.body_hash("StartWorkflow", request)
        caller = current_caller()
        run = await self._engine.start(caller, template_id, version, given, labels, key, body_hash, options)
        http_status(201)
        ended = await self._ended(caller.owner_id, run.run_id, seconds) if seconds else None
        size = 0 if large is None else len(large)
        return mapping.started(run, trigger=options.trigger, size=size) if ended is None else ended

    async def ListWorkflows(
        self, request: workflow_service_pb2.ListWorkflowsRequest, context: Any
    ) -> workflow_service_pb2.ListWorkflowsResponse:
        """The owner's runs, newest first, without what belongs to them; large inputs and outputs are left out."""
        faults = Violations()
        filters = requests.filters(faults, request)
        limit, offset = requests.page_of(faults, request)
        faults.raise_if_any()
        found = await self._runs.list(current_caller().owner_id, filters, limit=limit, offset=offset)
        payloads = Payloads()
        return workflow_service_pb2.ListWorkflowsResponse(
            workflows=[mapping.workflow(run, payloads) for run in found.runs],
            total=found.total,
            total_is_capped=found.capped,
            limit=limit,
            offset=offset,
        )

    async def GetWorkflow(
        self, request: workflow_service_pb2.GetWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """One run, with all that belongs to it or without, once it has ended or `wait_seconds` are over."""
        faults = Violations()
        run_id = requests.uuid(faults, request.id, "id")
        seconds = requests.wait_seconds(faults, request)
        with faults.collect():
            choice(request.view or _FULL, "view", (_FULL, _BASIC))
        faults.raise_if_any()
        owner_id = current_caller().owner_id
        if seconds:
            await self._until_ended(owner_id, run_id, seconds)
        if request.view == _BASIC:
            return mapping.workflow(await self._look(owner_id, run_id), Payloads())
        return await self._answer(run_id)

    async def _ended(self, owner_id: UUID, run_id: UUID, seconds: int) -> workflow_pb2.Workflow | None:
        """An accepted run once it has ended or the seconds are over; None when that cannot be said."""
        try:
            await self._until_ended(owner_id, run_id, seconds)
            return mapping.workflow(await self._look(owner_id, run_id), Payloads())
        except Unavailable:
            return None
        except asyncio.CancelledError:
            call, task = current_call(), asyncio.current_task()
            if call is None or not call.shed or task is None:
                raise
            task.uncancel()
            return None  # this process ends, the run goes on

    async def _until_ended(self, owner_id: UUID, run_id: UUID, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Watched before it is looked at: an end in between is not missed.
        with self._engine.watch(run_id, ends=True) as nudges:
            goes_on = self._engine.goes_on(owner_id, run_id)
            while not nudges.ended and (goes_on or (await self._look(owner_id, run_id)).status not in ENDED):
                left = deadline - loop.time()
                if left <= 0:
                    return
                # What is in memory may be old: another scheduler may have gone on with the run.
                await nudges.wait(min(left, _TRUST_SECONDS) if goes_on else left)
                goes_on = False

    async def _look(self, owner_id: UUID, run_id: UUID) -> Run:
        found = await self._basics.get((owner_id, run_id))
        if found is None:
            raise no_run(run_id)
        return found

    async def PauseWorkflow(
        self, request: workflow_service_pb2.PauseWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """Claim nothing new; says how many steps are still in flight."""
        detail = await self._act(request, cmd.Pause())
        return self._noticed(detail, mapping.pause_notice(detail))

    async def ResumeWorkflow(
        self, request: workflow_service_pb2.ResumeWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """Go on after a pause."""
        detail = await self._act(request, cmd.Resume())
        return self._noticed(detail)

    async def CancelWorkflow(
        self, request: workflow_service_pb2.CancelWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """End it gently; says what was stopped and withdrawn."""
        detail = await self._act(request, cmd.Cancel())
        return self._noticed(detail, mapping.cancel_notice(detail))

    async def TerminateWorkflow(
        self, request: workflow_service_pb2.TerminateWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """End it the hard way; says what was stopped and withdrawn."""
        detail = await self._act(request, cmd.Cancel(hard=True))
        return self._noticed(detail, mapping.cancel_notice(detail))

    async def RetryWorkflow(
        self, request: workflow_service_pb2.RetryWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """Go on after a failure or a cancellation."""
        detail = await self._act(request, cmd.Retry())
        return self._noticed(detail)

    async def RollbackWorkflow(
        self, request: workflow_service_pb2.RollbackWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """Go back to a snapshot; names the undone steps whose effects outside stay."""
        faults = Violations()
        run_id = requests.uuid(faults, request.id, "id")
        snapshot_id = requests.uuid(faults, request.snapshot_id, "snapshot_id")
        reason = requests.reason(faults, request.reason)
        faults.raise_if_any()
        caller = current_caller()
        undone = await self._runs.undone(caller.owner_id, run_id)
        await self._engine.rollback(caller, run_id, snapshot_id, reason)
        detail = await self._runs.get(caller.owner_id, run_id)
        return self._noticed(detail, mapping.rollback_notice(detail, undone))

    async def ForkWorkflow(
        self, request: workflow_service_pb2.ForkWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """Start a run at a snapshot of another; 201, always pending. Names the effects outside that may repeat."""
        faults = Violations()
        run_id = requests.uuid(faults, request.id, "id")
        snapshot_id = requests.uuid(faults, request.snapshot_id, "snapshot_id")
        reason = requests.reason(faults, request.reason)
        labels = requests.labels(faults, request.labels) if request.labels else None
        key = requests.idempotency_key(faults)
        faults.raise_if_any()
        caller = current_caller()
        body_hash = b"" if key is None else requests.body_hash("ForkWorkflow", request)
        run = await self._engine.fork(caller, run_id, snapshot_id, labels, reason, key, body_hash)
        source = await self._runs.get(caller.owner_id, run_id)
        held = await self._history.snapshot(caller.owner_id, run_id, snapshot_id)
        answer = mapping.started(run, trigger="fork")
        answer.forked_from.workflow_id, answer.forked_from.snapshot_id = str(run_id), str(snapshot_id)
        answer.notice = mapping.fork_notice(source, frozenset(held.steps_done))
        http_status(201)
        return answer

    async def SignalWorkflow(
        self, request: workflow_service_pb2.SignalWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """Tell a run something; the same Idempotency-Key tells it once. Answers without what belongs to the run."""
        faults = Violations()
        run_id = requests.uuid(faults, request.id, "id")
        name = requests.signal_name(faults, request.name)
        reason = requests.reason(faults, request.reason)
        payload = requests.payload(faults, request.payload, "payload")
        key = requests.idempotency_key(faults)
        faults.raise_if_any()
        caller = current_caller()
        await self._engine.signal(caller, run_id, name, payload, reason, key)
        return mapping.workflow(await self._look(caller.owner_id, run_id), Payloads())

    async def ListEvents(
        self, request: workflow_service_pb2.ListEventsRequest, context: Any
    ) -> workflow_service_pb2.ListEventsResponse:
        """Events after a seq, oldest first."""
        faults = Violations()
        run_id = requests.uuid(faults, request.id, "id")
        after = requests.at_least(faults, request.after, "after", 0)
        limit = 0
        with faults.collect():
            limit = page_limit(request.limit)
        faults.raise_if_any()
        found = await self._history.events(current_caller().owner_id, run_id, after=after, limit=limit)
        payloads = Payloads()
        return workflow_service_pb2.ListEventsResponse(
            events=[mapping.event(item, payloads) for item in found.events], total=found.total, limit=limit
        )

    async def WatchWorkflow(
        self, request: workflow_service_pb2.WatchWorkflowRequest, context: Any
    ) -> AsyncIterator[workflow_pb2.Event]:
        """Events after a seq and then as they happen, until the run has ended; an end it was retried from is none."""
        faults = Violations()
        run_id = requests.uuid(faults, request.id, "id")
        after = requests.at_least(faults, request.after, "after", 0)
        faults.raise_if_any()
        owner_id = current_caller().owner_id
        begun = False
        with self._engine.watch(run_id) as nudges:
            while True:
                found = await self._history.events(owner_id, run_id, after=after, limit=_WATCH_PAGE)
                if not begun:
                    # The watcher learns at once that there is something to watch; the first event may take days.
                    await context.send_initial_metadata(())
                    begun = True
                for item in found.events:
                    yield mapping.event(item, Payloads())
                    after = item.seq
                if len(found.events) == _WATCH_PAGE:
                    continue
                if found.status in ENDED:
                    return
                await nudges.wait(_WAIT_SECONDS)

    async def ListSnapshots(
        self, request: workflow_service_pb2.ListSnapshotsRequest, context: Any
    ) -> workflow_service_pb2.ListSnapshotsResponse:
        """The snapshots of a run, oldest first."""
        faults = Violations()
        run_id = requests.uuid(faults, request.id, "id")
        faults.raise_if_any()
        found = await self._history.snapshots(current_caller().owner_id, run_id)
        return workflow_service_pb2.ListSnapshotsResponse(snapshots=[mapping.snapshot(item) for item in found])

    async def CreateSnapshot(
        self, request: workflow_service_pb2.CreateSnapshotRequest, context: Any
    ) -> workflow_pb2.Snapshot:
        """Take a snapshot now; 201."""
        faults = Violations()
        run_id = requests.uuid(faults, request.id, "id")
        with faults.collect():
            plain_text(request.name, "name", longest=requests.LONGEST_SNAPSHOT_NAME)
        faults.raise_if_any()
        caller = current_caller()
        snapshot_id = await self._engine.snapshot(caller, run_id, request.name, "")
        http_status(201)
        return mapping.snapshot(await self._history.snapshot(caller.owner_id, run_id, snapshot_id))

    async def _act(self, request: Any, command: cmd.Command) -> RunDetail:
        """Let a command happen to a run; gives the run after it."""
        run_id, reason = requests.run_action(request)
        caller = current_caller()
        await self._engine.command(caller, run_id, command, reason)
        return await self._runs.get(caller.owner_id, run_id)

    async def _answer(self, run_id: UUID) -> workflow_pb2.Workflow:
        return self._noticed(await self._runs.get(current_caller().owner_id, run_id))

    def _noticed(self, detail: RunDetail, notice: str = "") -> workflow_pb2.Workflow:
        answer = mapping.workflow_detail(detail, current_caller())
        answer.notice = notice
        return answer
