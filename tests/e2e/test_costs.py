"""What a step costs in things that do not depend on the machine: they may fall, and must not grow unnoticed.

Runs of ten steps, one after another, as a client has them: a start and a blocking get. Whoever makes a step dearer on
purpose changes COSTS and says why.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import psycopg
import pytest
from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings, sample_folder
from wfe_stack.stack import Stack
from wfe_stack.testing import TEST_SETTINGS, nats_url

__all__ = ["nats_url"]

RUNS, STEPS = 10, 10

#: At most, for a run of ten steps.
COSTS = {
    # One for the start and one for each report.
    "commits": 11.0,
    # One for each commit, and one look at the end for the get; loops that come seldom do the rest.
    "statements": 12.5,
    # The start's lease; ten reports with their answers, which carry the next lease; who watches.
    "messages": 22.0,
    "events": 23.0,
    "rows": 34.0,
    # 0.5 KB of it keep the lists by status and by template quick among a million runs.
    "WAL bytes": 19_200.0,
}


@pytest.fixture(scope="module")
async def quiet_stack(nats_url: str) -> AsyncIterator[Stack]:
    """An engine whose loops are too slow to disturb the counts, and whose bus anybody can listen to."""
    folder = Path(tempfile.mkdtemp(prefix="wfe-costs-"))
    settings = StackSettings(
        folder=folder / "data",
        nats_url=nats_url,
        postgres={**TEST_SETTINGS, "autovacuum": "off", "log_statement": "all", "log_line_prefix": "%a|"},
        samples=sample_folder(),
        environment={"WFE_LEASE_SECONDS": "3600", "WFE_SWEEP_SECONDS": "60"},
        executor_environment={"WFE_HEARTBEAT_SECONDS": "60"},
        restarts=False,
    )
    try:
        async with Stack(settings) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Meters:
    """What was used up to now."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.messages: Counter[str] = Counter()

    def read(self) -> dict[str, float]:
        with psycopg.connect(self._stack.database_url, autocommit=True) as connection:
            row = connection.execute(
                """
                SELECT (SELECT count(*) FROM events), pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),
                    (SELECT count(*) FROM steps) + (SELECT count(*) FROM runs)
                """
            ).fetchone()
        assert row is not None
        lines = self._statements()
        return {
            "commits": sum(name.startswith("wfe-scheduler-cycle") for name in lines),
            "statements": len(lines),
            "messages": self.messages.total(),
            "events": row[0],
            "rows": row[0] + row[2],
            "WAL bytes": float(row[1]),
        }

    def _statements(self) -> list[str]:
        """Who sent each statement so far. The clock's own reading comes every five seconds, whatever is done."""
        folder = self._stack.settings.folder
        text = "".join(path.read_text() for path in folder.rglob("log") if path.is_file())
        found = re.findall(r"^(wfe-scheduler[^|]*)\|LOG:  (?:execute|statement)[^:]*: (.*)$", text, re.M)
        return [name for name, statement in found if "clock_timestamp())::float8" not in statement]


async def test_a_step_costs_no_more_than_it_did(quiet_stack: Stack, nats_url: str):
    meters = Meters(quiet_stack)
    tap = await nats.connect(nats_url)

    async def heard(message):
        if not message.subject.startswith("_INBOX") or message.data:
            meters.messages[message.subject] += 1

    await tap.subscribe(">", cb=heard)
    await tap.flush()
    async with Rest(quiet_stack.url, quiet_stack.keys["sam"]) as sam:
        template = (await sam.get("/api/v1/templates", name="chain-10"))["templates"][0]["id"]

        async def run():
            started = await sam.post("/api/v1/workflows", {"template_id": template})
            ended = await sam.get(f"/api/v1/workflows/{started['id']}", wait_seconds=30, view="basic")
            assert ended["status"] == "completed"

        for _ in range(3):
            await run()  # what is prepared once is prepared
        await tap.flush()
        before = meters.read()
        for _ in range(RUNS):
            await run()
        await asyncio.sleep(0.1)
        await tap.flush()
        after = meters.read()
    await tap.close()
    used = {what: (after[what] - before[what]) / RUNS for what in COSTS}
    print(f"a run of {STEPS} steps costs {used}")
    assert used["events"] > STEPS
    assert all(used.values())
    assert {what: cost for what, cost in used.items() if cost > COSTS[what]} == {}
