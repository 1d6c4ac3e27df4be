"""A scheduler and the decisions of approvals as one process on a real run store, with a bus that goes nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from wfe_bus import messages as m
from wfe_engine.plan import Block, Literal, Node, Plan, Retry
from wfe_scheduler import children as children_module
from wfe_scheduler.children import Children
from wfe_scheduler.clock import StoreClock
from wfe_scheduler.cycle import Cycle
from wfe_scheduler.dispatcher import Dispatcher
from wfe_scheduler.engine import Engine
from wfe_scheduler.entries import Cache, Entry, entry_of
from wfe_scheduler.executors import Executors
from wfe_scheduler.gates import Gates
from wfe_scheduler.limits import Admission
from wfe_scheduler.plans import Published, queues_of
from wfe_scheduler.sweeper import Sweeper
from wfe_scheduler.telling import Teller
from wfe_scheduler.traces import Traces
from wfe_scheduler.watch import Watchers
from wfe_servicekit.auth import Caller
from wfe_store import gates as stored_gates
from wfe_store.leases import fences
from wfe_store.load import StoredEvent, load_event, load_runs
from wfe_store.pool import Database

from tests.crash.awaits import Awaits, present

OWNER = UUID(int=7)
CALLER = Caller(OWNER, "o", UUID(int=9), "p", "person", frozenset({"runner"}), frozenset())
DECIDER = Caller(OWNER, "o", UUID(int=10), "q", "person", frozenset({"approver"}), frozenset())
_numbers = itertools.count()


def plan(*kinds: str) -> Plan:
    """Steps s0, s1, … one after the other."""
    params = {"handler": "h", "title": "Go?", "for": 0.01, "name": "here", "signals": ["go"], "callback": "back",
              "template": str(UUID(int=1)), "version": 1, "input": {}}  # fmt: skip
    nodes = tuple(
        Node(
            id=f"s{i}", index=i, path=f"s{i}", kind=kind, params=Literal(params), needs=(i - 1,) if i else (),
            dependents=(i + 1,) if i < len(kinds) - 1 else (), retry=Retry(max_attempts=2, initial=0.0),
        )
        for i, kind in enumerate(kinds)
    )  # fmt: skip
    return Plan("p", (), Block(nodes, (0,), result=len(nodes) - 1))


class Plans:
    """Templates by id."""

    def __init__(self) -> None:
        kinds = {
            1: ("call",), 2: ("call", "call"), 3: ("approval", "call"), 4: ("wait", "call"), 5: ("wait_for", "call"),
            6: ("workflow", "call"), 7: ("checkpoint", "call", "call"),
        }  # fmt: skip
        self._known = {}
        for number, steps in kinds.items():
            made = plan(*steps)
            self._known[UUID(int=number)] = Published(UUID(int=number), "p", 1, made, queues_of(made.root))

    async def resolve(self, owner: UUID, template: UUID, version: int | None) -> Published:
        return self._known[template]

    async def of_run(self, owner: UUID, template: UUID, version: int) -> Published:
        return self._known[template]

    def known(self, template: UUID, version: int) -> Published:
        return self._known[template]


class Bus:
    """Keeps what was published."""

    is_connected = True

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, data: bytes) -> None:
        self.sent.append((subject, data))


class Message:
    """A request to a scheduler."""

    reply = "inbox"

    def __init__(self, message: m.Message) -> None:
        self.data = m.encode(message)
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def respond(self, data: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(data)


class Process:
    """One process; killed, nothing of it goes on, and its connections are gone."""

    def __init__(self, url: str) -> None:
        self.awaits = Awaits()
        self.name = f"crash-{next(_numbers)}"
        self._url = url
        self.bus = Bus()
        self.room = True

    async def start(self) -> Process:
        token = present.set(self.awaits)
        try:
            await self._start()
        finally:
            present.reset(token)
        return self

    async def _start(self) -> None:
        self.database = Database(self._url, name=self.name, size=3)
        await self.database.open()
        clock, bus, plans = StoreClock(self.database), self.bus, Plans()
        await clock.sample()
        any_: dict[str, Any] = {"bus": bus, "plans": plans}
        self.dispatcher = Dispatcher(any_["bus"], self.database, clock, self.name)
        cache = Cache(100)

        async def load(runs: Iterable[UUID]) -> dict[UUID, Entry]:
            async with self.database.connection() as connection:
                loaded = await load_runs(connection, list(runs))
            return {run: entry_of(found, plans.known(found.template, 1)) for run, found in loaded.items()}

        async def present_fence(run: UUID, no: int) -> int | None:
            async with self.database.connection() as connection:
                return (await fences(connection, [(run, no)])).get((run, no))

        async def recorded(run: UUID, seq: int) -> StoredEvent | None:
            async with self.database.connection() as connection:
                return await load_event(connection, run, seq)

        self.cycle = Cycle(
            self._url, name=f"{self.name}-cycle", clock=clock, cache=cache, evaluator=any_.get("evaluator"),  # type: ignore[arg-type]
            assign=self.dispatcher.assign, unassign=self.dispatcher.credits.give_back, load=load,
            present_fence=present_fence, recorded=recorded, untold=lambda run: self.gates.untold(run),
            committed=lambda outcome: self.teller.committed(outcome),
            answered=lambda outcome: self.teller.answered(outcome),
        )  # fmt: skip
        self.executors = Executors(
            any_["bus"], self.database, clock, self.cycle, self.dispatcher, any_.get("unsealing"),  # type: ignore[arg-type]
            scheduler=self.name, lease_seconds=15.0,
        )  # fmt: skip
        self.sweeper = Sweeper(self.database, self.cycle, self.dispatcher, lease_seconds=15.0, lease_losses=5)
        self.children = Children(self.database, self.cycle, any_["plans"], clock, Traces(self.database, clock))
        watchers = Watchers(lambda runs: None)
        self.teller = Teller(
            any_["bus"], clock, self.dispatcher, self.executors, watchers, self.sweeper, self.children
        )  # fmt: skip
        self.gates = Gates(self.database, self.cycle, cache)
        self.stored_gates = stored_gates.Gates(self.database)
        self.engine = Engine(
            database=self.database, bus=any_["bus"], clock=clock, plans=any_["plans"], cycle=self.cycle,
            watchers=watchers, sealer=None, admission=Admission(self.cycle, self.database),
        )  # fmt: skip
        self.awaits.spawn(self.cycle.run())
        self.awaits.spawn(self.dispatcher.run())

    async def settle(self) -> None:
        """What schedulers and approvals do by themselves, until nothing is left to do."""
        children_module.OVERDUE_SECONDS = 0.0
        for _ in range(6):
            await self.sweeper.run_once()
            await self.children.run_once()
            for decision in await self.stored_gates.untold(older_than=dt.timedelta(0)):
                await self.gates.tell(decision.gate_id)
            while self.children._tasks:
                await asyncio.wait(set(self.children._tasks))
            await self.cycle.drain()

    async def end(self) -> None:
        """Let go of everything; also of a dead one."""
        for task in self.awaits.tasks:
            task.cancel()
        if self.awaits.tasks:
            await asyncio.wait(self.awaits.tasks, timeout=2.0)
        with contextlib.suppress(Exception):
            await self.cycle.close()  # of a dead one these are connections that were idle
        if self.awaits.dead:
            return
        with contextlib.suppress(Exception):
            await self.database._pool.close(timeout=0)
