"""What a scheduler lets in: what it keeps up with, and of each owner no more than its share. Nothing let in is lost."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import psycopg
import pytest
from wfe_engine import commands as cmd
from wfe_engine.errors import ResourceExhausted
from wfe_scheduler.limits import Admission
from wfe_stack.waiting import wait_for
from wfe_store.pool import Database

from .conftest import OWNER

OTHER = uuid.UUID(int=8)


async def refusal(admission: Admission, owner: uuid.UUID) -> ResourceExhausted:
    with pytest.raises(ResourceExhausted) as refused:
        await admission.start(owner)
    return refused.value


async def test_a_scheduler_that_is_behind_refuses_more_and_keeps_what_it_has(
    make_rig: Any, make_chain: Any, database: Database, database_url: str
) -> None:
    rig = make_rig(make_chain("call"))
    admission = Admission(rig.cycle, database, most_seconds=0.3)
    admission.command()
    async with await psycopg.AsyncConnection.connect(database_url) as hold:
        # Nothing can be committed meanwhile: the store is far too slow.
        await hold.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        started = []
        for _ in range(20):
            started.append(rig.start())
            await asyncio.sleep(0)

        def behind() -> bool:
            try:
                admission.command()
            except ResourceExhausted:
                return True
            started.append(rig.start())
            return False

        await wait_for(behind, what="a refusal")
        refused = await refusal(admission, OWNER)
        assert (refused.reason, refused.retry_after) == ("OVERLOADED", 1.0)
        await hold.rollback()
    await asyncio.gather(*(done for _, done in started))
    admission.command()
    ((count,),) = await rig.rows("SELECT count(*) FROM runs")
    assert count == len(started)
    for run, _ in started:
        await rig.check(run)


async def test_commands_whose_runs_are_not_in_memory_count_too(
    make_rig: Any, make_chain: Any, database: Database, database_url: str
) -> None:
    """What comes for parked runs waits for these to be read, and the scheduler is behind all the same."""
    rig = make_rig(make_chain("call"))
    runs = []
    for _ in range(3):
        run, done = rig.start()
        await done
        runs.append(run)
    for run in runs:
        rig.cache.drop(run)
    admission = Admission(rig.cycle, database, most_seconds=0.3)
    async with await psycopg.AsyncConnection.connect(database_url) as hold:
        await hold.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        acting = [rig.do(run, cmd.Pause()) for run in runs]
        await wait_for(lambda: rig.cycle.depth == 3, what="commands that wait for their runs")
        await wait_for(lambda: rig.cycle.lag > 0.3, what="a command that has waited")
        with pytest.raises(ResourceExhausted) as refused:
            admission.command()
        assert refused.value.reason == "OVERLOADED"
        await hold.rollback()
    await asyncio.gather(*acting)
    assert (rig.cycle.depth, rig.cycle.lag) == (0, 0.0)
    admission.command()


async def test_one_run_that_is_told_too_much_is_refused_and_no_other(
    make_rig: Any, make_chain: Any, database: Database, database_url: str
) -> None:
    rig = make_rig(make_chain("call"))
    admission = Admission(rig.cycle, database, most_of_run=3)
    (hot, first), (other, second) = rig.start(), rig.start()
    await asyncio.gather(first, second)
    async with await psycopg.AsyncConnection.connect(database_url) as hold:
        await hold.execute("LOCK TABLE runs IN EXCLUSIVE MODE")
        acting = []
        while rig.cycle.behind(hot) < 3:
            admission.command(hot)
            acting.append(rig.do(hot, cmd.Pause()))
            await asyncio.sleep(0)
        with pytest.raises(ResourceExhausted) as refused:
            admission.command(hot)
        assert (refused.value.reason, refused.value.metadata["workflow_id"]) == ("OVERLOADED", str(hot))
        admission.command(other)
        admission.command()
        await hold.rollback()
    answers = await asyncio.gather(*acting, return_exceptions=True)
    assert None in answers
    admission.command(hot)


async def test_an_owner_has_only_so_many_open_runs(make_rig: Any, make_chain: Any, database: Database) -> None:
    rig = make_rig(make_chain("call"))
    admission = Admission(rig.cycle, database, open_runs=5)
    runs = []
    for _ in range(5):
        await admission.start(OWNER)
        run, done = rig.start()
        await done
        runs.append(run)
    full = await refusal(admission, OWNER)
    assert (full.reason, full.metadata["limit"]) == ("TOO_MANY_OPEN_RUNS", "5")
    await admission.start(OTHER)
    # Also on a scheduler that saw none of these starts.
    assert (await refusal(Admission(rig.cycle, database, open_runs=5), OWNER)).reason == "TOO_MANY_OPEN_RUNS"
    for run in runs[:2]:
        await rig.do(run, cmd.Cancel())
    let_in = 0
    deadline = time.monotonic() + 20
    while let_in < 2 and time.monotonic() < deadline:
        try:
            await admission.start(OWNER)
            await rig.start()[1]
            let_in += 1
        except ResourceExhausted:
            await asyncio.sleep(0.05)
    assert let_in == 2
    assert (await refusal(admission, OWNER)).reason == "TOO_MANY_OPEN_RUNS"


async def test_open_runs_are_not_counted_again_while_there_is_room(
    make_rig: Any, make_chain: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    async def count(connection: Any, owner: uuid.UUID, most: int) -> int:
        counts.append(owner)
        return 200

    monkeypatch.setattr("wfe_scheduler.limits.count_open", count)
    admission = Admission(make_rig(make_chain("call")).cycle, database, open_runs=1_000)
    await asyncio.gather(*(admission.start(OWNER) for _ in range(100)))
    assert counts == [OWNER]


async def test_an_owner_starts_only_so_many_runs_in_a_second(
    make_rig: Any, make_chain: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("wfe_scheduler.limits.time.monotonic", lambda: now)
    admission = Admission(make_rig(make_chain("call")).cycle, database, starts=10)
    for _ in range(10):
        await admission.start(OWNER)
    assert (await refusal(admission, OWNER)).reason == "TOO_MANY_STARTS"
    await admission.start(OTHER)
    now += 0.5
    for _ in range(5):
        await admission.start(OWNER)
    assert (await refusal(admission, OWNER)).retry_after == 1.0
