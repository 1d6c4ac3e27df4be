"""A cycle on a real Postgres, with executors that exist only in the test."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from wfe_engine import commands as cmd
from wfe_engine.events import decode_event
from wfe_engine.evolve import fold
from wfe_engine.plan import Block, Literal, Node, Plan, Retry
from wfe_engine.state import Fault, RunState, decode_state, encode_state
from wfe_engine.values import Values
from wfe_scheduler.clock import StoreClock
from wfe_scheduler.cycle import Cycle
from wfe_scheduler.entries import Cache, Entry, Item, entry_of
from wfe_scheduler.gates import Gates
from wfe_scheduler.ids import new_run_id
from wfe_scheduler.plans import Published
from wfe_scheduler.work import Outcome
from wfe_stack.testing import database_template, database_url, nats_url, postgres_server
from wfe_store.batch import NewRun
from wfe_store.leases import fences
from wfe_store.load import StoredEvent, load_event, load_runs
from wfe_store.pool import Database

__all__ = ["database_template", "database_url", "nats_url", "postgres_server"]

OWNER = uuid.UUID(int=7)


def chain(*kinds: str, retry: Retry | None = None) -> Plan:
    """Steps s0, s1, … of these kinds, one after the other."""
    nodes = tuple(
        Node(
            id=f"s{i}",
            index=i,
            path=f"s{i}",
            kind=kind,
            params=Literal({"handler": "echo", "input": {"i": i}} if kind == "call" else {"title": "Go?", "for": 60}),
            needs=(i - 1,) if i else (),
            dependents=(i + 1,) if i < len(kinds) - 1 else (),
            retry=retry or Retry(max_attempts=1),
        )
        for i, kind in enumerate(kinds)
    )
    return Plan("chain", (), Block(nodes, (0,)))


class Rig:
    """One scheduler's cycle, and what it told."""

    def __init__(self, url: str, database: Database, plan: Plan, clock: StoreClock) -> None:
        self.url = url
        self.database = database
        self.published = Published(uuid.UUID(int=9), "chain", 1, plan)
        self.others: dict[uuid.UUID, Published] = {}
        self.cache = Cache(1000)
        self.room = True
        self.leases: dict[tuple[uuid.UUID, int], int] = {}
        self.stopped: list[Any] = []
        self.batches: list[int] = []
        self.cycle = Cycle(
            url,
            name="test-cycle",
            clock=clock,
            cache=self.cache,
            evaluator=None,  # type: ignore[arg-type] - no CEL here
            assign=lambda queue, prefer: "x1" if self.room else None,
            unassign=lambda executor: None,
            load=self.load,
            present_fence=self.present_fence,
            recorded=self.recorded,
            untold=lambda run: self.gates.untold(run),
            committed=self.committed,
            answered=lambda outcome: None,
        )
        self.gates = Gates(database, self.cycle, self.cache)
        self.task = asyncio.ensure_future(self.cycle.run())

    async def load(self, runs: Iterable[uuid.UUID]) -> dict[uuid.UUID, Entry]:
        async with self.database.connection() as connection:
            return {
                run: entry_of(row, self.others.get(row.template, self.published))
                for run, row in (await load_runs(connection, list(runs))).items()
            }

    async def present_fence(self, run: uuid.UUID, no: int) -> int | None:
        async with self.database.connection() as connection:
            return (await fences(connection, [(run, no)])).get((run, no))

    async def recorded(self, run: uuid.UUID, seq: int) -> StoredEvent | None:
        async with self.database.connection() as connection:
            return await load_event(connection, run, seq)

    def committed(self, outcome: Outcome) -> None:
        self.batches.append(len(outcome.works))
        self.stopped += outcome.stopped
        for work in outcome.works:
            for dispatch in work.leased:
                self.leases[(work.entry.run, dispatch.no)] = (work.entry.version << 16) + 1

    def submit(self, item_args: tuple[uuid.UUID, cmd.Command], **more: Any) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(refusal: Exception | None) -> None:
            if refusal is None:
                future.set_result(None)
            else:
                future.set_exception(refusal)

        self.cycle.submit(Item(*item_args, done, **{"actor": "principal:test", **more}))
        return future

    def start(self, key: str | None = None) -> tuple[uuid.UUID, asyncio.Future[None]]:
        run = new_run_id()
        new = NewRun(
            owner=OWNER, template=self.published.template, template_name="chain", template_version=1, input=b"{}",
            labels=b"{}", trigger="api", created_by=OWNER,
            created_at=time.time(), key=key, key_hash=b"h",
        )  # fmt: skip
        entry = Entry(run, OWNER, OWNER, self.published, RunState(), 0, Values({}, {}), new)
        command = cmd.Start(template=str(new.template), template_version=1, trigger="api", input={})
        return run, self.submit((run, command), owner=OWNER, entry=entry)

    def do(self, run: uuid.UUID, command: cmd.Command) -> asyncio.Future[None]:
        return self.submit((run, command), owner=OWNER)

    def report(self, run: uuid.UUID, no: int, *, fence: int | None = None, fault: Fault | None = None) -> Any:
        held = self.leases[(run, no)] if fence is None else fence
        command = cmd.Report(no=no, output=None if fault else b'{"ok":1}', fault=fault, executor="x1", fence=held)
        return self.submit((run, command), actor="executor:x1", reporter="x1")

    async def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        async with self.database.connection() as connection:
            return await (await connection.execute(query, params)).fetchall()

    async def check(self, run: uuid.UUID) -> RunState:
        """The stored run is sound: seq 1..n, and the fold of its events is its state. Gives the state."""
        events = await self.rows(
            "SELECT seq, type, data, extract(epoch FROM at)::float8 FROM events WHERE run_id = %s ORDER BY seq", run
        )
        assert [row[0] for row in events] == list(range(1, len(events) + 1))
        folded = fold([(decode_event(row[1], row[2]), row[3]) for row in events])
        ((text, seq),) = await self.rows("SELECT state, seq FROM runs WHERE id = %s", run)
        stored = decode_state(text)
        assert stored.seq == seq == len(events)
        # To the microsecond: sums of floats differ beyond it.
        assert _rounded(folded) == _rounded(stored)
        return stored

    async def close(self) -> None:
        await self.cycle.drain()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.cycle.close()


def _rounded(state: RunState) -> Any:
    def walk(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 5)
        if isinstance(value, dict):
            return {k: walk(v) for k, v in value.items()}
        return value

    return walk(msgspec.json.decode(encode_state(state)))


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, name="test", size=4)
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture
async def make_rig(database_url: str, database: Database) -> AsyncIterator[Any]:
    """make_rig(plan): a cycle; several share the store."""
    clock = StoreClock(database)
    await clock.sample()
    rigs: list[Rig] = []

    def make(plan: Plan) -> Rig:
        rigs.append(Rig(database_url, database, plan, clock))
        return rigs[-1]

    yield make
    for rig in rigs:
        await rig.close()


@pytest.fixture
def make_chain() -> Any:
    return chain
