"""The guard around server streams."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
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


async def test_streams_without_credentials_take_no_room_from_others(serve: Any) -> None:
    served = await serve(settings=make_settings(max_streams=1, max_public_streams=2))
    go = asyncio.Event()

    async def watch(request: Any, context: Any) -> Any:
        yield workflow_pb2.Event(seq=1)
        await go.wait()

    served.servicer.watch = watch
    health = health_pb2_grpc.HealthStub(served.channel)
    reflection = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    watching, asking = health.Watch(health_pb2.HealthCheckRequest()), reflection.ServerReflectionInfo()
    await watching.read()
    await asking.write(question)
    assert (await asking.read()).list_services_response.service
    for more in (health.Watch(health_pb2.HealthCheckRequest()), reflection.ServerReflectionInfo(iter([question]))):
        refusal = await refused(more.read())
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert refusal.trailers["retry-after"] == "5"
    first = served.stub.WatchWorkflow(WATCH, metadata=served.bearer("viewer"))
    assert (await first.read()).seq == 1
    # Nor does a caller who is nobody.
    assert (await refused(read(served.stub.WatchWorkflow(WATCH)))).code is grpc.StatusCode.UNAUTHENTICATED
    refusal = await refused(read(served.stub.WatchWorkflow(WATCH, metadata=served.bearer("viewer"))))
    assert refusal.info.reason == "TOO_MANY_STREAMS"
    await asking.done_writing()
    assert await asking.read() is grpc.aio.EOF
    again = reflection.ServerReflectionInfo(iter([question]))
    assert (await again.read()).list_services_response.service
    go.set()
    assert await read(first) == []
    watching.cancel()


async def test_whoever_has_nothing_to_ask_of_reflection_is_sent_away(serve: Any) -> None:
    served = await serve(default_deadline=0.02)
    call = reflection_pb2_grpc.ServerReflectionStub(served.channel).ServerReflectionInfo()
    assert (await refused(call.read())).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_any_bytes_may_be_asked_of_reflection(serve: Any) -> None:
    served = await serve()
    ask = served.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    chance = random.Random(7)
    names = ("", "x", "wfe.api.v1.Workflow", "wfe/api/v1/workflow.proto", ".", "ü" * 20, "a\0b")
    codes = Counter[grpc.StatusCode]()
    for _ in range(300):
        name, number = chance.choice(names), chance.choice((0, -1, 1, 2**31 - 1, -(2**31), 1001))
        extension = reflection_pb2.ExtensionRequest(containing_type=name, extension_number=number)
        which = chance.choice(("file_by_filename", "file_containing_symbol", "all_extension_numbers_of_type"))
        given = chance.choice(({which: name}, {"file_containing_extension": extension}))
        raw = bytearray(reflection_pb2.ServerReflectionRequest(host=name, **given).SerializeToString())
        if chance.random() < 0.5:
            at = chance.randint(0, len(raw))
            raw[at:at] = chance.randbytes(chance.randint(1, 6))
        call = ask(iter([bytes(raw)]))
        said = [reflection_pb2.ServerReflectionResponse.FromString(each) async for each in _until_refused(call)]
        codes[await call.code()] += 1
        assert [bool(each.WhichOneof("message_response")) for each in said] in ([], [True])
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


async def _until_refused(call: Any) -> AsyncIterator[bytes]:
    with suppress(grpc.aio.AioRpcError):
        async for message in call:
            yield message
