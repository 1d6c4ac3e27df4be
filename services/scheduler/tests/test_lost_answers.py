"""Commits over a connection that is cut and loses answers: what was asked happens once, and is answered."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict
from wfe_engine import commands as cmd
from wfe_scheduler.ids import new_run_id

from tools.chaos.proxy import Proxy

#: What only answers to commits hold: that a prepared statement got its parameters.
BOUND = b"2\x00\x00\x00\x04"


class Broken:
    """A rig whose commits go through a proxy; all else it reads straight from the store."""

    def __init__(self, rig: Any, proxy: Proxy) -> None:
        self.rig, self.proxy = rig, proxy

    async def events(self, run: Any, type_: str) -> int:
        query = "SELECT count(*) FROM events WHERE run_id = %s AND type = %s"
        return int((await self.rig.rows(query, run, type_))[0][0])


@pytest.fixture
async def broken(make_rig, make_chain, database_url: str) -> AsyncIterator[Broken]:
    host = str(conninfo_to_dict(database_url)["host"])
    (socket,) = [path for path in Path(host).glob(".s.PGSQL.*") if not path.name.endswith(".lock")]
    with tempfile.TemporaryDirectory(prefix="wfe-lost-") as folder:
        proxy = Proxy(lambda: socket, lambda _: BOUND)
        await proxy.listen(Path(folder) / socket.name)
        rig = make_rig(make_chain("call", "call"))
        rig.cycle._url = database_url.replace(quote(host, safe=""), quote(folder, safe=""))
        made = Broken(rig, proxy)
        for _ in range(2):  # so that both connections are open, and what is lost is the answer to a commit
            await started(made)
        yield made
        await rig.cycle.drain()
        await rig.cycle.close()
        await proxy.close()


async def started(broken: Broken) -> Any:
    run, future = broken.rig.start()
    await future
    return run


async def test_a_start_whose_answer_is_lost_begins_one_run_and_is_answered(broken: Broken) -> None:
    broken.proxy.lose(1)
    run, future = broken.rig.start("key")
    await future
    assert broken.proxy.lost == 1
    assert await broken.events(run, "run.created") == 1
    assert await broken.rig.rows("SELECT count(*) FROM idempotency WHERE key = 'key'") == [(1,)]
    await broken.rig.check(run)


async def test_a_command_whose_answer_is_lost_happens_once_and_is_answered(broken: Broken) -> None:
    run = await started(broken)
    broken.proxy.lose(1)
    await broken.rig.do(run, cmd.Pause())  # decided anew after it has happened, it would be refused
    assert broken.proxy.lost == 1
    assert await broken.events(run, "run.paused") == 1
    await broken.rig.check(run)


async def test_a_report_whose_answer_is_lost_is_taken_once_and_the_next_step_follows(broken: Broken) -> None:
    run = await started(broken)
    broken.proxy.lose(1)
    await broken.rig.report(run, 1)
    assert broken.proxy.lost == 1
    assert await broken.events(run, "step.completed") == 1
    (row,) = await broken.rig.rows("SELECT no, executor_id, fence FROM dispatch WHERE run_id = %s", run)
    assert row[0] == 2
    await broken.rig.check(run)


async def test_of_many_commands_whose_connections_are_cut_all_the_time_none_is_lost_and_none_happens_twice(
    broken: Broken,
) -> None:
    runs = [await started(broken) for _ in range(10)]
    stop = asyncio.Event()

    async def cut() -> None:
        while not stop.is_set():
            broken.proxy.lose(1)
            broken.proxy.cut()
            await asyncio.sleep(0.02)

    cutting = asyncio.ensure_future(cut())
    asked = [broken.rig.do(run, cmd.TakeSnapshot(snapshot=str(new_run_id()))) for run in runs for _ in range(3)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    stop.set()
    await cutting
    broken.proxy.calm()
    assert broken.proxy.cuts > 0
    for index, run in enumerate(runs):
        told = [answer for answer in answers[3 * index : 3 * index + 3] if answer is None]
        found = await broken.events(run, "snapshot.created")
        assert len(told) <= found <= 3  # what was refused as unavailable may have happened; what was told has
        await broken.rig.check(run)
