"""WatchWorkflow: what is there, then what comes, until the run ends."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_servicekit.testing import refused, until

from .conftest import Api


def watch(api: Api, run_id: uuid.UUID, after: int = 0) -> Any:
    return api.workflows.WatchWorkflow(
        pb.WatchWorkflowRequest(id=str(run_id), after=after), metadata=api.ann, timeout=30
    )


async def seqs(stream: Any) -> list[int]:
    return [event.seq async for event in stream]


async def test_events_come_as_they_happen_until_the_end(api: Api) -> None:
    run_id = await api.run()
    await api.event(run_id, 1, "run.created")
    stream = aiter(watch(api, run_id))
    assert (await anext(stream)).seq == 1
    for seq, kind in [(2, "step.ready"), (3, "step.completed")]:
        await until(lambda: api.engine.waiting(run_id) == 1)
        await api.event(run_id, seq, kind)
        api.engine.nudge(run_id)
        assert (await anext(stream)).seq == seq
    await until(lambda: api.engine.waiting(run_id) == 1)
    await api.event(run_id, 4)
    await api.event(run_id, 5, "run.completed")
    api.engine.nudge(run_id)
    assert await seqs(stream) == [4, 5]
    assert api.engine.watchers[run_id] == []


@pytest.mark.parametrize("after", [0, 2, 3, 6, 7, 99])
async def test_a_watch_of_an_ended_run_gives_what_is_there(api: Api, after: int) -> None:
    run_id = await api.run()
    # It failed, was retried, was cancelled, and a snapshot was taken after that.
    kinds = [
        "run.created", "run.started", "run.failed", "run.retried", "step.ready", "run.cancelled", "snapshot.created",
    ]  # fmt: skip
    for seq, kind in enumerate(kinds, 1):
        await api.event(run_id, seq, kind)
    assert await seqs(watch(api, run_id, after)) == list(range(after + 1, 8))


async def test_more_events_than_one_page_all_come(api: Api) -> None:
    run_id = await api.run(status="completed", seq=450)
    await api.execute(
        "INSERT INTO events (run_id, seq, at, type, actor, data)"
        " SELECT %s, n, clock_timestamp(), 't', 'system', '{}' FROM generate_series(1, 400) n",
        run_id,
    )
    assert await seqs(watch(api, run_id)) == list(range(1, 401))


async def test_a_client_that_goes_away_is_forgotten(api: Api) -> None:
    run_id = await api.run()
    streams = [watch(api, run_id) for _ in range(20)]
    reads = [asyncio.ensure_future(stream.read()) for stream in streams]
    await until(lambda: api.engine.waiting(run_id) == 20)
    for stream in streams:
        stream.cancel()
    await until(lambda: api.engine.watchers[run_id] == [])
    await asyncio.gather(*reads, return_exceptions=True)


async def test_a_wrong_watch_is_refused(api: Api) -> None:
    async def watched() -> None:
        await seqs(api.workflows.WatchWorkflow(pb.WatchWorkflowRequest(id="x", after=-1), metadata=api.ann))

    refusal = await refused(watched())
    assert {v.field for v in refusal.details["BadRequest"].field_violations} == {"id", "after"}
