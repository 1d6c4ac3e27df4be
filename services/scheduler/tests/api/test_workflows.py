"""WorkflowService over gRPC: what is asked of the engine, what is answered, what is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_engine import commands as cmd
from wfe_engine.errors import AlreadyExists, NotFound, StateConflict
from wfe_servicekit.testing import refused, until

from .conftest import NOW, STARTER, TEMPLATE, Api

SECOND = dt.timedelta(seconds=1)
REST = [("x-envoy-original-path", "/api/v1/workflows")]


def plain(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def fields(refusal: Any) -> set[str]:
    return {violation.field for violation in refusal.details["BadRequest"].field_violations}


# ---- starting


async def test_a_start_answers_201_and_pending(api: Api) -> None:
    request = pb.StartWorkflowRequest(
        template_id=str(TEMPLATE), input=struct(tone="plain", n=3), labels={"team": "red"}
    )
    call = api.workflows.StartWorkflow(request, metadata=[*api.ann, *REST])
    answer = await call
    assert ("x-http-status", "201") in tuple(await call.initial_metadata())
    assert api.engine.asked == [
        ("start", TEMPLATE, None, {"tone": "plain", "n": 3}, {"team": "red"}, None, b""),
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


async def test_a_get_that_waits_in_vain_answers_in_time(api: Api) -> None:
    run_id = await api.run()
    request = pb.GetWorkflowRequest(id=str(run_id), wait_seconds=1)
    assert (await api.workflows.GetWorkflow(request, metadata=api.ann)).status == "running"


async def test_a_get_of_an_ended_run_does_not_wait(api: Api) -> None:
    run_id = await api.run(status="failed")
    request = pb.GetWorkflowRequest(id=str(run_id), wait_seconds=60)
    async with asyncio.timeout(10):
        assert (await api.workflows.GetWorkflow(request, metadata=api.ann)).status == "failed"


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


# ---- acting


@pytest.mark.parametrize(
    ("method", "command"),
    [
        ("Pause", cmd.Pause()),
        ("Resume", cmd.Resume()),
        ("Cancel", cmd.Cancel()),
        ("Terminate", cmd.Cancel(hard=True)),
        ("Retry", cmd.Retry()),
    ],
)
async def test_actions_are_commands(api: Api, method: str, command: cmd.Command) -> None:
    run_id = await api.run()

    def act(**given: Any) -> Any:
        request = getattr(pb, f"{method}WorkflowRequest")(**given)
        return getattr(api.workflows, f"{method}WorkflowRequest".removesuffix("Request"))(request, metadata=api.ann)

    answer = await act(id=str(run_id), reason="two\nlines")
    assert api.engine.asked == [("command", run_id, command, "two\nlines")]
    assert answer.id == str(run_id)
    refusal = await refused(act(id="", reason="x" * 1_001))
    assert fields(refusal) == {"id", "reason"}
    assert fields(await refused(act(id=str(run_id), reason="a\0"))) == {"reason"}
    api.engine.failure = StateConflict("no", reason="RUN_STATE")
    refusal = await refused(act(id=str(run_id)))
    assert (refusal.code, refusal.trailers["x-http-status"]) == (grpc.StatusCode.FAILED_PRECONDITION, "409")


@pytest.mark.parametrize(
    ("flying", "notice"),
    [
        (0, "no step is in flight; nothing new is claimed"),
        (1, "1 step in flight will finish and keep its result; nothing new is claimed"),
        (2, "2 steps in flight will finish and keep their results; nothing new is claimed"),
    ],
)
async def test_a_pause_says_what_is_in_flight(api: Api, flying: int, notice: str) -> None:
    run_id = await api.run()
    live = {"run_id": run_id, "owner_id": api.owner_id}
    await api.insert("dispatch", **live, no=9)
    for no in range(flying):
        await api.insert("dispatch", **live, no=no + 1, executor_id="e1", leased_at=NOW)
    answer = await api.workflows.PauseWorkflow(pb.PauseWorkflowRequest(id=str(run_id)), metadata=api.ann)
    assert answer.notice == notice


async def test_a_cancel_says_what_it_stopped(api: Api) -> None:
    run_id = await api.run()
    await api.insert("steps", run_id=run_id, no=1, path="old", status="cancelled", executor="e1",
                     ended_at=NOW - SECOND)  # fmt: skip

    async def commit() -> None:
        await api.execute("UPDATE runs SET status = 'cancelled', ended_at = %s WHERE id = %s", NOW, run_id)
        for no, path, executor in [(2, "ready", ""), (3, "charge", "e1"), (4, "mail", "e2")]:
            await api.insert("steps", run_id=run_id, no=no, path=path, kind="call", status="cancelled",
                             executor=executor, ended_at=NOW)  # fmt: skip
        await api.insert("gates", id=uuid.uuid4(), run_id=run_id, owner_id=api.owner_id, status="withdrawn",
                         decided_at=NOW)  # fmt: skip

    api.engine.meanwhile = commit
    answer = await api.workflows.CancelWorkflow(pb.CancelWorkflowRequest(id=str(run_id)), metadata=api.ann)
    assert answer.notice == (
        "2 steps in flight were told to stop; effects outside are not undone: charge (call), mail (call); "
        "1 open approval was withdrawn"
    )


async def test_a_rollback_names_what_it_does_not_undo(api: Api) -> None:
    run_id, snapshot_id = await api.run(), uuid.uuid4()
    for no, path, kind, status, attempts in [
        (1, "kept", "http", "completed", 1), (2, "earlier", "call", "rolled_back", 1),
        (3, "charge", "http", "completed", 1),
        (4, "note", "set", "completed", 0), (5, "never", "call", "failed", 0),
    ]:  # fmt: skip
        await api.insert("steps", run_id=run_id, no=no, path=path, kind=kind, status=status, attempts=attempts)

    async def commit() -> None:
        await api.execute("UPDATE steps SET status = 'rolled_back' WHERE run_id = %s AND no > 2", run_id)
        await api.insert("steps", run_id=run_id, no=6, path="mail", kind="call", status="rolled_back",
                         started_at=NOW)  # fmt: skip

    api.engine.meanwhile = commit
    request = pb.RollbackWorkflowRequest(id=str(run_id), snapshot_id=str(snapshot_id), reason="oops")
    answer = await api.workflows.RollbackWorkflow(request, metadata=api.ann)
    assert api.engine.asked == [("rollback", run_id, snapshot_id, "oops")]
    assert answer.notice == "effects outside are not undone: charge (http), mail (call)"
    bad = pb.RollbackWorkflowRequest(id="a", snapshot_id="b", reason="c" * 1_001)
    refusal = await refused(api.workflows.RollbackWorkflow(bad, metadata=api.ann))
    assert fields(refusal) == {"id", "snapshot_id", "reason"}


async def test_a_fork_is_a_start_that_says_where_it_comes_from(api: Api) -> None:
    run_id, snapshot_id = await api.run(), uuid.uuid4()
    await api.insert("steps", run_id=run_id, no=1, path="fetch", seq=2, attempts=1)
    await api.insert("steps", run_id=run_id, no=2, path="charge", seq=4, attempts=1)
    await api.insert("snapshots", run_id=run_id, id=snapshot_id, seq=3)
    request = pb.ForkWorkflowRequest(id=str(run_id), snapshot_id=str(snapshot_id), reason="again")
    call = api.workflows.ForkWorkflow(request, metadata=[*api.ann, *REST])
    answer = await call
    assert ("x-http-status", "201") in tuple(await call.initial_metadata())
    assert (answer.status, answer.trigger_type) == ("pending", "fork")
    assert plain(answer.forked_from) == {"workflow_id": str(run_id), "snapshot_id": str(snapshot_id)}
    assert answer.notice == "effects outside stay, and the fork may repeat them: charge (http)"
    assert api.engine.asked == [("fork", run_id, snapshot_id, None, "again", None, b"")]
    request.labels["a"] = "b"
    await api.workflows.ForkWorkflow(request, metadata=api.ann)
    assert api.engine.asked[-1][3] == {"a": "b"}
    bad = pb.ForkWorkflowRequest(id="a", snapshot_id="", reason="\0", labels={"": ""})
    refusal = await refused(api.workflows.ForkWorkflow(bad, metadata=api.ann))
    assert fields(refusal) == {"id", "snapshot_id", "reason", "labels."}


async def test_snapshots_are_taken_and_listed(api: Api) -> None:
    run_id = await api.run()
    await api.insert("steps", run_id=run_id, no=1, seq=2)

    async def commit() -> None:
        await api.insert("snapshots", run_id=run_id, id=api.engine.snapshot_id, seq=3, name="before")

    api.engine.meanwhile = commit
    call = api.workflows.CreateSnapshot(
        pb.CreateSnapshotRequest(id=str(run_id), name="before"), metadata=[*api.ann, *REST]
    )
    made = await call
    assert ("x-http-status", "201") in tuple(await call.initial_metadata())
    assert api.engine.asked == [("snapshot", run_id, "before", "")]
    assert plain(made) == {
        "id": str(api.engine.snapshot_id), "seq": 3, "kind": "demand", "name": "before",
        "created_at": "2026-11-24T08:30:00.250Z", "steps_done": ["fetch"],
    }  # fmt: skip
    listed = await api.workflows.ListSnapshots(pb.ListSnapshotsRequest(id=str(run_id)), metadata=api.ann)
    assert list(listed.snapshots) == [made]
    bad = pb.CreateSnapshotRequest(id="a", name="n" * 101)
    assert fields(await refused(api.workflows.CreateSnapshot(bad, metadata=api.ann))) == {"id", "name"}
