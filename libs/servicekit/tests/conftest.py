"""A WorkflowService whose methods do what the test says, behind the real guard."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from wfe.api.v1 import workflow_pb2, workflow_service_pb2_grpc
from wfe_servicekit import testing


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WFE_"):
            monkeypatch.delenv(name)


class Workflows(workflow_service_pb2_grpc.WorkflowServiceServicer):
    """Start, get and watch can be replaced; everything else is the generated base class's."""

    def __init__(self) -> None:
        self.start: Any = None
        self.get: Any = None
        self.watch: Any = None
        self.requests: list[Any] = []

    async def StartWorkflow(self, request: Any, context: Any) -> workflow_pb2.Workflow:
        self.requests.append(request)
        if self.start is not None:
            return await self.start(request, context)
        return workflow_pb2.Workflow(id="1", status="pending")

    async def GetWorkflow(self, request: Any, context: Any) -> workflow_pb2.Workflow:
        self.requests.append(request)
        if self.get is not None:
            return await self.get(request, context)
        return workflow_pb2.Workflow(id=request.id)

    async def WatchWorkflow(self, request: Any, context: Any) -> AsyncIterator[workflow_pb2.Event]:
        self.requests.append(request)
        async for event in self.watch(request, context):
            yield event


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Any]:
    """Serves a `Workflows`; its answer is a `testing.Served` with `servicer` and `stub` besides."""
    async with AsyncExitStack() as stack:

        async def start(**more: Any) -> Any:
            servicer = Workflows()
            entry = (
                workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server,
                servicer,
                "wfe.api.v1.WorkflowService",
            )
            served: Any = await stack.enter_async_context(testing.served([entry], **more))
            served.servicer = servicer
            served.stub = workflow_service_pb2_grpc.WorkflowServiceStub(served.channel)
            return served

        yield start
