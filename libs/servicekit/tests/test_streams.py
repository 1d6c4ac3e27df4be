"""The guard around server streams."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from wfe.api.v1 import workflow_pb2
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_engine.errors import NotFound
from wfe_servicekit import standing
from wfe_servicekit.auth import current_caller
from wfe_servicekit.testing import make_settings, refused, until

WATCH = pb.WatchWorkflowRequest(id="1")


async def read(call: Any) -> list[int]:
    seqs = []
    while (event := await call.read()) is not grpc.aio.EOF:
        seqs.append(event.seq)
    return seqs


async def three(request: Any, context: Any) -> Any:
    for seq in (1, 2, 3):
        yield workflow_pb2.Event(seq=seq, actor=current_caller().principal)


async def test_a_stream_is_read_to_its_end_by_a_caller_with_the_role(serve: Any) -> None:
    served = await serve()
    served.servicer.watch = three
    call = served.stub.WatchWorkflow(WATCH, metadata=served.bearer("viewer"))
    events = [event async for event in call]
    assert [(event.seq, event.actor) for event in events] == [(1, "ann"), (2, "ann"), (3, "ann")]
    assert await call.code() is grpc.StatusCode.OK


async def test_streams_have_the_same_checks_as_other_methods(serve: Any) -> None:
    served = await serve(settings=make_settings(max_request_bytes=1_024))
    served.servicer.watch = three
    refusal = await refused(read(served.stub.WatchWorkflow(WATCH)))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
    refusal = await refused(read(served.stub.WatchWorkflow(WATCH, metadata=served.bearer("approver"))))
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    raw = served.channel.unary_stream("/wfe.api.v1.WorkflowService/WatchWorkflow")
    refusal = await refused(read(raw(b"\xff", metadata=served.bearer("viewer"))))
    assert refusal.info.reason == "MALFORMED_REQUEST"
    refusal = await refused(read(raw(b"\x0a\x80\x0c" + b"x" * 1_536, metadata=served.bearer("viewer"))))
    assert refusal.info.reason == "REQUEST_TOO_LARGE"
    assert served.servicer.requests == []


async def test_an_error_after_some_messages_ends_the_stream_with_its_details(serve: Any) -> None:
    served = await serve()

    async def watch(request: Any, context: Any) -> Any:
        yield workflow_pb2.Event(seq=1)
        raise NotFound("the run is gone", id="1")

    served.servicer.watch = watch
    call = served.stub.WatchWorkflow(WATCH, metadata=served.bearer("viewer"))
    assert (await call.read()).seq == 1
    refusal = await refused(read(call))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.info.metadata["id"] == "1"


@pytest.mark.parametrize("first", [False, True])
async def test_an_unhandled_error_in_a_stream_leaks_nothing(serve: Any, first: bool) -> None:
    served = await serve()

    async def watch(request: Any, context: Any) -> Any:
        if first:
            yield workflow_pb2.Event(seq=1)
        yield "canary"

    served.servicer.watch = watch
    refusal = await refused(read(served.stub.WatchWorkflow(WATCH, metadata=served.bearer("viewer"))))
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert "canary" not in repr(refusal)


async def test_a_client_that_hangs_up_finishes_the_generator_at_once(serve: Any) -> None:
    served = await serve()
    ended = asyncio.Event()

    async def watch(request: Any, context: Any) -> Any:
        try:
            yield workflow_pb2.Event(seq=1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    served.servicer.watch = watch
    call = served.stub.WatchWorkflow(WATCH, metadata=served.bearer("viewer"))
    await call.read()
    call.cancel()
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"revoked_at": datetime(2020, 1, 1, tzinfo=UTC)}, grpc.StatusCode.UNAUTHENTICATED),
        ({"roles": frozenset({"approver"})}, grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_a_stream_ends_soon_after_its_key(
    serve: Any, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], code: grpc.StatusCode
) -> None:
    monkeypatch.setattr(standing, "LOOK_SECONDS", 0.01)
    served = await serve()
    ended = asyncio.Event()

    async def watch(request: Any, context: Any) -> Any:
        try:
            yield workflow_pb2.Event(seq=1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    served.servicer.watch = watch
    call = served.stub.WatchWorkflow(WATCH, metadata=served.bearer("viewer"))
    assert (await call.read()).seq == 1
    reading = asyncio.ensure_future(call.read())
    # A store that is away for a while ends nothing.
    served.directory.failure = ConnectionError("refused")
    served.seconds.seconds += 10
    asked = len(served.directory.asked)
    await until(lambda: len(served.directory.asked) > asked + 2)
    assert not reading.done()
    served.directory.failure = None
    ((key_id, record),) = served.directory.keys.items()
    served.directory.keys[key_id] = dataclasses.replace(record, **change)
    refusal = await refused(asyncio.wait_for(reading, 10))
    assert refusal.code is code
    assert ended.is_set()


async def test_streams_are_limited_and_the_room_comes_back(serve: Any) -> None:
    served = await serve(settings=make_settings(max_streams=2))
    go = asyncio.Event()

    async def watch(request: Any, context: Any) -> Any:
        yield workflow_pb2.Event(seq=1)
        await go.wait()

    served.servicer.watch = watch
    metadata = served.bearer("viewer")
    calls = [served.stub.WatchWorkflow(WATCH, metadata=metadata) for _ in range(2)]
    for call in calls:
        await call.read()
    refusal = await refused(read(served.stub.WatchWorkflow(WATCH, metadata=metadata)))
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.info.reason == "TOO_MANY_STREAMS"
    assert refusal.trailers["retry-after"] == "5"
    go.set()
    for call in calls:
        assert await read(call) == []
    assert await read(served.stub.WatchWorkflow(WATCH, metadata=metadata)) == [1]


async def test_streams_have_no_deadline(serve: Any) -> None:
    served = await serve(default_deadline=0.02)
    waited = asyncio.Event()

    async def watch(request: Any, context: Any) -> Any:
        # Longer than the deadline of unary methods, which must have passed for this to mean anything.
        asyncio.get_running_loop().call_later(0.1, waited.set)
        await waited.wait()
        yield workflow_pb2.Event(seq=9)

    served.servicer.watch = watch
    assert await read(served.stub.WatchWorkflow(WATCH, metadata=served.bearer("viewer"))) == [9]


async def test_the_streams_of_one_owner_are_limited_and_the_room_comes_back(serve: Any) -> None:
    served = await serve(settings=make_settings(max_owner_streams=1))
    go = asyncio.Event()

    async def watch(request: Any, context: Any) -> Any:
        yield workflow_pb2.Event(seq=1)
        await go.wait()

    served.servicer.watch = watch
    metadata = served.bearer("viewer")
    first = served.stub.WatchWorkflow(WATCH, metadata=metadata)
    await first.read()
    for _ in range(2):
        refusal = await refused(read(served.stub.WatchWorkflow(WATCH, metadata=metadata)))
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
    another = served.bearer("viewer", owner_id=uuid.uuid4())
    other = served.stub.WatchWorkflow(WATCH, metadata=another)
    assert (await other.read()).seq == 1
    go.set()
    assert await read(first) == await read(other) == []
    assert await read(served.stub.WatchWorkflow(WATCH, metadata=metadata)) == [1]


async def test_a_stream_that_is_open_when_the_service_ends_is_told_to_come_again(serve: Any) -> None:
    served = await serve()

    async def watch(request: Any, context: Any) -> Any:
        yield workflow_pb2.Event(seq=1)
        await asyncio.Event().wait()

    served.servicer.watch = watch
    call = served.stub.WatchWorkflow(WATCH, metadata=served.bearer("viewer"))
    await call.read()
    ended = asyncio.ensure_future(refused(read(call)))
    await served.server.stop(0.5)
    refusal = await ended
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_ENDS")
