"""StartWorkflow over gRPC: what is asked of the engine, what is answered, what is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_engine.errors import AlreadyExists, Unavailable
from wfe_scheduler.api.engine import StartOptions
from wfe_scheduler.api.workflows import WorkflowService
from wfe_servicekit.testing import refused, until

from .conftest import REST, STARTER, TEMPLATE, Api, fields, plain

SECOND = dt.timedelta(seconds=1)


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


# ---- starting


async def test_a_start_answers_201_and_pending(api: Api) -> None:
    request = pb.StartWorkflowRequest(
        template_id=str(TEMPLATE), input=struct(tone="plain", n=3), labels={"team": "red"}
    )
    call = api.workflows.StartWorkflow(request, metadata=[*api.ann, *REST])
    answer = await call
    assert ("x-http-status", "201") in tuple(await call.initial_metadata())
    assert api.engine.asked == [
        ("start", TEMPLATE, None, {"tone": "plain", "n": 3}, {"team": "red"}, None, b"", StartOptions()),
    ]
    assert plain(answer) == {
        "id": str(api.engine.started.run_id),
        "status": "pending",
        "template": {"id": str(TEMPLATE), "name": "publish", "version": 3},
        "trigger_type": "api",
        "input": {"tone": "plain", "token": "[sealed]"},
        "labels": {"team": "red"},
        "created_by": str(STARTER),
        "created_at": "2026-11-24T08:30:00.250Z",
        "updated_at": "2026-11-24T08:30:00.250Z",
        "runner": "hibernating",
        "epoch": 1,
    }


def a_waiting_start(api: Api, seconds: int = 60) -> Any:
    request = pb.StartWorkflowRequest(template_id=str(TEMPLATE), wait_seconds=seconds)
    return api.workflows.StartWorkflow(request, metadata=[*api.ann, *REST])


async def test_a_start_can_wait_for_the_end(api: Api) -> None:
    run_id = await api.run(id=api.engine.started.run_id)
    call = a_waiting_start(api)
    answer = asyncio.ensure_future(call)
    await until(lambda: api.engine.waiting(run_id) == 1)
    await api.execute("UPDATE runs SET output = '{\"n\":1}' WHERE id = %s", run_id)
    await api.event(run_id, 1, "run.completed")
    api.engine.nudge(run_id)
    found = plain(await answer)
    assert (found["id"], found["status"], found["output"]) == (str(run_id), "completed", {"n": 1.0})
    assert "events" not in found
    assert ("x-http-status", "201") in tuple(await call.initial_metadata())
    assert api.engine.watchers[run_id] == []


async def test_a_start_that_waits_in_vain_answers_in_time_with_the_run_as_it_is(api: Api) -> None:
    await api.run(id=api.engine.started.run_id)
    assert (await a_waiting_start(api, 1)).status == "running"


async def test_an_accepted_start_does_not_fail_for_what_happens_while_it_waits(api: Api) -> None:
    run_id = await api.run(id=api.engine.started.run_id)
    call = asyncio.ensure_future(a_waiting_start(api))
    await until(lambda: api.engine.waiting(run_id) == 1)
    await api.server.stop(0.5)
    answer = await call
    assert (answer.id, answer.status) == (str(run_id), "pending")


async def test_an_accepted_start_is_answered_when_the_store_cannot_be_read(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: Any) -> None:
        raise Unavailable("the run store is down", reason="STORE_DOWN")

    monkeypatch.setattr(WorkflowService, "_look", down)
    answer = await a_waiting_start(api)
    assert (answer.id, answer.status) == (str(api.engine.started.run_id), "pending")


async def test_the_hash_of_a_start_tells_requests_apart(api: Api) -> None:
    async def hash_of(key: str = "k", **given: Any) -> bytes:
        request = pb.StartWorkflowRequest(**({"template_id": str(TEMPLATE)} | given))
        await api.workflows.StartWorkflow(request, metadata=[*api.ann, ("idempotency-key", key)])
        assert api.engine.asked[-1][5] == key
        found = api.engine.asked[-1][6]
        assert len(found) == hashlib.sha256().digest_size
        return found

    first = await hash_of(input=struct(a=1, b=2), labels={"x": "1", "y": "2"})
    assert await hash_of(input=struct(b=2, a=1), labels={"y": "2", "x": "1"}) == first
    assert await hash_of("another", input=struct(a=1, b=2), labels={"x": "1", "y": "2"}) == first
    others = [
        await hash_of(input=struct(a=1, b=3), labels={"x": "1", "y": "2"}),
        await hash_of(input=struct(a=1, b=2)),
        await hash_of(input=struct(a=1, b=2), labels={"x": "1", "y": "2"}, version=1),
    ]
    assert len({first, *others}) == 4
    assert await hash_of(input=struct(a=1, b=2), labels={"x": "1", "y": "2"}, wait_seconds=0) == first
    await api.run(id=api.engine.started.run_id, status="completed")
    assert await hash_of(input=struct(a=1, b=2), labels={"x": "1", "y": "2"}, wait_seconds=9) == first


async def test_the_same_bytes_to_another_method_have_another_hash(api: Api) -> None:
    run_id, snapshot_id = await api.run(), uuid.uuid4()
    await api.insert("snapshots", run_id=run_id, id=snapshot_id, seq=1)
    metadata = [*api.ann, ("idempotency-key", "k")]
    await api.workflows.StartWorkflow(pb.StartWorkflowRequest(template_id=str(run_id)), metadata=metadata)
    fork = pb.ForkWorkflowRequest(id=str(run_id), snapshot_id=str(snapshot_id))
    await api.workflows.ForkWorkflow(fork, metadata=metadata)
    assert len({api.engine.asked[0][6], api.engine.asked[1][6]}) == 2


@pytest.mark.parametrize(
    ("given", "key", "wrong"),
    [
        ({"template_id": ""}, None, {"template_id"}),
        ({"template_id": "12"}, None, {"template_id"}),
        ({"version": 0}, None, {"version"}),
        ({"version": -3}, None, {"version"}),
        ({"input": struct(a=2.0**53)}, None, {"input.a"}),
        ({"input": struct(a=float("nan"), b={"c": "\0"})}, None, {"input.a", "input.b.c"}),
        ({"input": struct(a="x" * (1 << 20))}, None, {"input"}),
        ({"labels": {f"n{n}": "" for n in range(33)}}, None, {"labels"}),
        ({"labels": {"n" * 64: ""}}, None, {"labels." + "n" * 63}),
        ({"labels": {"n": "v" * 64}}, None, {"labels.n"}),
        ({"labels": {"": "v"}}, None, {"labels."}),
        ({"labels": {"a=b": "v"}}, None, {"labels.a=b"}),
        ({"labels": {"a": "v\0"}}, None, {"labels.a"}),
        ({"wait_seconds": -1}, None, {"wait_seconds"}),
        ({"wait_seconds": 61}, None, {"wait_seconds"}),
        ({}, "", {"Idempotency-Key"}),
        ({}, "k" * 256, {"Idempotency-Key"}),
        (
            {"template_id": "x", "version": 0, "input": struct(a=2.0**60), "labels": {"": "v" * 64}},
            "k" * 256,
            {"template_id", "version", "input.a", "labels.", "Idempotency-Key"},
        ),
    ],
)
async def test_a_wrong_start_is_told_everything_at_once(
    api: Api, given: dict[str, Any], key: str | None, wrong: set[str]
) -> None:
    request = pb.StartWorkflowRequest(**({"template_id": str(TEMPLATE)} | given))
    metadata = [*api.ann, *REST] if key is None else [*api.ann, *REST, ("idempotency-key", key)]
    refusal = await refused(api.workflows.StartWorkflow(request, metadata=metadata))
    assert (refusal.code, fields(refusal)) == (grpc.StatusCode.INVALID_ARGUMENT, wrong)
    assert not api.engine.asked


async def test_the_largest_allowed_start_is_accepted(api: Api) -> None:
    labels = {f"{n:063}": "v" * 63 for n in range(32)}
    request = pb.StartWorkflowRequest(template_id=str(TEMPLATE).upper(), labels=labels, version=2**31 - 1)
    await api.workflows.StartWorkflow(request, metadata=[*api.ann, ("idempotency-key", "~ " * 127 + "!")])
    assert api.engine.asked[0][1:5] == (TEMPLATE, 2**31 - 1, {}, labels)


async def test_what_the_engine_refuses_is_passed_on(api: Api) -> None:
    api.engine.failure = AlreadyExists("used", reason="IDEMPOTENCY_KEY_REUSED")
    request = pb.StartWorkflowRequest(template_id=str(TEMPLATE))
    refusal = await refused(api.workflows.StartWorkflow(request, metadata=api.ann))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")
