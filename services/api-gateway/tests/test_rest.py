"""REST calls that reach a service, and what comes back."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from wfe.api.v1 import approval_service_pb2, workflow_pb2, workflow_service_pb2


async def test_answers_are_snake_case_json_with_zeros_and_without_what_is_unset(gateway, scheduler):
    run = workflow_pb2.Workflow(id="r", status="pending", epoch=1)
    run.created_at.FromJsonString("2026-01-02T03:04:05Z")
    scheduler.answer("GetWorkflow", run)
    reply = await gateway.call("GET", "/api/v1/workflows/r")
    assert reply.status == 200
    assert reply.json["created_at"] == "2026-01-02T03:04:05Z"
    assert (reply.json["events_total"], reply.json["steps"], reply.json["labels"]) == (0, [], {})
    assert "ended_at" not in reply.json
    assert "output" not in reply.json
    assert scheduler.calls[0].request.id == "r"


async def test_x_http_status_makes_a_201(gateway, scheduler):
    scheduler.answer("StartWorkflow", workflow_pb2.Workflow(id="r", status="pending"), status=201)
    reply = await gateway.call("POST", "/api/v1/workflows", {"template_id": "t", "input": {"a": [1, None]}})
    assert reply.status == 201
    assert reply.json["status"] == "pending"
    assert dict(scheduler.calls[0].request.input)["a"][0] == 1
    assert not [name for name in reply.headers if name == "x-http-status" or name.startswith("grpc-")]


@pytest.mark.parametrize("early", [True, False])
async def test_x_http_status_makes_a_409(gateway, scheduler, early):
    scheduler.fail("PauseWorkflow", grpc.StatusCode.FAILED_PRECONDITION, 409, early=early)
    reply = await gateway.call("POST", "/api/v1/workflows/r/pause")
    assert reply.error(409) == {"code": 9, "message": "no “so”", "reason": "TEST"}
    assert reply.json["details"][0]["metadata"] == {"id": "1"}
    assert not [name for name in reply.headers if name == "x-http-status" or name.startswith("grpc-")]


@pytest.mark.parametrize("status", [100, 204, 302, 999])
async def test_a_senseless_x_http_status_changes_nothing(gateway, scheduler, status):
    scheduler.answer("StartWorkflow", workflow_pb2.Workflow(id="r"), status=status)
    reply = await gateway.call("POST", "/api/v1/workflows", {})
    assert reply.status == 200
    assert "x-http-status" not in reply.headers


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.UNAUTHENTICATED, 401),
        (grpc.StatusCode.PERMISSION_DENIED, 403),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.ALREADY_EXISTS, 409),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    ],
)
async def test_errors_of_services_keep_code_message_and_details(gateway, scheduler, code, status):
    scheduler.fail("GetWorkflow", code)
    reply = await gateway.call("GET", "/api/v1/workflows/r")
    assert reply.error(status) == {"code": code.value[0], "message": "no “so”", "reason": "TEST"}


async def test_calls_go_to_the_service_that_serves_them(gateway, scheduler, approvals):
    for method, path in [
        ("GET", "/api/v1/workflows"),
        ("GET", "/api/v1/templates"),
        ("GET", "/readyz"),
        ("GET", "/api/v1/approvals"),
        ("GET", "/api/v1/self"),
        ("POST", "/api/v1/workflows/r/approvals/a/approve"),
        ("DELETE", "/api/v1/groups/g/members/p"),
        ("POST", "/api/v1/templates/validate"),
    ]:
        assert (await gateway.call(method, path)).status == 200
    ours = [call.method for call in scheduler.calls]
    assert ours == ["ListWorkflows", "ListTemplates", "GetReadiness", "ValidateTemplate"]
    theirs = [call.method for call in approvals.calls]
    assert theirs == ["ListApprovals", "GetSelf", "ApproveWorkflow", "RemoveGroupMember"]
    assert approvals.calls[2].request == approval_service_pb2.ApproveWorkflowRequest(id="r", approval_id="a")


async def test_credentials_and_idempotency_key_arrive_as_metadata(gateway, scheduler):
    headers = {"Authorization": "Bearer wfe_k", "Idempotency-Key": "k-1"}
    await gateway.call("POST", "/api/v1/workflows", {}, headers)
    metadata = scheduler.calls[0].metadata
    assert metadata["authorization"] == "Bearer wfe_k"
    assert metadata["idempotency-key"] == "k-1"
    assert metadata["x-request-id"]


async def test_the_body_of_a_hooks_call_arrives_byte_for_byte(gateway, approvals):
    body = b'{ "b":1,\t"a" : 1.50, "\\u00e9": "\xc3\xa9" }\r\n'
    headers = {"Content-Type": "application/json; charset=utf-8", "webhook-id": "msg_1", "webhook-signature": "v1,x"}
    assert (await gateway.call("POST", "/api/v1/hooks/h", body, headers)).status == 200
    (call,) = approvals.calls
    assert (call.method, call.request.id, call.request.body.data) == ("ReceiveHook", "h", body)
    assert (call.metadata["webhook-id"], call.metadata["webhook-signature"]) == ("msg_1", "v1,x")


async def test_query_parameters_fill_the_request(gateway, scheduler):
    query = "status=running&label=a%3Db&label=c=d+e&limit=7&created_after=2026-01-02T03:04:05%2B01:00"
    await gateway.call("GET", f"/api/v1/workflows?{query}")
    request = scheduler.calls[0].request
    assert (request.status, list(request.label), request.limit) == ("running", ["a=b", "c=d e"], 7)
    assert request.created_after.ToJsonString() == "2026-01-02T02:04:05Z"


async def test_events_arrive_one_by_one_as_they_happen(gateway, scheduler):
    go_on = asyncio.Event()

    async def watch(request, context):
        yield workflow_pb2.Event(seq=request.after + 1, type="run.started")
        await go_on.wait()
        yield workflow_pb2.Event(seq=request.after + 2, type="run.completed")

    scheduler.answers["WatchWorkflow"] = watch
    url = f"http://127.0.0.1:{gateway.rest_port}/api/v1/workflows/r/watch?after=4"
    async with gateway.http.get(url) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        first = await answer.content.readuntil(b"\n\n")
        assert json.loads(first.removeprefix(b"data: "))["seq"] == 5
        assert not go_on.is_set()
        go_on.set()
        rest = await answer.content.read()
        assert json.loads(rest.removeprefix(b"data: "))["type"] == "run.completed"


async def test_a_watch_that_fails_at_once_is_a_plain_error(gateway, scheduler):
    async def watch(request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no run")
        yield

    scheduler.answers["WatchWorkflow"] = watch
    reply = await gateway.call("GET", "/api/v1/workflows/r/watch")
    assert (reply.status, reply.json["code"], reply.json["message"]) == (404, 5, "no run")


async def test_a_client_that_goes_ends_its_stream_at_the_service(gateway, scheduler):
    ended = asyncio.Event()

    async def watch(request, context):
        try:
            yield workflow_pb2.Event(seq=1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    scheduler.answers["WatchWorkflow"] = watch
    async with gateway.http.get(f"http://127.0.0.1:{gateway.rest_port}/api/v1/workflows/r/watch") as answer:
        await answer.content.readuntil(b"\n\n")
    async with asyncio.timeout(10):
        await ended.wait()


async def test_a_large_answer_passes_whole(gateway, scheduler):
    page = workflow_service_pb2.ListEventsResponse(
        events=[workflow_pb2.Event(seq=n, type="x" * 100) for n in range(30_000)]
    )
    scheduler.answer("ListEvents", page)
    reply = await gateway.call("GET", "/api/v1/workflows/r/events")
    assert len(reply.body) > 3_000_000
    assert reply.json["events"][-1]["seq"] == 29_999


async def test_healthz_needs_no_service(lonely_gateway):
    reply = await lonely_gateway.call("GET", "/healthz")
    assert (reply.status, reply.json) == (200, {"status": "ok"})


async def test_the_openapi_document_is_served(gateway):
    reply = await gateway.call("GET", "/api/v1/openapi.json")
    assert reply.status == 200
    assert reply.json["openapi"] == "3.1.0"
    assert "/api/v1/workflows/{id}/pause" in reply.json["paths"]


async def test_api_answers_are_not_kept_by_caches(gateway):
    reply = await gateway.call("GET", "/api/v1/self")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert not {"server", "via", "x-envoy-upstream-service-time"} & set(reply.headers)


async def test_answers_are_neither_kept_nor_indexed_nor_told_of(gateway):
    headers = (await gateway.call("GET", "/api/v1/links/wfl_x")).headers
    names = ("cache-control", "referrer-policy", "x-robots-tag", "x-content-type-options")
    assert [headers[name] for name in names] == ["no-store", "no-referrer", "noindex", "nosniff"]
