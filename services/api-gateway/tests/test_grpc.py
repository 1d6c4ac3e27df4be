"""The gRPC listener: what it lets through, untouched, and what it refuses."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from wfe.api.v1 import (
    approval_service_pb2,
    approval_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
    workflow_pb2,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

METADATA = (("authorization", "Bearer wfe_k"), ("idempotency-key", "k-1"))


def reason_of(error):
    (detail,) = rpc_status.from_call(error).details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert info.domain == "wfe"
    return info.reason


async def test_calls_reach_both_services_with_their_metadata(gateway, scheduler, approvals):
    async with gateway.channel() as channel:
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        await stub.GetWorkflow(workflow_service_pb2.GetWorkflowRequest(id="r"), metadata=METADATA)
        system = system_service_pb2_grpc.SystemServiceStub(channel)
        await system.GetReadiness(system_service_pb2.GetReadinessRequest())
        stub = approval_service_pb2_grpc.ApprovalServiceStub(channel)
        await stub.ListApprovals(approval_service_pb2.ListApprovalsRequest())
    assert [call.method for call in scheduler.calls] == ["GetWorkflow", "GetReadiness"]
    assert [call.method for call in approvals.calls] == ["ListApprovals"]
    assert scheduler.calls[0].metadata["authorization"] == "Bearer wfe_k"
    assert scheduler.calls[0].metadata["idempotency-key"] == "k-1"


async def test_x_http_status_means_nothing_over_grpc(gateway, scheduler):
    scheduler.answer("StartWorkflow", workflow_pb2.Workflow(id="r"), status=201)
    scheduler.fail("PauseWorkflow", grpc.StatusCode.FAILED_PRECONDITION, 409)
    async with gateway.channel() as channel:
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        run = await stub.StartWorkflow(workflow_service_pb2.StartWorkflowRequest())
        assert run.id == "r"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.PauseWorkflow(workflow_service_pb2.PauseWorkflowRequest(id="r"))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "TEST"


async def test_no_caller_passes_for_one_of_rest_or_steers_envoy(gateway, scheduler):
    spoofed = (("x-envoy-original-path", "/api/v1/workflows/r"), ("x-envoy-upstream-rq-timeout-ms", "1"))
    async with gateway.channel() as channel:
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        await stub.GetWorkflow(workflow_service_pb2.GetWorkflowRequest(id="r"), metadata=spoofed)
    assert "x-envoy-original-path" not in scheduler.calls[0].metadata
    assert "x-envoy-upstream-rq-timeout-ms" not in scheduler.calls[0].metadata


async def test_streams_arrive_message_by_message(gateway, scheduler):
    go_on = asyncio.Event()

    async def watch(request, context):
        yield workflow_pb2.Event(seq=1)
        await go_on.wait()
        yield workflow_pb2.Event(seq=2)

    scheduler.answers["WatchWorkflow"] = watch
    async with gateway.channel() as channel:
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        stream = stub.WatchWorkflow(workflow_service_pb2.WatchWorkflowRequest(id="r"))
        events = aiter(stream)
        assert (await anext(events)).seq == 1
        go_on.set()
        assert [event.seq async for event in events] == [2]


async def test_health_is_the_schedulers(gateway, scheduler):
    async with gateway.channel() as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x01"
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert await watch.read() == b"\x08\x01"
    assert [call.method for call in scheduler.calls] == ["health"]


@pytest.mark.parametrize(
    "method", ["/wfe.internal.v1.Secret/Tell", "/wfe.api.v1.Nope/Get", "/wfe.api.v1.WorkflowServiceX/Get", "/"]
)
async def test_nothing_else_passes(gateway, scheduler, approvals, method):
    async with gateway.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(method)(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert reason_of(caught.value) == "PATH_NOT_FOUND"
    assert not scheduler.calls
    assert not approvals.calls


async def test_a_service_that_is_not_there(lonely_gateway):
    async with lonely_gateway.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/wfe.api.v1.WorkflowService/GetWorkflow")(b"")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(caught.value) == "SERVICE_UNAVAILABLE"
    assert "127.0.0.1" not in caught.value.details()


async def test_grpc_at_the_rest_port_is_told_where_to_go(gateway, scheduler):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.rest_port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/wfe.api.v1.WorkflowService/GetWorkflow")(b"")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "UNSUPPORTED_MEDIA_TYPE"
    assert "gRPC" in caught.value.details()
    assert not scheduler.calls
