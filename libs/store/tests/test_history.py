"""Reading events and snapshots."""

from __future__ import annotations

import uuid

import pytest
from wfe_engine.errors import NotFound
from wfe_store.history import History
from wfe_store.pool import Database
from wfe_store.runs import Runs

from .rows import NOW, SECOND, add_run, insert


@pytest.fixture
def runs(database: Database) -> Runs:
    return Runs(database)


@pytest.fixture
def history(database: Database) -> History:
    return History(database)


# ---- history


async def test_events_follow_a_seq(
    database: Database, history: History, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    run_id, other = await add_run(database, owner_id, seq=5, status="paused"), await add_run(database, owner_id)
    for seq in range(5, 0, -1):
        await insert(database, "events", run_id=run_id, seq=seq, reason=f"r{seq}", data=f'{{"n":{seq}}}')
    await insert(database, "events", run_id=other, seq=9)

    async def seqs(after: int, limit: int) -> list[int]:
        found = await history.events(owner_id, run_id, after=after, limit=limit)
        assert (found.total, found.status) == (5, "paused")
        return [event.seq for event in found.events]

    assert await seqs(0, 50) == [1, 2, 3, 4, 5]
    assert await seqs(2, 2) == [3, 4]
    assert await seqs(5, 2) == []
    assert await seqs(2**31 - 1, 2) == []
    (event,) = (await history.events(owner_id, run_id, after=3, limit=1)).events
    assert (event.seq, event.at, event.type, event.actor, event.reason, event.data) == (
        4, NOW, "step.completed", "system", "r4", '{"n":4}',
    )  # fmt: skip


async def test_snapshots_say_which_steps_were_done(database: Database, history: History, owner_id: uuid.UUID) -> None:
    run_id = await add_run(database, owner_id, seq=9)
    for no, path, status, seq in [
        (1, "a", "completed", 2), (2, "b", "skipped", 3), (3, "c", "failed", 4), (4, "d", "completed", 6),
        (5, "e", "rolled_back", 3),
    ]:  # fmt: skip
        await insert(database, "steps", run_id=run_id, no=no, path=path, status=status, seq=seq)
    early, late = uuid.uuid4(), uuid.uuid4()
    await insert(database, "snapshots", run_id=run_id, id=late, seq=6, kind="gate", created_at=NOW + SECOND)
    await insert(database, "snapshots", run_id=run_id, id=early, seq=5, name="before")
    found = await history.snapshots(owner_id, run_id)
    assert [(s.id, s.seq, s.kind, s.name, list(s.steps_done)) for s in found] == [
        (early, 5, "demand", "before", ["a", "b"]),
        (late, 6, "gate", "", ["a", "b", "d"]),
    ]
    assert await history.snapshot(owner_id, run_id, late) == found[1]
    with pytest.raises(NotFound, match="has no snapshot"):
        await history.snapshot(owner_id, run_id, uuid.uuid4())
    assert await history.snapshots(owner_id, await add_run(database, owner_id)) == []
