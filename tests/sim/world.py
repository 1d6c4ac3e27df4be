"""One example: some runs of random plans, everything that can go wrong, then peace, in which every run must end."""

from __future__ import annotations

import asyncio
import hashlib
import pathlib
import random
import sys
from typing import Any
from uuid import UUID

import msgspec
import structlog
from wfe_bus import messages as m
from wfe_engine import commands as cmd
from wfe_engine.kinds.waiting import callback_name
from wfe_engine.plan import Plan
from wfe_engine.state import ENDED, WAITING, decode_state

from tests.sim.bus import Bus, Faults
from tests.sim.checks import Checker
from tests.sim.clients import CALLER, OWNER, Clients
from tests.sim.coverage import MISHAPS, Coverage
from tests.sim.firings import OPEN, add_schedule
from tests.sim.gate_tables import PENDING
from tests.sim.machine import Process, SimLoop, SimTime, Stuck
from tests.sim.processes import Approvals, Executor, Plans, Scheduler, ports
from tests.sim.store import Store

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "libs/engine/tests"))
from random_runs import CODES, TEMPLATE, random_plan

#: Virtual seconds in which everything must have ended once nothing goes wrong any more.
PEACE_SECONDS = 1500
#: Virtual seconds without any transaction but heartbeats after which nothing will happen any more.
STILL_SECONDS = 150


class World(Clients):
    """Everything of one example.

    Args:
        seed: Gives all of it.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.loop = SimLoop()
        self.faults = Faults()
        self.coverage = Coverage()
        self.checker = Checker(self.coverage)
        self.time = SimTime(self.loop)
        self.store = Store(self.loop, self.checker.tables, self.faults)
        self.bus = Bus(self.loop, random.Random(self.rng.random()), self.faults)
        templates = {UUID(TEMPLATE): self._plan_with("'workflow'", wanted=False)}  # what the others start
        templates |= {UUID(int=100 + i): random_plan(self.rng) for i in range(self.rng.randint(1, 3))}
        templates[UUID(int=200)] = self._plan_with("'workflow'", wanted=self.rng.random() < 0.7)
        # Seldom by chance, and most can happen at them.
        templates[UUID(int=201)] = self._plan_with(self.rng.choice(("'revise'", "'on_expiry'", "'callback'")))
        self.templates = list(templates)
        self.plans = Plans(templates)
        # Minutes begin at another moment of every example, so that a schedule is due within it.
        self.store.wrong = self.rng.random() * 60
        if self.rng.random() < 0.7:
            due = self.rng.choice(self.templates)
            add_schedule(self.checker.tables, self.rng, OWNER, CALLER.principal_id, due, self.store.now())
        self.snapshot_every = self.rng.choice((0, 0, 5, 20))
        self.schedulers: list[Scheduler] = []
        self.executors: list[Executor] = []
        self.peace = False
        self._names = 0
        self._tokens = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def _plan_with(self, kind: str, *, wanted: bool = True) -> Plan:
        """A plan that has, or has not, a step of a kind, or one that is asked for something."""
        while True:
            plan = random_plan(self.rng)
            if (kind in repr(plan)) == wanted:
                return plan

    # ---- the whole of it

    def run(self) -> list[str]:
        """Live through it; gives the broken promises."""
        asyncio.set_event_loop(self.loop)
        before = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        try:
            with ports(self.store, self.time, random.Random(self.rng.random()), self.coverage):
                try:
                    self.loop.run_until_complete(self._live())
                except Stuck:
                    self.checker.note("nothing will ever happen again")
                self._close()
        finally:
            self.loop.close()
            asyncio.set_event_loop(None)
            structlog.configure(**before)
        self.checker.once()
        return self.checker.violations + self.loop.faults

    def digest(self) -> str:
        """Of everything in the store: equal for equal seeds."""
        return hashlib.sha256(repr(self.checker.tables.rows).encode()).hexdigest()[:16]

    def _close(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _live(self) -> None:
        for _ in range(self.rng.randint(2, 3)):
            await self._scheduler()
            await self._executor()
        self.approvals = Approvals(self._process("approvals"), self.store, self.bus)
        await self.approvals.process.spawn(self.approvals.run)
        self._go_wrong()
        until = self.loop.time() + self.rng.uniform(10, 80)
        starts = self.rng.randint(2, 6)
        while self.loop.time() < until and not self.checker.violations:
            await asyncio.sleep(self.rng.random() * 1.5)
            if starts and self.rng.random() < 0.5:
                starts -= 1
                self._spawn(self._start())
            elif self.rng.random() < 0.5:
                self._spawn(self._act())
            elif self.rng.random() < 0.5:
                await self._mishap()
        await self._have_peace()

    def _spawn(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.checker.note(f"a client met {task.exception()!r}")

    # ---- processes

    def _process(self, kind: str) -> Process:
        self._names += 1
        return Process(f"{kind}{self._names}", random.Random(self.rng.random()), self.loop)

    async def _scheduler(self) -> None:
        scheduler = Scheduler(self._process("s"), self.store, self.bus, self.plans, self.snapshot_every)
        self.schedulers.append(scheduler)
        scheduler.process.spawn(scheduler.run)

    async def _executor(self) -> None:
        executor = Executor(self._process("x"), self.bus, self, self.rng.randint(1, 4))
        self.executors.append(executor)
        executor.process.spawn(executor.run)

    def _kill(self, one: Scheduler | Executor) -> None:
        one.process.dead = True
        self.loop.call_later(self.rng.random() * 3, self.bus.forget, one.process)

    # ---- what goes wrong

    def _go_wrong(self) -> None:
        for name in ("lost", "refused", "unknown"):
            setattr(self.faults, name, self.rng.choice((0.0, 0.0, 0.02, 0.15)))
        self.faults.twice = self.rng.choice((0.0, 0.0, 0.1, 0.5))
        self.faults.longest = self.rng.choice((0.01, 0.1, 2.0, 8.0))

    async def _mishap(self) -> None:
        rng, now = self.rng, self.loop.time()
        what = rng.choice(MISHAPS)
        self.coverage.saw("mishaps", what)
        scheduler, executor = rng.choice(self.schedulers), rng.choice(self.executors)
        if what == "kill scheduler":
            self._kill(scheduler)
            self.schedulers.remove(scheduler)
            await self._scheduler()
        elif what == "stop scheduler":
            scheduler.process.stalled_until = now + rng.random() * 20
        elif what == "kill executor":
            self._kill(executor)
            self.executors.remove(executor)
            await self._executor()
        elif what == "stop executor":
            executor.process.stalled_until = now + rng.random() * 40
        elif what == "end executor":
            executor.process.spawn(executor.drain)
            self.executors.remove(executor)
            await self._executor()
        elif what == "wipe":
            self.bus.wipe(rng.random() * 5)
        elif what == "store":
            self.faults.store_down_until = now + rng.random() * 5
        elif what == "clock":
            self.store.wrong += rng.choice((-30.0, -2.0, 2.0, 30.0))
        elif what == "clocks":
            self.time.wrong += rng.choice((-3600.0, 3600.0))
        else:
            self._go_wrong()

    # ---- executors

    def begun(self, process: Process, lease: m.Lease) -> tuple[float, Any]:
        """An attempt begins: how long it takes, and its outcome; None kills the executor."""
        self.checker.begun(process, lease)
        chance = random.Random(f"{lease.run.hex()} {lease.path}").random()
        if chance < (0.2 if lease.path.endswith("~") else 0.02):
            self.loop.call_later(0.0, self._replace, process)
            return 0.0, None
        seconds = process.rng.random() ** 3 * (2.0 if self.peace else 20.0)
        if not self.peace and process.rng.random() < 0.25:
            return seconds, process.rng.choice(CODES)
        output = {"fence": lease.fence, "no": lease.no}
        return seconds, msgspec.json.encode(output)

    def accepted(self, ref: m.LeaseRef) -> None:
        self.checker.accepted(ref)

    def stopped(self, process: Process, told: m.Stop) -> None:
        self.checker.stopped(process, told)

    def _replace(self, process: Process) -> None:
        for executor in self.executors:
            if executor.process is process:
                self._kill(executor)
                self.executors.remove(executor)
                self._spawn(self._executor())
                return

    # ---- peace

    async def _have_peace(self) -> None:
        self.peace = True
        self.faults.stop()
        tables = self.checker.tables
        for schedule in list(tables["schedules"]):  # no more of them, or it never ends
            tables.transaction(lambda schedule=schedule: tables.change("schedules", schedule, next_at=None))
        for one in (*self.schedulers, *self.executors):
            one.process.stalled_until = 0.0
        until = self.loop.time() + PEACE_SECONDS
        moves, moved = -1, self.loop.time()
        while self.loop.time() < min(until, moved + STILL_SECONDS) and not self.checker.violations:
            if moves != self.checker.moves:
                moves, moved = self.checker.moves, self.loop.time()
            if not self._tasks and not self._left():
                break
            await self._help()
            await asyncio.sleep(1.0)
        if not self.checker.violations:
            left = self._left()
            self.checker.expect(not left, "in peace, and not done: " + "; ".join(left[:5]))
            self.checker.expect(not self._tasks, "clients still wait for answers")

    def _left(self) -> list[str]:
        tables = self.checker.tables
        left = [f"run {run} is {row['status']}" for run, row in tables["runs"].items() if row["ended_at"] is None]
        left += [f"{name} {key}" for name in ("dispatch", "timers") for key in tables[name]]
        left += [
            f"child {key} {row['wish']}" for key, row in tables["children"].items() if not row["done"] or row["ended"]
        ]
        left += [
            f"gate {key} is {row['status']}" for key, row in tables["gates"].items()
            if row["status"] in PENDING or (row["outcome"] and row["told_at"] is None)
        ]  # fmt: skip
        left += [f"firing {key} is {row['status']}" for key, row in tables["firings"].items() if row["status"] in OPEN]
        left += [f"note {key} of a gate" for key, note in tables["gate_notes"].items() if note["told_at"] is None]
        left += [f"{one.process.name} is busy" for one in self.schedulers if not one.idle]
        return left

    async def _help(self) -> None:
        """People and programs do what the runs wait for."""
        for run, row in list(self.checker.tables["runs"].items()):
            state = decode_state(row["state"])
            if state.status in ENDED:
                continue
            if state.paused_at is not None:
                await self._call(lambda engine, run=run: engine.command(CALLER, run, cmd.Resume(), ""))
                continue
            await self._decide(run, "approve")
            for _, _, step in state.steps():
                if step.kind != "wait_for" or step.status != WAITING:
                    continue
                stored = self.checker.tables["steps"][run, step.no]
                params = msgspec.json.decode(stored["input"])
                name = (params.get("signals") or [""])[0] or callback_name(params["callback"], stored["iteration"])
                await self._call(lambda engine, run=run, name=name: engine.signal(CALLER, run, name, b"1", "", None))
