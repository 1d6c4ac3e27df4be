"""The guard and requests that never come: refused, or given up at the deadline."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_servicekit.testing import refused

WORKFLOWS = "wfe.api.v1.WorkflowService"
START = pb.StartWorkflowRequest(template_id="t")


@pytest.mark.parametrize("method", ["StartWorkflow", "WatchWorkflow"])
async def test_a_call_without_a_request_is_refused_at_once(serve: Any, method: str) -> None:
    served = await serve()
    call = served.channel.stream_unary(f"/{WORKFLOWS}/{method}")(metadata=served.bearer("admin"), timeout=30)
    await call.done_writing()
    refusal = await refused(call)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.message == "the call ended without a request"
    assert served.servicer.requests == []


@pytest.mark.parametrize("method", ["PauseWorkflow", "WatchWorkflow"])
async def test_a_call_whose_request_never_comes_has_a_deadline(serve: Any, method: str) -> None:
    served = await serve(default_deadline=0.2)
    call = served.channel.stream_unary(f"/{WORKFLOWS}/{method}")(metadata=served.bearer("admin"), timeout=30)
    refusal = await refused(call)
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refusal.info.reason == "DEADLINE_EXCEEDED"
    # A stranger is not waited for.
    refusal = await refused(served.channel.stream_unary(f"/{WORKFLOWS}/{method}")(timeout=30))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED


async def test_clients_that_hang_up_at_any_moment_leave_nothing_in_the_log(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()
    metadata = served.bearer("operator")
    with caplog.at_level(logging.WARNING):
        for turns in range(30):
            call = served.channel.stream_unary(f"/{WORKFLOWS}/StartWorkflow")(metadata=metadata)
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
        assert (await served.stub.StartWorkflow(START, metadata=metadata)).id == "1"
    assert not caplog.records
