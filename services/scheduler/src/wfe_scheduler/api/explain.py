"""ExplainService: why something is not moving."""

# ruff: noqa: N802, ARG002 - gRPC gives methods their names and arguments

from __future__ import annotations

import re
from typing import Any

from wfe.api.v1 import explain_service_pb2, explain_service_pb2_grpc
from wfe_engine.errors import InvalidInput, NotFound
from wfe_servicekit.calls import current_caller
from wfe_servicekit.checks import parse_uuid, plain_text, timestamp
from wfe_store.explaining import queue_facts, run_facts
from wfe_store.explaining_told import schedule_facts, webhook_facts
from wfe_store.pool import Database

from wfe_scheduler.explain import explain_queue, explain_run
from wfe_scheduler.explain_told import explain_schedule, explain_webhook
from wfe_scheduler.explanations import Explanation

#: As in templates (template.schema.json).
_QUEUE = re.compile(r"[a-z0-9][a-z0-9-]*", re.ASCII)


class ExplainService(explain_service_pb2_grpc.ExplainServiceServicer):  # type: ignore[misc]
    """Reads the facts and explains them. Every call is scoped to the caller's owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ExplainWorkflow(
        self, request: explain_service_pb2.ExplainWorkflowRequest, context: Any
    ) -> explain_service_pb2.Explanation:
        """Why a run is not moving.

        Raises:
            InvalidInput: The id is none.
            NotFound: The owner has no such run.
        """
        run = parse_uuid(request.id, "id")
        async with self._database.connection() as connection:
            facts = await run_facts(connection, current_caller().owner_id, run)
        if facts is None:
            raise NotFound(f"there is no workflow {run}", workflow_id=run)
        return _message(explain_run(facts))

    async def ExplainQueue(
        self, request: explain_service_pb2.ExplainQueueRequest, context: Any
    ) -> explain_service_pb2.Explanation:
        """Why the owner's steps of a queue are not moving.

        Raises:
            InvalidInput: The queue's name cannot be one.
        """
        queue = plain_text(request.queue, "queue", longest=63, shortest=1)
        if _QUEUE.fullmatch(queue) is None:
            raise InvalidInput("a queue's name has a-z, 0-9 and -, and begins with a letter or a digit", field="queue")
        async with self._database.connection() as connection:
            facts = await queue_facts(connection, current_caller().owner_id, queue)
        return _message(explain_queue(facts))

    async def ExplainSchedule(
        self, request: explain_service_pb2.ExplainScheduleRequest, context: Any
    ) -> explain_service_pb2.Explanation:
        """Why a schedule does not start a run now.

        Raises:
            InvalidInput: The id is none.
            NotFound: The owner has no such schedule.
        """
        schedule = parse_uuid(request.id, "id")
        async with self._database.connection() as connection:
            facts = await schedule_facts(connection, current_caller().owner_id, schedule)
        if facts is None:
            raise NotFound(f"there is no schedule {schedule}", schedule_id=schedule)
        return _message(explain_schedule(facts))

    async def ExplainWebhook(
        self, request: explain_service_pb2.ExplainWebhookRequest, context: Any
    ) -> explain_service_pb2.Explanation:
        """Why a webhook is not told, or not at once.

        Raises:
            InvalidInput: The id is none.
            NotFound: The owner has no such webhook.
        """
        webhook = parse_uuid(request.id, "id")
        async with self._database.connection() as connection:
            facts = await webhook_facts(connection, current_caller().owner_id, webhook)
        if facts is None:
            raise NotFound(f"there is no webhook {webhook}", webhook_id=webhook)
        return _message(explain_webhook(facts))


def _message(found: Explanation) -> explain_service_pb2.Explanation:
    return explain_service_pb2.Explanation(
        reason=found.reason,
        message=found.message,
        action=found.action,
        step=found.step,
        since=timestamp(found.since),
        until=timestamp(found.until),
        details=found.details,
    )
