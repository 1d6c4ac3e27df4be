"""Starting safely: the same Idempotency-Key gives the same answer, whatever happened to the first."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from e2e_runs import decide, path_of, refused, until
from google.protobuf.json_format import MessageToDict
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_stack.rest import Refused, Rest

GREETED = """
name: e2e-greeted
variables: {name: {type: string, default: you}, token: {type: string, sensitive: true}}
steps:
  - {id: gate, approval: {title: "Greet ${{ vars.name }}?", approvers: {groups: [editors]}}}
"""


def fresh() -> str:
    return uuid.uuid4().hex


async def begun(stub, request, key: str | None) -> dict:
    metadata = (("idempotency-key", key),) if key else ()
    return MessageToDict(await stub.StartWorkflow(request, metadata=metadata), preserving_proto_field_name=True)


async def test_the_same_key_and_body_give_the_same_answer(sam: Rest, ada: Rest, grpc_as, publish):
    body = {"template_id": await publish(GREETED), "input": {"name": "Ada", "token": "t"}, "labels": {"a": "b"}}
    key = fresh()
    first = await sam.post("/api/v1/workflows", body, key=key)
    assert await sam.post("/api/v1/workflows", body, key=key) == first
    # Also over gRPC, also when the run has gone on, and when there is a newer version of the template.
    request = pb.StartWorkflowRequest(template_id=body["template_id"], labels=body["labels"])
    request.input.update(body["input"])
    over_grpc = await begun(grpc_as("sam").workflows, request, key)
    assert (over_grpc["id"], over_grpc["created_at"]) == (first["id"], first["created_at"])
    await decide(ada, await until(sam, first["id"], "waiting_approval"), "approve")
    await until(sam, first["id"], "completed")
    await publish(GREETED + "  - {id: more, set: {x: 1}}\n")
    assert await sam.post("/api/v1/workflows", body, key=key) == first
    assert (await sam.get("/api/v1/workflows", template_id=body["template_id"]))["total"] == 1


async def test_another_body_is_refused(sam: Rest, grpc_as, publish):
    template = await publish(GREETED)
    key = fresh()
    first = await sam.post("/api/v1/workflows", {"template_id": template}, key=key)
    for body in (
        {"template_id": template, "input": {"name": "Ada"}},
        {"template_id": template, "labels": {"a": "b"}},
        {"template_id": template, "version": 1},
    ):
        refusal = await refused(sam.post("/api/v1/workflows", body, key=key))
        assert (refusal.status, refusal.reason) == (409, "IDEMPOTENCY_KEY_REUSED")
    request = pb.StartWorkflowRequest(template_id=template, labels={"a": "b"})
    with pytest.raises(grpc.aio.AioRpcError) as fault:
        await begun(grpc_as("sam").workflows, request, key)
    assert fault.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert (await sam.post("/api/v1/workflows", {"template_id": template}, key=key))["id"] == first["id"]


async def test_many_at_once_make_one_run(sam: Rest, grpc_as, publish):
    template = await publish(GREETED)
    key = fresh()
    body = {"template_id": template, "labels": {"key": key}}
    request = pb.StartWorkflowRequest(template_id=template, labels={"key": key})
    answers = await asyncio.gather(
        *(sam.post("/api/v1/workflows", body, key=key) for _ in range(8)),
        *(begun(grpc_as("sam").workflows, request, key) for _ in range(8)),
    )
    assert len({(answer["id"], answer["created_at"]) for answer in answers}) == 1
    assert (await sam.get("/api/v1/workflows", label=f"key={key}"))["total"] == 1


async def test_many_at_once_at_two_schedulers_make_one_run(crash_stack, publish):
    async with Rest(crash_stack.url, crash_stack.keys["sam"]) as sam:
        template = await publish(GREETED, sam)
        for _ in range(5):
            key = fresh()
            body = {"template_id": template, "labels": {"key": key}}
            answers = await asyncio.gather(*(sam.post("/api/v1/workflows", body, key=key) for _ in range(12)))
            assert all(answer == answers[0] for answer in answers)
            assert (await sam.get("/api/v1/workflows", label=f"key={key}"))["total"] == 1
            others = [{**body, "version": 1}, body]
            key = fresh()
            mixed = await asyncio.gather(
                *(sam.post("/api/v1/workflows", others[n % 2], key=key) for n in range(12)), return_exceptions=True
            )
            assert len({answer["id"] for answer in mixed if isinstance(answer, dict)}) == 1
            assert {answer.reason for answer in mixed if isinstance(answer, Refused)} == {"IDEMPOTENCY_KEY_REUSED"}


async def test_a_key_belongs_to_its_owner_and_to_its_call(sam: Rest, stranger: Rest, publish):
    key = fresh()
    mine = await sam.post("/api/v1/workflows", {"template_id": await publish(GREETED)}, key=key)
    theirs = await stranger.post("/api/v1/workflows", {"template_id": await publish(GREETED, stranger)}, key=key)
    assert mine["id"] != theirs["id"]
    await until(sam, mine["id"], "waiting_approval")
    snapshot = (await sam.get(path_of(mine["id"], "snapshots")))["snapshots"][0]
    refusal = await refused(sam.post(path_of(mine["id"], "fork"), {"snapshot_id": snapshot["id"]}, key=key))
    assert (refusal.status, refusal.reason) == (409, "IDEMPOTENCY_KEY_REUSED")
    forks = [await sam.post(path_of(mine["id"], "fork"), {"snapshot_id": snapshot["id"]}, key=f"{key}-2") for _ in "ab"]
    assert forks[0] == forks[1]
    for wrong in ("", "ä", "x" * 256):
        if wrong:
            refusal = await refused(sam.post("/api/v1/workflows", {"template_id": mine["template"]["id"]}, key=wrong))
            assert refusal.status == 400


async def test_a_refused_start_does_not_use_up_its_key(sam: Rest, publish):
    template = await publish(GREETED)
    key = fresh()
    refusal = await refused(sam.post("/api/v1/workflows", {"template_id": template, "input": {"nmae": "x"}}, key=key))
    assert (refusal.status, refusal.reason) == (400, "INVALID_RUN_INPUT")
    assert [violation.field for violation in refusal.violations] == ["input.nmae"]
    assert (await sam.post("/api/v1/workflows", {"template_id": template}, key=key))["status"] == "pending"
