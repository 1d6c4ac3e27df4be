"""One use case after the other, ended at one await after the other, and what is in the store afterwards."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
import structlog

from tests.crash.awaits import factory
from tests.crash.cases import Case, rows
from tests.crash.process import Process

TABLES = (
    "runs, steps, dispatch, events, gates, timers, snapshots, signals, children, idempotency, executors, gate_votes,"
    " gate_notes"
)
#: Seconds a caller waits for an answer before it asks another process.
ANSWER_SECONDS = 3.0
#: Ways to end: an exception out of the await, or nothing after it and the connections gone.
HOWS = ("fail", "kill")
#: What is left, without ids, moments and who holds what. Forks and children are told from others by their origin.
_LEFT = (
    "SELECT r.template_id, r.forked_from IS NULL, r.parent_run IS NULL, r.status, r.seq, r.epoch,"
    " (SELECT json_agg(e.type ORDER BY e.seq)::text FROM events e WHERE e.run_id = r.id),"
    " (SELECT json_agg(json_build_array(s.no, s.status, s.attempts, s.output) ORDER BY s.no)::text FROM steps s"
    "   WHERE s.run_id = r.id),"
    " (SELECT json_agg(json_build_array(d.no, d.attempt, d.held) ORDER BY d.no)::text FROM dispatch d"
    "   WHERE d.run_id = r.id),"
    " (SELECT json_agg(json_build_array(g.status, g.outcome, g.told_at IS NULL) ORDER BY g.id)::text FROM gates g"
    "   WHERE g.run_id = r.id),"
    " (SELECT count(*) FROM timers t WHERE t.run_id = r.id), (SELECT count(*) FROM signals s WHERE s.run_id = r.id),"
    " (SELECT json_agg(json_build_array(c.wish, c.done, c.ended))::text FROM children c WHERE c.run_id = r.id)"
    " FROM runs r ORDER BY 1, 2, 3, 4"
)


#: Ids and digests over them are others every time.
_NAMES = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{64}\b")


class Result(NamedTuple):
    """Of one use case: points there are, points looked at, and what went wrong."""

    existing: int
    covered: int
    wrong: list[str]


async def look(url: str, case: Case, chosen: Any = None) -> Result:
    """End a use case at its awaits.

    Args:
        chosen: Gives the numbers to look at of how many there are; None looks at all.
    """
    loop, logs = asyncio.get_running_loop(), structlog.get_config()
    # Faults are injected by the hundred; each would be a traceback.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    try:
        count, expected = await _one(url, case, -1, "kill")
        numbers: Iterable[int] = range(count) if chosen is None else chosen(count)
        wrong, covered = [], 0
        for number in numbers:
            for how in HOWS:
                covered += 1
                _, left = await _one(url, case, number, how)
                if left != expected:
                    wrong.append(f"{case.name}: {how} at await {number} of {count}: {left} instead of {expected}")
        return Result(count * len(HOWS), covered, wrong)
    finally:
        loop.set_task_factory(before)
        structlog.configure(**logs)
        logging.getLogger("psycopg").setLevel(logging.NOTSET)


async def _one(url: str, case: Case, at: int, how: str) -> tuple[int, Any]:
    """The use case with one end, and the recovery; gives the number of its awaits and what is left in the store."""
    await _clear(url)
    processes = [await Process(url).start()]
    try:
        first = processes[0]
        given = await case.prepare(first)
        await first.cycle.drain()
        first.awaits.arm(at, how)
        asked = first.awaits.spawn(case.act(first, given))
        struck = asyncio.ensure_future(first.awaits.struck.wait())
        await asyncio.wait({asked, struck}, return_when=asyncio.FIRST_COMPLETED)
        if first.awaits.dead:
            await _disconnect(url, first.name)
        else:
            await asyncio.wait({asked}, timeout=ANSWER_SECONDS)
            await _quiet(first)
        struck.cancel()
        count = first.awaits.count
        first.awaits.disarm()
        answered = asked.done() and not asked.cancelled() and asked.exception() is None and not first.awaits.dead
        if at >= 0:
            processes.append(await Process(url).start())
        present = processes[-1]
        if not answered:
            assert at >= 0, asked
            await asyncio.wait_for(case.act(present, given), 30)
        await present.settle()
        return count, _NAMES.sub("*", str(await rows(present, _LEFT)))
    finally:
        for process in processes:
            await process.end()
        # Generators of a dead process never end; the end of the loop must not wait for them.
        asyncio.get_running_loop()._asyncgens.clear()  # type: ignore[attr-defined]


async def _quiet(process: Process) -> None:
    """Wait until nothing more comes to wait: what was begun is done, or will never be."""
    seen = -1
    while seen != process.awaits.count:
        seen = process.awaits.count
        await asyncio.sleep(0.05)


async def _clear(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"TRUNCATE {TABLES}")


async def _disconnect(url: str, name: str) -> None:
    """The server ends what a dead process had open, and undoes what it had not committed."""
    names = [name, f"{name}-cycle"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        # Again and again: one that was being opened may come up after the first look.
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ANY(%s)"
        while await (await connection.execute(query, (names,))).fetchone():
            await asyncio.sleep(0.005)
