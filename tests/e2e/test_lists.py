"""Lists of runs: filters, pages and totals, the same over REST and gRPC."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from e2e_runs import path_of, refused
from google.protobuf.timestamp_pb2 import Timestamp
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_stack.rest import Rest

INSTANT = "name: e2e-instant\nsteps:\n  - {id: one, set: {x: 1}}\n"
PARKED = "name: e2e-parked\nsteps:\n  - {id: one, wait: {for: 1h}}\n"
RUNS = "/api/v1/workflows"


@pytest.fixture(scope="module")
def known() -> dict[str, dict]:
    return {}


@pytest.fixture
async def six(sam: Rest, publish, known) -> dict[str, dict]:
    """Four runs that completed and two that wait, under a label that only they have; by name."""
    if not known:
        batch = uuid.uuid4().hex
        instant, parked = await publish(INSTANT), await publish(PARKED)
        for name in ("a", "b", "c", "d", "x", "y"):
            labels = {"batch": batch, "name": name, "half": "first" if name in "abx" else "second"}
            template = parked if name in "xy" else instant
            run = await sam.start({"template_id": template, "labels": labels})
            known[name] = await sam.get(path_of(run["id"]))
    return known


def batch_of(six) -> str:
    return f"batch={six['a']['labels']['batch']}"


async def names(sam: Rest, six, **query) -> str:
    """Names of the runs that a filter finds, newest first."""
    label = [batch_of(six), *query.pop("label", [])]
    found = await sam.get(RUNS, label=label, **query)
    assert found["total"] >= len(found["workflows"])
    return "".join(run["labels"]["name"] for run in found["workflows"])


async def test_filters(sam: Rest, six):
    assert await names(sam, six) == "yxdcba"
    assert await names(sam, six, status="completed") == "dcba"
    assert await names(sam, six, status="running") == "yx"
    assert await names(sam, six, status="failed") == ""
    assert await names(sam, six, template_id=six["x"]["template"]["id"]) == "yx"
    assert await names(sam, six, label=["half=first"]) == "xba"
    assert await names(sam, six, label=["half=first", "name=b"]) == "b"
    assert await names(sam, six, label=["half=third"]) == ""
    assert await names(sam, six, label=["half=first"], status="running") == "x"
    # From a moment on, and before a moment.
    assert await names(sam, six, created_after=six["c"]["created_at"]) == "yxdc"
    assert await names(sam, six, created_before=six["c"]["created_at"]) == "ba"
    assert await names(sam, six, created_after=six["b"]["created_at"], created_before=six["x"]["created_at"]) == "dcb"


async def test_pages_and_totals(sam: Rest, six):
    label = batch_of(six)
    first = await sam.get(RUNS, label=label, limit=4)
    second = await sam.get(RUNS, label=label, limit=4, offset=4)
    assert [len(page["workflows"]) for page in (first, second)] == [4, 2]
    assert {(page["total"], page["total_is_capped"], page["limit"]) for page in (first, second)} == {(6, False, 4)}
    assert second["offset"] == 4
    beyond = await sam.get(RUNS, label=label, offset=6)
    assert (beyond["workflows"], beyond["total"], beyond["limit"]) == ([], 6, 50)
    assert (await sam.get(RUNS, limit=100_000))["limit"] == 200
    assert (await sam.get(RUNS, label=label, limit=0))["limit"] == 50
    for run in first["workflows"]:
        assert {"steps", "events", "approvals"}.isdisjoint({name for name, value in run.items() if value})


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": -1}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 2**31 - 1}, "offset"),
        ({"limit": "many"}, ""),
        ({"limit": 2**40}, ""),
        ({"status": "asleep"}, "status"),
        ({"template_id": "hello"}, "template_id"),
        ({"label": "no-equals-sign"}, "label[0]"),
        ({"created_after": "yesterday"}, ""),
        ({"stauts": "failed"}, ""),
    ],
)
async def test_what_is_wrong_is_refused_and_named(sam: Rest, query, field):
    refusal = await refused(sam.get(RUNS, **query))
    assert refusal.status == 400
    assert not field or [violation.field for violation in refusal.violations] == [field]
    assert refusal.message


async def test_others_see_their_own_runs_only(stranger: Rest, six):
    found = await stranger.get(RUNS, label=batch_of(six))
    assert (found["workflows"], found["total"]) == ([], 0)
    other = await refused(stranger.get(path_of(six["a"]["id"])))
    missing = await refused(stranger.get(path_of(str(uuid.uuid4()))))
    assert other.status == missing.status == 404
    assert set(other.body) == set(missing.body)
    assert other.message.replace(six["a"]["id"], "") == missing.message.replace(missing.metadata["workflow_id"], "")


async def test_the_same_over_grpc(sam: Rest, grpc_as, six):
    stub = grpc_as("sam").workflows
    after = Timestamp()
    after.FromJsonString(six["b"]["created_at"])
    found = await stub.ListWorkflows(
        pb.ListWorkflowsRequest(label=[batch_of(six)], status="completed", created_after=after, limit=2)
    )
    assert ([run.labels["name"] for run in found.workflows], found.total, found.limit) == (["d", "c"], 3, 2)
    assert (await stub.ListWorkflows(pb.ListWorkflowsRequest(limit=100_000))).limit == 200
    for request in (pb.ListWorkflowsRequest(limit=-1), pb.ListWorkflowsRequest(status="asleep")):
        with pytest.raises(grpc.aio.AioRpcError) as fault:
            await stub.ListWorkflows(request)
        assert fault.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    got = await asyncio.gather(*(stub.GetWorkflow(pb.GetWorkflowRequest(id=run["id"])) for run in six.values()))
    assert [run.labels["name"] for run in got] == list(six)
