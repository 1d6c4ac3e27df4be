"""The processes: schedulers, executors and approvals, put together from their own code on simulated ports."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock
from uuid import UUID

from wfe_approvals.bus import Bus as ApprovalsBus
from wfe_approvals.usecases.do_agenda import do_agenda
from wfe_approvals.usecases.expire_gates import expire_gates
from wfe_approvals.usecases.tell_untold import tell_untold
from wfe_bus import messages as m
from wfe_bus import subjects
from wfe_engine.errors import NotFound, ResourceExhausted, Unavailable
from wfe_engine.plan import Plan
from wfe_executor import attempts, pulse
from wfe_executor import clock as executor_clock
from wfe_executor import link as executor_link
from wfe_executor.attempts import Attempt
from wfe_executor.outputs import failure
from wfe_executor.pulse import Pulse
from wfe_executor.reports import Reporter
from wfe_executor.slots import Slots
from wfe_scheduler import children as children_module
from wfe_scheduler import clock, cycle, dispatcher, engine, executors, gates, ids, limits, once, sweeper
from wfe_scheduler import credits as credits_module
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
from wfe_scheduler.schedules import Scheduling
from wfe_scheduler.sweeper import Sweeper
from wfe_scheduler.telling import Teller
from wfe_scheduler.traces import Traces
from wfe_scheduler.watch import Watchers
from wfe_store.load import StoredEvent

from tests.sim import loads
from tests.sim import store as simulated
from tests.sim.bus import Bus, Client, Link
from tests.sim.coverage import Coverage
from tests.sim.firings import Firings
from tests.sim.gates import Gates as StoredGates
from tests.sim.machine import Process, SimTime
from tests.sim.store import Database, Store

LEASE_SECONDS = 15.0
LEASE_LOSSES = 5


class Random:
    """The module `random` and `os` as the engine uses them."""

    def __init__(self, rng: random.Random) -> None:
        self.random, self.uniform, self.urandom = rng.random, rng.uniform, rng.randbytes


@contextlib.contextmanager
def ports(store: Store, time: SimTime, rng: random.Random, coverage: Coverage) -> Iterator[None]:
    """Put the simulated store, time and chance where the engine reaches for the real ones."""
    chance = Random(rng)
    replaced: list[tuple[Any, str, Any]] = [
        (cycle, "store", simulated.Commits(store)),
        (cycle, "random", chance),
        (cycle, "decide", coverage.counting(cycle.decide)),
        (ids, "os", chance),
        (executor_link, "random", chance),
        (children_module, "stored", simulated.Children()),
        *[(module, "leases", simulated.Leases()) for module in (dispatcher, executors, sweeper)],
        *[(module, "time", time) for module in (clock, credits_module, cycle, ids, limits)],
        *[(module, "time", time) for module in (attempts, pulse, executor_clock)],
        *[(module, "load_runs", loads.load_runs) for module in (engine, once)],
        (engine, "load_snapshot", loads.load_snapshot),
        (engine, "known_signals", loads.known_signals),
        (engine, "steps_within", loads.steps_within),
        (once, "load_keys", loads.load_keys),
        (gates, "load_told_gates", loads.load_told_gates),
        (gates, "load_untold_gates", loads.load_untold_gates),
        (sweeper, "dispatch_held", simulated.dispatch_held),
    ]
    with contextlib.ExitStack() as stack:
        for module, name, value in replaced:
            stack.enter_context(mock.patch.object(module, name, value))
        yield


class Plans:
    """Templates by id; all of them are published and compiled."""

    def __init__(self, plans: dict[UUID, Plan]) -> None:
        self._published = {
            template: Published(template, "random", 1, plan, queues_of(plan.root)) for template, plan in plans.items()
        }

    async def resolve(self, owner: UUID, template: UUID, version: int | None) -> Published:
        return await self.of_run(owner, template, 1)

    async def of_run(self, owner: UUID, template: UUID, version: int) -> Published:
        if template not in self._published:
            raise NotFound("there is no such template")
        return self._published[template]

    def plan(self, template: UUID) -> Plan:
        """The plan of a template."""
        return self._published[template].plan

    def known(self, template: UUID, version: int) -> Published | None:
        return self._published.get(template)


async def _every(seconds: float, process: Process, work: Any) -> None:
    while True:
        await process.alive()
        with contextlib.suppress(Unavailable, ResourceExhausted):
            await work()
        await asyncio.sleep(seconds * (0.8 + 0.4 * process.rng.random()))


class Scheduler:
    """One scheduler; wired as `wfe_scheduler.app.serve` does it.

    Attributes:
        serving: It has come up and takes calls.
    """

    def __init__(self, process: Process, store: Store, bus: Bus, plans: Plans, snapshot_every: int) -> None:
        self.process = process
        self.serving = False
        name = process.name
        self.database: Any = Database(store, process)
        client: Any = Client(bus, process)
        self._client = client
        self.clock = StoreClock(self.database)
        self.cache = Cache(4)
        traces = Traces(self.database, self.clock)
        self.dispatcher = Dispatcher(client, self.database, self.clock, name, traces)
        self.plans: Any = plans
        self.cycle = Cycle(
            process,  # type: ignore[arg-type] - what `Commits.connect` gets instead of a URL
            name=name,
            clock=self.clock,
            cache=self.cache,
            evaluator=None,  # type: ignore[arg-type] - random plans have paths and literals only
            assign=self.dispatcher.assign,
            unassign=self.dispatcher.credits.give_back,
            load=self._load,
            present_fence=self._present_fence,
            recorded=self._recorded,
            untold=lambda run: self.gates.untold(run),
            committed=lambda outcome: self.teller.committed(outcome),
            answered=lambda outcome: self.teller.answered(outcome),
            told=lambda _owner: True,
            cycles=2,
            batch=8,
            snapshot_every=snapshot_every,
        )
        unsealing: Any = None
        self.executors = Executors(
            client, self.database, self.clock, self.cycle, self.dispatcher, unsealing,
            scheduler=name, lease_seconds=LEASE_SECONDS,
        )  # fmt: skip
        self.sweeper = Sweeper(
            self.database, self.cycle, self.dispatcher, lease_seconds=LEASE_SECONDS, lease_losses=LEASE_LOSSES
        )
        self.children = Children(self.database, self.cycle, self.plans, self.clock, traces)
        watchers = Watchers(lambda runs: None)
        self.teller = Teller(
            client, self.clock, self.dispatcher, self.executors, watchers, self.sweeper, self.children
        )  # fmt: skip
        self.gates = Gates(self.database, self.cycle, self.cache)
        self.engine = Engine(
            database=self.database, bus=client, clock=self.clock, plans=self.plans, cycle=self.cycle,
            watchers=watchers, sealer=None, admission=Admission(self.cycle, self.database), traces=traces,
        )  # fmt: skip

        self.scheduling = Scheduling(Firings(self.database), self.engine)  # type: ignore[arg-type] - simulated

    async def run(self) -> None:
        """Begin to serve."""
        while True:
            try:
                await self.clock.sample()
                break
            except Unavailable:
                await asyncio.sleep(0.1)
        self.process.spawn(self.cycle.run)
        self.process.spawn(self.dispatcher.run)
        await self._listen()
        await self.executors.subscribe()
        self.process.spawn(lambda: _every(1.0, self.process, self.sweeper.run_once))
        self.process.spawn(lambda: _every(1.0, self.process, self.children.run_once))
        self.process.spawn(lambda: _every(1.0, self.process, self.scheduling.run_once))
        self.process.spawn(lambda: _every(5.0, self.process, self.clock.sample))
        self.serving = True

    async def _listen(self) -> None:
        ready, gone = m.decoder(m.Ready).decode, m.decoder(m.Gone).decode

        async def on_ready(message: Any) -> None:
            told = ready(message.data)
            if told.scheduler != self.process.name:
                self.dispatcher.ready(told.queues, announce=False)

        async def on_gone(message: Any) -> None:
            told = gone(message.data)
            if told.scheduler != self.process.name:
                self.dispatcher.gone(told.executors, announce=False)

        async def on_gate(message: Any) -> None:
            with contextlib.suppress(Unavailable):
                await self.gates.on_message(message)

        await self._client.subscribe(subjects.READY, cb=on_ready)
        await self._client.subscribe(subjects.GONE, cb=on_gone)
        await self._client.subscribe(subjects.RUN, queue=subjects.SCHEDULERS, cb=on_gate)

    async def _load(self, runs: Iterable[UUID]) -> dict[UUID, Entry]:
        async with self.database.connection() as connection:
            loaded = await loads.load_runs(connection, list(runs))
        return {run: entry_of(found, self.plans.known(found.template, 1)) for run, found in loaded.items()}

    async def _present_fence(self, run: UUID, no: int) -> int | None:
        async with self.database.connection() as connection:
            return (await simulated.Leases().fences(connection, [(run, no)])).get((run, no))

    async def _recorded(self, run: UUID, seq: int) -> StoredEvent | None:
        async with self.database.connection() as connection:
            return await loads.load_event(connection, run, seq)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits."""
        return not (self.cycle.depth or self.cycle._tasks or self.cycle._reader.busy)


class Executor:
    """One executor: its own slots, reports and heartbeats around work that is only imagined.

    Args:
        witness: Told of every attempt that begins, and asked how it ends: seconds and outcome, or None to die of it.
    """

    def __init__(self, process: Process, bus: Bus, witness: Any, limit: int) -> None:
        self.process = process
        self._client: Any = Client(bus, process)
        link: Any = Link(self._client, process.name, witness.accepted)
        self._clock = executor_clock.StoreClock()
        self._witness = witness
        self.slots = Slots(
            limit, self._clock, run=self._attempt, report=self._report, grown=lambda: self.pulse.claim_soon()
        )
        self.reporter = Reporter(
            link, ("default",), room=self.slots.offer, settled=self.slots.settled, accept=self.slots.accept,
            stirred=lambda: self.pulse.nudge(),
        )  # fmt: skip
        self.pulse = Pulse(link, self.slots, self._clock, period=5.0, name="x", queues=("default",), handlers=())

    async def run(self) -> None:
        """Begin to serve."""
        take_leases, take_stop = m.decoder(m.Leases).decode, m.decoder(m.Stop).decode

        async def on_leases(message: Any) -> None:
            self.slots.accept(take_leases(message.data))

        async def on_stop(message: Any) -> None:
            told = take_stop(message.data)
            self._witness.stopped(self.process, told)
            self.slots.lose(told.leases, told.reason)

        await self._client.subscribe(subjects.leases_for(self.process.name), cb=on_leases)
        await self._client.subscribe(subjects.stop_for(self.process.name), cb=on_stop)
        self.pulse.start()

    async def drain(self) -> None:
        """SIGTERM: finish or give back, then end."""
        await self.pulse.stop()
        await self.slots.drain(3.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self.reporter.idle()
        self.process.dead = True

    async def _attempt(self, attempt: Attempt) -> Any:
        await self.process.alive()
        attempt.begin()
        seconds, outcome = self._witness.begun(self.process, attempt.lease)
        await asyncio.sleep(seconds)
        await self.process.alive()
        if outcome is None:
            self.process.dead = True
            await simulated.never()
        return outcome if isinstance(outcome, bytes) else failure(outcome, "it broke")

    def _report(self, attempt: Attempt) -> None:
        self.reporter.add(attempt)


class Approvals:
    """The approvals service: expiry, telling, and decisions."""

    def __init__(self, process: Process, store: Store, bus: Bus) -> None:
        self.process = process
        self.gates: Any = StoredGates(Database(store, process))
        settings: Any = None
        self.bus = ApprovalsBus(settings)
        client: Any = Client(bus, process)
        self.bus._client = client

    async def run(self) -> None:
        """Begin to serve."""

        async def expire() -> None:
            while await expire_gates(self.gates, self.bus):
                pass

        async def move() -> None:
            while await do_agenda(self.gates, self.bus):
                pass

        async def tell() -> None:
            await tell_untold(self.gates, self.bus)

        self.process.spawn(lambda: _every(1.0, self.process, expire))
        self.process.spawn(lambda: _every(1.0, self.process, move))
        self.process.spawn(lambda: _every(1.0, self.process, tell))

    async def decide(self, gate: UUID, what: str, decider: UUID) -> bool:
        """Decide a gate or do something at it; whether that counts."""
        decision = await self.gates.act(gate, what, decider)
        if decision is not None:
            await self.bus.tell([decision])
        return decision is not None
