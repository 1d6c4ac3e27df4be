"""The guard, over real connections: who gets in, what is parsed, how long it may take, what goes out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from wfe.api.v1 import workflow_pb2
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_engine.errors import NotFound
from wfe_servicekit.auth import current_caller
from wfe_servicekit.calls import current_call, header, http_status
from wfe_servicekit.checks import struct_to_dict
from wfe_servicekit.testing import OWNER, make_settings, refused, until

WORKFLOWS = "wfe.api.v1.WorkflowService"
Serve = Callable[..., Awaitable[Any]]
START = pb.StartWorkflowRequest(template_id="t")


async def test_a_caller_with_the_role_gets_in_and_the_servicer_knows_who_it_is(serve: Serve) -> None:
    served = await serve()
    seen: list[Any] = []

    async def start(request: Any, context: Any) -> Any:
        seen.append((current_caller(), header("idempotency-key"), current_call()))
        return workflow_pb2.Workflow(id="7", status="pending")

    served.servicer.start = start
    metadata = [*served.bearer("operator", groups=frozenset({"editors"})), ("idempotency-key", "k1")]
    answer = await served.stub.StartWorkflow(START, metadata=metadata)

    assert answer.id == "7"
    caller, key, call = seen[0]
    assert (caller.owner_id, caller.owner, caller.principal, caller.kind) == (OWNER, "acme", "ann", "person")
    assert caller.roles == {"operator"}
    assert caller.groups == {"editors"}
    assert caller.key_id in served.directory.keys
    assert key == "k1"
    assert call.method == f"/{WORKFLOWS}/StartWorkflow"


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer x")],
        [("authorization", "Basic YTpi")],
        [("authorization", "Bearer wfe_AAAAAAAA_" + "A" * 43 + "_AAAAAA")],
        [("x-principal", "ann"), ("x-owner", "acme")],
    ],
)
async def test_without_valid_credentials_everybody_gets_the_same_refusal(
    serve: Serve, metadata: list[tuple[str, str]]
) -> None:
    served = await serve()
    refusal = await refused(served.stub.StartWorkflow(START, metadata=metadata))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
    assert refusal.message == "credentials are missing or not valid"
    assert refusal.info.reason == "UNAUTHENTICATED"
    assert not refusal.info.metadata
    assert refusal.trailers["www-authenticate"] == "Bearer"
    assert served.servicer.requests == []


async def test_a_role_that_does_not_suffice_is_refused_and_the_answer_says_which_do(serve: Serve) -> None:
    served = await serve()
    for roles in (("viewer",), ("author", "approver"), ()):
        refusal = await refused(served.stub.StartWorkflow(START, metadata=served.bearer(*roles)))
        assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
        assert refusal.info.reason == "ROLE_REQUIRED"
        assert refusal.info.metadata["roles"] == "admin, operator"
    assert served.servicer.requests == []


async def test_roles_are_checked_before_the_request_is_parsed(serve: Serve) -> None:
    served = await serve()
    refusal = await refused(served.raw(f"/{WORKFLOWS}/StartWorkflow")(b"\xff\xff", metadata=served.bearer("viewer")))
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED


def deep_struct(levels: int) -> bytes:
    """A start request whose input has that many levels, built by hand: no library makes the deepest ones."""

    def field(number: int, body: bytes) -> bytes:
        size, out = len(body), bytearray([number << 3 | 2])
        while size > 127:
            out.append(size & 127 | 128)
            size >>= 7
        out.append(size)
        return bytes(out) + body

    value = field(3, b"x")
    for _ in range(levels - 1):
        value = field(5, field(1, field(1, b"a") + field(2, value)))
    return field(2, field(1, field(1, b"a") + field(2, value)))


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff",
        b"\x0a\x05ab",
        b"\x0a\x02\xff\xfe",
        b"\x0b",
        deep_struct(60),
        deep_struct(5_000),
    ],
    ids=["tag", "cut-off", "not-utf8", "open-group", "60-levels", "5000-levels"],
)
async def test_broken_bytes_are_the_clients_fault_not_the_servers(serve: Serve, raw: bytes) -> None:
    served = await serve()
    refusal = await refused(served.raw(f"/{WORKFLOWS}/StartWorkflow")(raw, metadata=served.bearer("operator")))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.info.reason == "MALFORMED_REQUEST"
    assert "BadRequest" in refusal.details
    assert served.servicer.requests == []


async def test_thirty_two_levels_are_read_and_thirty_three_are_refused_by_name(serve: Serve) -> None:
    served = await serve()

    async def start(request: Any, context: Any) -> Any:
        struct_to_dict(request.input)
        return workflow_pb2.Workflow(id="1")

    served.servicer.start = start
    metadata = served.bearer("operator")
    assert await served.raw(f"/{WORKFLOWS}/StartWorkflow")(deep_struct(32), metadata=metadata)
    refusal = await refused(served.raw(f"/{WORKFLOWS}/StartWorkflow")(deep_struct(33), metadata=metadata))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    violations = refusal.details["BadRequest"].field_violations
    assert [v.field for v in violations] == ["input" + ".a" * 32]
    assert "32 levels" in violations[0].description


async def test_a_request_beyond_the_limit_is_named_too_large(serve: Serve) -> None:
    served = await serve(settings=make_settings(max_request_bytes=2_000))
    metadata = served.bearer("operator")
    assert await served.stub.StartWorkflow(pb.StartWorkflowRequest(template_id="x" * 1_900), metadata=metadata)
    refusal = await refused(
        served.stub.StartWorkflow(pb.StartWorkflowRequest(template_id="x" * 3_000), metadata=metadata)
    )
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.info.reason == "REQUEST_TOO_LARGE"
    assert refusal.info.metadata["limit"] == "2000"
    assert refusal.trailers["x-http-status"] == "413"


async def test_unknown_methods_and_methods_a_servicer_lacks_are_unimplemented(serve: Serve) -> None:
    served = await serve()
    metadata = served.bearer("admin")
    for method, service in (("Nope", WORKFLOWS), ("StartWorkflow", "wfe.api.v1.Other")):
        refusal = await refused(served.raw(f"/{service}/{method}")(b"", metadata=metadata))
        assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
        assert refusal.info.reason == "UNIMPLEMENTED"
    refusal = await refused(served.stub.PauseWorkflow(pb.PauseWorkflowRequest(), metadata=metadata))
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
    # What is not there is no secret, but a stranger still learns nothing of a method that is.
    refusal = await refused(served.stub.PauseWorkflow(pb.PauseWorkflowRequest()))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED


async def test_unhandled_exceptions_tell_the_client_an_id_and_the_log_the_rest(
    serve: Serve, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    served = await serve()

    async def start(request: Any, context: Any) -> Any:
        raise ValueError("canary 7b1f: password=hunter2")

    served.servicer.start = start
    refusal = await refused(served.stub.StartWorkflow(START, metadata=served.bearer("operator")))
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert refusal.message == "internal error"
    assert refusal.info.reason == "INTERNAL"
    error_id = refusal.info.metadata["error_id"]
    assert refusal.trailers["x-error-id"] == error_id
    assert "canary" not in repr(refusal)
    logged = capsys.readouterr().out + caplog.text
    assert error_id in logged
    assert "canary 7b1f" in logged


@pytest.mark.parametrize("answer", [None, "text"])
async def test_an_answer_that_is_no_message_of_the_method_is_an_internal_error(serve: Serve, answer: Any) -> None:
    served = await serve()

    async def start(request: Any, context: Any) -> Any:
        return answer

    served.servicer.start = start
    refusal = await refused(served.stub.StartWorkflow(START, metadata=served.bearer("operator")))
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert refusal.message == "internal error"


async def test_an_error_of_a_task_group_counts_as_the_error_in_it(serve: Serve) -> None:
    served = await serve()

    async def fail() -> None:
        raise NotFound("no such run", id="1")

    async def start(request: Any, context: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    served.servicer.start = start
    refusal = await refused(served.stub.StartWorkflow(START, metadata=served.bearer("operator")))
    assert refusal.code is grpc.StatusCode.NOT_FOUND


async def test_201_is_said_in_initial_metadata_over_rest_and_not_to_grpc_clients(serve: Serve) -> None:
    served = await serve()

    async def start(request: Any, context: Any) -> Any:
        http_status(201)
        if request.template_id == "missing":
            raise NotFound("no such template")
        return workflow_pb2.Workflow(id="1")

    served.servicer.start = start
    metadata = served.bearer("operator")
    rest = [*metadata, ("x-envoy-original-path", "/api/v1/workflows")]

    call = served.stub.StartWorkflow(START, metadata=rest)
    assert (await call).id == "1"
    assert dict(await call.initial_metadata())["x-http-status"] == "201"
    call = served.stub.StartWorkflow(START, metadata=metadata)
    assert (await call).id == "1"
    assert "x-http-status" not in dict(await call.initial_metadata())

    # An error stays trailers only, or Envoy would not make a JSON body of it.
    refusal = await refused(served.stub.StartWorkflow(pb.StartWorkflowRequest(template_id="missing"), metadata=rest))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert "x-http-status" not in refusal.initial | refusal.trailers


async def test_a_call_that_takes_too_long_is_cancelled_and_told_so(serve: Serve) -> None:
    served = await serve(default_deadline=0.1, deadlines={f"/{WORKFLOWS}/GetWorkflow": 30.0})
    cancelled = asyncio.Event()

    async def wait(request: Any, context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def slower(request: Any, context: Any) -> Any:
        await cancelled.wait()
        return workflow_pb2.Workflow(id="slow")

    served.servicer.start, served.servicer.get = wait, slower
    metadata = served.bearer("operator")
    get = asyncio.ensure_future(served.stub.GetWorkflow(pb.GetWorkflowRequest(), metadata=metadata))
    refusals = await asyncio.gather(*(refused(served.stub.StartWorkflow(START, metadata=metadata)) for _ in range(5)))
    for refusal in refusals:
        assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert refusal.info.reason == "DEADLINE_EXCEEDED"
    assert (await get).id == "slow"
    served.servicer.start = None
    assert (await served.stub.StartWorkflow(START, metadata=metadata)).id == "1"


async def test_the_deadline_covers_authentication(serve: Serve) -> None:
    served = await serve(default_deadline=0.1)
    served.directory.gate = asyncio.Event()
    refusal = await refused(served.stub.StartWorkflow(START, metadata=served.bearer("operator")))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    served.directory.gate.set()


async def test_a_client_that_hangs_up_cancels_its_call_and_nothing_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(request: Any, context: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    served.servicer.start = wait
    with caplog.at_level(logging.WARNING):
        call = served.stub.StartWorkflow(START, metadata=served.bearer("operator"))
        await asyncio.wait_for(begun.wait(), 5)
        call.cancel()
        await asyncio.wait_for(ended.wait(), 5)
    assert not caplog.records


async def test_something_cancelled_inside_the_method_is_a_fault_and_is_answered(serve: Serve) -> None:
    served = await serve()

    async def start(request: Any, context: Any) -> Any:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    served.servicer.start = start
    refusal = await refused(served.stub.StartWorkflow(START, metadata=served.bearer("operator")))
    assert refusal.code is grpc.StatusCode.INTERNAL


async def test_a_servicer_may_still_abort_by_itself(serve: Serve) -> None:
    served = await serve()

    async def start(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.DATA_LOSS, "mine")

    served.servicer.start = start
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.StartWorkflow(START, metadata=served.bearer("operator"))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "mine")


async def test_calls_at_the_same_time_do_not_see_each_others_callers(serve: Serve) -> None:
    served = await serve()
    both = asyncio.Barrier(20)

    async def start(request: Any, context: Any) -> Any:
        await both.wait()
        return workflow_pb2.Workflow(created_by=current_caller().principal)

    served.servicer.start = start
    names = [f"p{number}" for number in range(20)]
    answers = await asyncio.gather(
        *(served.stub.StartWorkflow(START, metadata=served.bearer("admin", principal=name)) for name in names)
    )
    assert [answer.created_by for answer in answers] == names


async def test_a_store_that_is_down_is_not_taken_for_wrong_credentials(serve: Serve) -> None:
    served = await serve()
    metadata = served.bearer("operator")
    served.directory.failure = ConnectionError("refused")
    refusal = await refused(served.stub.StartWorkflow(START, metadata=metadata))
    assert refusal.code is grpc.StatusCode.INTERNAL
    served.directory.failure = None
    assert (await served.stub.StartWorkflow(START, metadata=metadata)).id == "1"


async def test_stopping_lets_calls_end_within_the_grace(serve: Serve) -> None:
    served = await serve()
    begun, go = asyncio.Event(), asyncio.Event()

    async def start(request: Any, context: Any) -> Any:
        begun.set()
        await go.wait()
        return workflow_pb2.Workflow(id="late")

    served.servicer.start = start
    call = asyncio.ensure_future(served.stub.StartWorkflow(START, metadata=served.bearer("operator")))
    await begun.wait()
    stopping = asyncio.ensure_future(served.server.stop(5))
    await until(lambda: not served.server.readiness.ready)
    go.set()
    assert (await call).id == "late"
    await stopping


async def test_calls_that_do_not_end_within_the_grace_are_told_to_try_again(serve: Serve) -> None:
    served = await serve()
    begun = asyncio.Event()

    async def start(request: Any, context: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    served.servicer.start = start
    call = asyncio.ensure_future(refused(served.stub.StartWorkflow(START, metadata=served.bearer("operator"))))
    await begun.wait()
    await served.server.stop(0.5)
    refusal = await call
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_ENDS")
