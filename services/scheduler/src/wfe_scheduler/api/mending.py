"""MendingService: what people do to runs by hand."""

# ruff: noqa: N802, ARG002 - gRPC gives methods their names and arguments

from __future__ import annotations

from typing import Any
from uuid import UUID

from wfe.api.v1 import mending_service_pb2, mending_service_pb2_grpc, workflow_pb2
from wfe_engine import commands as cmd
from wfe_engine.errors import WfeError
from wfe_servicekit.auth import current_caller
from wfe_servicekit.calls import http_status, large_value
from wfe_servicekit.checks import Violations, choice, plain_text
from wfe_store.pool import Database
from wfe_store.runs import Filters, Runs

from wfe_scheduler.api import mapping, requests
from wfe_scheduler.api.engine import Engine

MOST_BULK = 1_000
DEFAULT_BULK = 100
_ACTIONS: dict[str, cmd.Command] = {
    "pause": cmd.Pause(),
    "resume": cmd.Resume(),
    "cancel": cmd.Cancel(),
    "terminate": cmd.Cancel(hard=True),
    "retry": cmd.Retry(),
}


class MendingService(mending_service_pb2_grpc.MendingServiceServicer):  # type: ignore[misc]
    """Turns calls into commands; every one of them names its reason."""

    def __init__(self, engine: Engine, database: Database) -> None:
        self._engine = engine
        self._runs = Runs(database)

    async def RetryStep(self, request: mending_service_pb2.RetryStepRequest, context: Any) -> workflow_pb2.Workflow:
        """Retry a run with another input for a step."""
        faults = Violations()
        run_id, no, reason = _step(faults, request)
        given = requests.payload(faults, request.input, "input")
        if request.input.WhichOneof("kind") is None and large_value("input") is None:
            faults.add("input", "is required: what the step is given")
        faults.raise_if_any()
        return await self._act(run_id, cmd.Retry(edits={no: given}), reason)

    async def CompleteStep(
        self, request: mending_service_pb2.CompleteStepRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """Complete a step with an output."""
        faults = Violations()
        run_id, no, reason = _step(faults, request)
        output = requests.payload(faults, request.output, "output")
        faults.raise_if_any()
        return await self._act(run_id, cmd.SettleStep(no=no, output=output), reason)

    async def SkipStep(self, request: mending_service_pb2.SkipStepRequest, context: Any) -> workflow_pb2.Workflow:
        """Skip a step."""
        faults = Violations()
        run_id, no, reason = _step(faults, request)
        faults.raise_if_any()
        return await self._act(run_id, cmd.SettleStep(no=no), reason)

    async def RerunWorkflow(
        self, request: mending_service_pb2.RerunWorkflowRequest, context: Any
    ) -> workflow_pb2.Workflow:
        """Start a new run at a step of this one; 201."""
        faults = Violations()
        run_id = requests.uuid(faults, request.id, "id")
        reason = _reason(faults, request.reason)
        with faults.collect():
            plain_text(request.from_step, "from_step", longest=200, shortest=1)
        labels = requests.labels(faults, request.labels) if request.labels else None
        key = requests.idempotency_key(faults)
        faults.raise_if_any()
        body_hash = b"" if key is None else requests.body_hash("RerunWorkflow", request)
        run = await self._engine.rerun(current_caller(), run_id, request.from_step, labels, reason, key, body_hash)
        http_status(201)
        answer = mapping.started(run, trigger="fork")
        answer.forked_from.workflow_id = str(run_id)
        return answer

    async def BulkWorkflows(
        self, request: mending_service_pb2.BulkWorkflowsRequest, context: Any
    ) -> mending_service_pb2.BulkWorkflowsResponse:
        """Do one thing to many runs; a refusal of one is its result."""
        faults = Violations()
        with faults.collect():
            choice(request.action, "action", tuple(_ACTIONS))
        reason = _reason(faults, request.reason)
        filters = requests.filters(faults, request)
        if filters == Filters():
            faults.add("status", "some filter is required: status, template_id, label, created_after or created_before")
        limit = requests.at_least(faults, request.limit, "limit", 0) or DEFAULT_BULK
        if limit > MOST_BULK:
            faults.add("limit", f"must be at most {MOST_BULK}")
        faults.raise_if_any()
        caller = current_caller()
        found = await self._runs.list(caller.owner_id, filters, limit=limit, offset=0)
        answer = mending_service_pb2.BulkWorkflowsResponse(matched=found.total)
        for run in found.runs:
            result = answer.results.add(id=str(run.id), ok=True)
            try:
                await self._engine.command(caller, run.id, _ACTIONS[request.action], reason)
            except WfeError as refusal:
                result.ok, result.error, result.message = False, refusal.reason, refusal.message
        return answer

    async def _act(self, run_id: UUID, command: cmd.Command, reason: str) -> workflow_pb2.Workflow:
        caller = current_caller()
        await self._engine.command(caller, run_id, command, reason)
        return mapping.workflow_detail(await self._runs.get(caller.owner_id, run_id), caller)


def _step(faults: Violations, request: Any) -> tuple[UUID, int, str]:
    run_id = requests.uuid(faults, request.id, "id")
    no = requests.at_least(faults, request.no, "no", 1)
    return run_id, no, _reason(faults, request.reason)


def _reason(faults: Violations, text: str) -> str:
    if not text.strip():
        faults.add("reason", "is required: say why, for the run's log")
    return requests.reason(faults, text)
