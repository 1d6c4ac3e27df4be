"""Actions on runs over gRPC: the commands they are, and what they say they have done."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import grpc
import pytest
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_engine import commands as cmd
from wfe_engine.errors import StateConflict
from wfe_servicekit.testing import refused

from .conftest import NOW, REST, Api, fields, plain

SECOND = dt.timedelta(seconds=1)


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
