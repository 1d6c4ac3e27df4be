"""Requests with large values: read elsewhere, a few at a time, with the same rules as all others."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from google.protobuf.struct_pb2 import Value
from wfe.api.v1.workflow_service_pb2 import SignalWorkflowRequest, StartWorkflowRequest
from wfe_engine.errors import InvalidInput, NotFound, ResourceExhausted
from wfe_engine.sizes import MOST_BYTES
from wfe_servicekit.calls import Call, large_value
from wfe_servicekit.large import Large, LargeRequests

START = Large("wfe.api.v1.workflow_service_pb2", "StartWorkflowRequest", ("input", "signal.payload"))
SIGNAL = Large("wfe.api.v1.workflow_service_pb2", "SignalWorkflowRequest", ("payload",))


async def served(large, request, requests=None, then=None):
    """What the method is given: its request, and the values beside it."""
    call = Call("/x/Y")

    async def behaviour(given):
        if then is not None:
            await then()
        return given, call.large

    parse = type(request).FromString
    reader = requests or LargeRequests({})
    try:
        return await reader.serve(large, request.SerializeToString(), call, parse, behaviour)
    finally:
        if requests is None:
            await reader.close()


async def test_values_come_beside_the_request():
    request = StartWorkflowRequest(template_id="t", labels={"a": "b"})
    request.input.update({"text": "x" * 2_000_000, "list": [1, 2.5, None, True]})
    request.signal.name = "go"
    request.signal.payload.string_value = "now"
    given, values = await served(START, request)
    assert (given.template_id, given.labels["a"], given.HasField("input"), given.signal.name) == ("t", "b", False, "go")
    assert msgspec.json.decode(values["input"]) == {"text": "x" * 2_000_000, "list": [1, 2.5, None, True]}
    assert values["signal.payload"] == b'"now"'


async def test_what_is_not_given_is_not_there():
    given, values = await served(START, StartWorkflowRequest(template_id="t"))
    assert (given.template_id, values) == ("t", {})


async def test_violations_are_named():
    request = StartWorkflowRequest(template_id="t")
    request.input.update({"nul": "a\0b", "number": 2.0**60})
    request.signal.payload.number_value = float("nan")
    with pytest.raises(InvalidInput) as refusal:
        await served(START, request)
    fields = sorted(v.field for v in refusal.value.violations)
    assert fields == ["input.nul", "input.number", "signal.payload"]


@pytest.mark.parametrize(("size", "fits"), [(MOST_BYTES, True), (MOST_BYTES + 1, False)])
async def test_the_limit_is_that_of_values(size, fits):
    request = SignalWorkflowRequest(id="r", name="go", payload=Value(string_value="x" * (size - 2)))
    if fits:
        assert len((await served(SIGNAL, request))[1]["payload"]) == size
        return
    with pytest.raises(InvalidInput, match=str(MOST_BYTES)) as refusal:
        await served(SIGNAL, request)
    assert refusal.value.violations[0].field == "payload"


async def test_what_is_no_request_is_refused():
    call = Call("/x/Y")

    async def never(_given):
        raise AssertionError

    requests = LargeRequests({})
    for _ in range(2):
        with pytest.raises(InvalidInput):
            await requests.serve(SIGNAL, b"\xff" * 100, call, SignalWorkflowRequest.FromString, never)
    request = SignalWorkflowRequest(id="r", payload=Value(string_value="x"))
    assert (await served(SIGNAL, request, requests))[1] == {"payload": b'"x"'}, "the next one has another process"
    await requests.close()


async def test_who_is_not_admitted_costs_nothing():
    def nobody(raw: bytes) -> None:
        assert raw
        raise NotFound("there is none")

    request = SignalWorkflowRequest(id="r")
    with pytest.raises(NotFound):
        await served(Large(SIGNAL.module, SIGNAL.message, SIGNAL.fields, nobody), request)


async def test_few_are_under_way_and_few_wait():
    requests = LargeRequests({}, at_once=1, most_waiting=1)
    release, inside = asyncio.Event(), asyncio.Event()

    async def hold():
        inside.set()
        await release.wait()

    request = SignalWorkflowRequest(id="r", payload=Value(string_value="x"))
    first = asyncio.create_task(served(SIGNAL, request, requests, hold))
    await inside.wait()
    second = asyncio.create_task(served(SIGNAL, request, requests))
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as refusal:
        await served(SIGNAL, request, requests)
    assert (refusal.value.reason, refusal.value.retry_after) == ("TOO_MANY_LARGE", 2.0)
    release.set()
    assert [(await each)[1] for each in (first, second)] == [{"payload": b'"x"'}] * 2
    await requests.close()


async def test_who_hangs_up_ends_the_process_and_gives_the_place_back():
    requests = LargeRequests({}, at_once=1, most_waiting=1)
    request = SignalWorkflowRequest(id="r", payload=Value(string_value="x" * 4_000_000))
    for _ in range(3):
        task = asyncio.create_task(served(SIGNAL, request, requests))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await served(SIGNAL, request, requests))[1]["payload"] == b'"' + b"x" * 4_000_000 + b'"'
    await requests.close()


def test_outside_of_a_call_there_is_none():
    assert large_value("input") is None
