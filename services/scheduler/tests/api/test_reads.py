"""Reading runs over gRPC: one, lists, events; waiting for an end; other owners."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_engine.errors import NotFound
from wfe_servicekit.testing import refused, until

from .conftest import NOW, STARTER, Api, fields, plain

SECOND = dt.timedelta(seconds=1)


# ---- reading


async def test_get_shows_a_run_with_all_that_belongs_to_it(api: Api) -> None:
    run_id, gate_id = (
        await api.run(seq=2, labels='{"team":"red"}', input='{"t":{"$sealed":[{"var":"t"}]}}'),
        uuid.uuid4(),
    )
    await api.insert("steps", run_id=run_id, no=1, output='{"id":12345678901234567890}', attempts=1, ended_at=NOW)
    await api.insert("steps", run_id=run_id, no=2, path="a/review", kind="approval", status="waiting_approval",
                     gate_id=gate_id)  # fmt: skip
    await api.insert("gates", id=gate_id, run_id=run_id, owner_id=api.owner_id, no=2, path="a/review")
    for seq in (2, 1):
        await api.event(run_id, seq, actor=f"principal:{STARTER}", reason="because", data='{"no":1}')
    await api.execute("UPDATE runs SET seq = 2 WHERE id = %s", run_id)

    answer = plain(await api.workflows.GetWorkflow(pb.GetWorkflowRequest(id=str(run_id)), metadata=api.ann))

    assert (answer["status"], answer["runner"]) == ("running", "hibernating")
    assert answer["input"] == {"t": "[sealed]"}
    assert [(s["id"], s["status"]) for s in answer["steps"]] == [
        ("fetch", "completed"),
        ("review", "waiting_approval"),
    ]
    assert answer["steps"][0]["output"] == {"id": "12345678901234567890"}
    assert answer["steps"][1]["approval_id"] == str(gate_id)
    assert [e["seq"] for e in answer["events"]] == [1, 2]
    assert answer["events"][0] == {
        "seq": 1, "type": "step.completed", "at": "2026-11-24T08:30:00.250Z", "actor": f"principal:{STARTER}",
        "reason": "because", "data": {"no": 1.0},
    }  # fmt: skip
    assert (answer["events_total"], "events_note" in answer) == (2, False)
    (approval,) = answer["approvals"]
    assert (approval["id"], approval["step"], approval["can_decide"]) == (str(gate_id), "a/review", True)


async def test_only_the_newest_thousand_events_are_in_a_get(api: Api) -> None:
    run_id = await api.run(seq=1_001)
    await api.execute(
        "INSERT INTO events (run_id, seq, at, type, actor, data)"
        " SELECT %s, n, clock_timestamp(), 't', 'system', '{}' FROM generate_series(1, 1001) n",
        run_id,
    )
    answer = await api.workflows.GetWorkflow(pb.GetWorkflowRequest(id=str(run_id)), metadata=api.ann)
    assert (len(answer.events), answer.events[0].seq, answer.events_total) == (1_000, 2, 1_001)
    assert f"/api/v1/workflows/{run_id}/events?after=0" in answer.events_note


async def test_a_get_can_wait_for_the_end(api: Api) -> None:
    run_id = await api.run()
    request = pb.GetWorkflowRequest(id=str(run_id), wait_seconds=60)
    call = asyncio.ensure_future(api.workflows.GetWorkflow(request, metadata=api.ann))
    await until(lambda: api.engine.waiting(run_id) == 1)
    await api.event(run_id, 1)
    api.engine.nudge(run_id)
    await until(lambda: api.engine.waiting(run_id) == 1)
    assert not call.done()
    await api.event(run_id, 2, "run.completed")
    api.engine.nudge(run_id)
    assert (await call).status == "completed"
    assert api.engine.watchers[run_id] == []


async def test_a_basic_get_is_without_what_belongs_to_the_run(api: Api) -> None:
    run_id = await api.run(status="completed", output='{"n":1}')
    await api.event(run_id, 1, "run.completed")
    full, basic = [
        plain(
            await api.workflows.GetWorkflow(
                pb.GetWorkflowRequest(id=str(run_id), view=view, wait_seconds=9), metadata=api.ann
            )
        )
        for view in ("", "basic")
    ]
    assert len(full.pop("events")) == 1
    assert basic == full
    refusal = await refused(
        api.workflows.GetWorkflow(pb.GetWorkflowRequest(id=str(run_id), view="all"), metadata=api.ann)
    )
    assert fields(refusal) == {"view"}


async def test_a_get_that_waits_in_vain_answers_in_time(api: Api) -> None:
    run_id = await api.run()
    request = pb.GetWorkflowRequest(id=str(run_id), wait_seconds=1)
    assert (await api.workflows.GetWorkflow(request, metadata=api.ann)).status == "running"


async def test_a_get_of_an_ended_run_does_not_wait(api: Api) -> None:
    run_id = await api.run(status="failed")
    request = pb.GetWorkflowRequest(id=str(run_id), wait_seconds=60)
    async with asyncio.timeout(10):
        assert (await api.workflows.GetWorkflow(request, metadata=api.ann)).status == "failed"


async def test_a_get_does_not_wait_for_an_end_that_another_scheduler_has_seen(api: Api) -> None:
    run_id = await api.run(status="completed")
    api.engine.remembered.add(run_id)
    request = pb.GetWorkflowRequest(id=str(run_id), wait_seconds=60)
    async with asyncio.timeout(10):
        assert (await api.workflows.GetWorkflow(request, metadata=api.ann)).status == "completed"


@pytest.mark.parametrize("seconds", [-1, 61, 2**31 - 1])
async def test_a_wait_has_bounds(api: Api, seconds: int) -> None:
    request = pb.GetWorkflowRequest(id="no", wait_seconds=seconds)
    refusal = await refused(api.workflows.GetWorkflow(request, metadata=api.ann))
    assert fields(refusal) == {"id", "wait_seconds"}


async def test_another_owners_run_is_a_missing_one(api: Api) -> None:
    run_id, snapshot_id = uuid.uuid4(), uuid.uuid4()
    api.engine.failure = NotFound(f"there is no workflow {run_id}", workflow_id=run_id)

    async def ask(metadata: Any) -> list[tuple[Any, ...]]:
        async def watched() -> None:
            request = pb.WatchWorkflowRequest(id=str(run_id))
            async for _ in api.workflows.WatchWorkflow(request, metadata=metadata):
                pass

        one = {"id": str(run_id)}
        w = api.workflows
        calls = [
            w.GetWorkflow(pb.GetWorkflowRequest(**one), metadata=metadata),
            w.GetWorkflow(pb.GetWorkflowRequest(**one, wait_seconds=9), metadata=metadata),
            w.ListEvents(pb.ListEventsRequest(**one), metadata=metadata),
            watched(),
            w.ListSnapshots(pb.ListSnapshotsRequest(**one), metadata=metadata),
            w.PauseWorkflow(pb.PauseWorkflowRequest(**one), metadata=metadata),
            w.RollbackWorkflow(pb.RollbackWorkflowRequest(**one, snapshot_id=str(snapshot_id)), metadata=metadata),
        ]
        refusals = [await refused(call) for call in calls]
        assert {refusal.code for refusal in refusals} == {grpc.StatusCode.NOT_FOUND}
        return [(r.message, r.trailers["grpc-status-details-bin"]) for r in refusals]

    missing = await ask(api.rival)
    await api.insert("runs", id=run_id, owner_id=api.owner_id, seq=1)
    await api.insert("events", run_id=run_id, seq=1)
    await api.insert("snapshots", run_id=run_id, id=snapshot_id, seq=1)
    assert await ask(api.rival) == missing
    assert len(set(missing)) == 1


async def test_lists_are_pages_with_filters(api: Api) -> None:
    for n in range(3):
        await api.run(created_at=NOW + n * SECOND, labels=f'{{"n":"{n}","all":"1"}}', input='{"a":1}')
    await api.run(status="failed", created_at=NOW - 60 * SECOND)

    async def labels(**given: Any) -> tuple[list[str], int, int, int]:
        answer = await api.workflows.ListWorkflows(pb.ListWorkflowsRequest(**given), metadata=api.ann)
        assert not any(w.steps or w.events for w in answer.workflows)
        return [w.labels["n"] for w in answer.workflows], answer.total, answer.limit, answer.offset

    assert await labels(label=["all=1"]) == (["2", "1", "0"], 3, 50, 0)
    assert await labels(label=["all=1", "n=1"]) == (["1"], 1, 50, 0)
    assert await labels(label=["all=1"], limit=1, offset=2) == (["0"], 3, 1, 2)
    assert await labels(label=["all=1"], limit=9_999, offset=3) == ([], 3, 200, 3)
    moment = Timestamp()
    moment.FromDatetime(NOW + SECOND)
    assert (await labels(created_after=moment))[0] == ["2", "1"]
    assert (await labels(created_before=moment, status="running"))[0] == ["0"]
    assert (await labels(template_id=str(uuid.uuid4())))[1] == 0
    rival = await api.workflows.ListWorkflows(pb.ListWorkflowsRequest(), metadata=api.rival)
    assert (len(rival.workflows), rival.total, rival.total_is_capped) == (0, 0, False)


async def test_a_wrong_list_is_told_everything_at_once(api: Api) -> None:
    request = pb.ListWorkflowsRequest(
        status="done", template_id="x", label=["a", "=b", "c=d\n"], created_after=Timestamp(seconds=-(10**12)),
        created_before=Timestamp(seconds=10**12), limit=-1, offset=-1,
    )  # fmt: skip
    refusal = await refused(api.workflows.ListWorkflows(request, metadata=api.ann))
    assert fields(refusal) == {
        "status", "template_id", "label[0]", "label[1]", "label[2]", "created_after", "created_before", "limit",
        "offset",
    }  # fmt: skip
    refusal = await refused(
        api.workflows.ListWorkflows(pb.ListWorkflowsRequest(label=["a=b"] * 33, offset=2**31 - 1), metadata=api.ann)
    )
    assert fields(refusal) == {"label", "offset"}


async def test_events_are_listed_after_a_seq(api: Api) -> None:
    run_id = await api.run()
    for seq in range(1, 6):
        await api.event(run_id, seq)

    async def seqs(**given: Any) -> tuple[list[int], int, int]:
        answer = await api.workflows.ListEvents(pb.ListEventsRequest(id=str(run_id), **given), metadata=api.ann)
        return [event.seq for event in answer.events], answer.total, answer.limit

    assert await seqs() == ([1, 2, 3, 4, 5], 5, 50)
    assert await seqs(after=1, limit=2) == ([2, 3], 5, 2)
    assert await seqs(after=2**31 - 1, limit=201) == ([], 5, 200)
    refusal = await refused(
        api.workflows.ListEvents(pb.ListEventsRequest(id="-", after=-1, limit=-1), metadata=api.ann)
    )
    assert fields(refusal) == {"id", "after", "limit"}
