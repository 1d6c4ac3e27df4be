"""What people and programs ask of runs, and what they may rely on when they are answered."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from wfe_engine import commands as cmd
from wfe_engine.errors import ResourceExhausted, Unavailable, WfeError
from wfe_engine.kinds.waiting import callback_name
from wfe_engine.plan import CONTAINERS
from wfe_engine.state import CANCELLED, ENDED, FAILED, WAITING, RunState, decode_state
from wfe_scheduler.api.engine import StartOptions
from wfe_servicekit.auth import Caller

from tests.sim.coverage import DECISIONS, NOTES, REQUESTS

if TYPE_CHECKING:
    from tests.sim.checks import Checker
    from tests.sim.coverage import Coverage
    from tests.sim.processes import Approvals, Plans, Scheduler

OWNER = UUID(int=7)
CALLER = Caller(OWNER, "o", UUID(int=9), "p", "person", frozenset(), frozenset())
#: What is asked, by how often: runs are ended seldom, and helped on often.
ACTS = (*REQUESTS, "resume", "retry", "retry", "gate", "gate", "gate", "gate", "signal", "rollback", "fork", "rerun")


class Clients:
    """The clients of a world."""

    rng: random.Random
    checker: Checker
    coverage: Coverage
    plans: Plans
    schedulers: list[Scheduler]
    approvals: Approvals
    templates: list[UUID]
    peace: bool
    _tokens: int
    _tasks: set[asyncio.Task[Any]]

    async def _call(self, work: Any, seconds: float = 8.0) -> tuple[str, Any]:
        """Ask some scheduler: (ok, answer), (refused, why), or (unknown, None)."""
        serving = [scheduler for scheduler in self.schedulers if scheduler.serving]
        if not serving:
            await asyncio.sleep(0.1)
            return "unknown", None
        scheduler = self.rng.choice(serving)
        task = scheduler.process.spawn(lambda: work(scheduler.engine))
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            return "unknown", None
        fault = task.exception()
        if fault is None:
            return "ok", task.result()
        if isinstance(fault, Unavailable | ResourceExhausted):
            return "unknown", None
        if isinstance(fault, WfeError):
            return "refused", fault
        self.checker.note(f"a client was answered with {fault!r}")
        return "refused", fault

    def _token(self) -> str:
        self._tokens += 1
        return f"command {self._tokens}"

    async def _start(self) -> None:
        """Start a run and ask until it is known; sometimes twice at once, sometimes for later."""
        template, key = self.rng.choice(self.templates), self._token()
        delay = self.rng.random() * 30 if self.rng.random() < 0.15 else None
        at_once = 1 if self.rng.random() < 0.8 else 2
        known: set[UUID] = set()

        async def ask(engine: Any) -> Any:
            return await engine.start(CALLER, template, None, {}, {}, key, b"h", StartOptions(delay=delay))

        while not known:
            for how, answer in await asyncio.gather(*[self._call(ask) for _ in range(at_once)]):
                if how == "ok":
                    known.add(answer.run_id)
                elif how == "refused":
                    self.checker.note(f"a start was refused: {answer!r}")
                    return
            if self.peace and len(self._tasks) > 100:
                return
            await asyncio.sleep(0.2)
        self.coverage.saw("starts", "delayed" if delay is not None else "start" if at_once == 1 else "twice at once")
        self.checker.expect(len(known) == 1, f"one key began {len(known)} runs")
        run = known.pop()
        stored = self.checker.tables["keys"].get((OWNER, key))
        self.checker.expect(run in self.checker.tables["runs"], f"run {run} was acknowledged and is not there")
        self.checker.expect(stored is not None and stored["run"] == run, "a key stands for another run")

    async def _act(self) -> None:
        """Something a person or a program asks of a run, mostly of one that it can be asked of."""
        runs = {run: decode_state(row["state"]) for run, row in self.checker.tables["runs"].items()}
        if not runs:
            return
        what = self.rng.choice(ACTS)
        if what == "gate":
            await self._at_some_gate()
            return
        fitting = [run for run, state in runs.items() if self._fits(what, run, state)]
        # Now and then of any, to be refused.
        run = self.rng.choice(fitting if fitting and self.rng.random() < 0.85 else list(runs))
        if what in ("fork", "rerun"):
            await self._fork(what, run)
            return
        reason = self._token()
        work = self._work(what, run, runs[run], reason)
        if work is None:
            return
        how, answer = await self._call(work)
        if how == "ok":
            self.coverage.saw("requests", what)
            self.checker.acknowledged(reason)
        elif how == "refused" and what != "rollback":
            self.checker.expect(
                reason not in self.checker.commits, f"{reason} ({what}) was refused and has happened: {answer}"
            )
        if what in ("twice", "answer") and how == "ok":
            await self._call(work)
            found = [
                k
                for k in self.checker.tables.of_run("signals", run)
                if self.checker.tables["signals"][k]["payload"] == f'"{reason}"'
            ]
            self.checker.expect(len(found) == 1, f"one signal came {len(found)} times")

    def _fits(self, what: str, run: UUID, state: RunState) -> bool:
        """Whether a request makes sense for a run."""
        if what in ("retry", "edit"):
            return state.status in (FAILED, CANCELLED) and not state.compensated
        if what in ("rollback", "fork"):
            return bool(self.checker.tables.of_run("snapshots", run))
        if what in ("rerun", "snapshot"):
            return True
        if state.status in ENDED:
            return False
        steps = [step for _, _, step in state.steps()]
        if what in ("answer", "alive"):
            return any(step.kind == "wait_for" and step.status == WAITING for step in steps)
        if what in ("complete", "skip"):
            return any(step.kind not in CONTAINERS for step in steps)
        return (state.paused_at is not None) == (what == "resume")

    def _work(self, what: str, run: UUID, state: RunState, reason: str) -> Any:
        rng = self.rng
        commands: dict[str, cmd.Command] = {
            "pause": cmd.Pause(), "resume": cmd.Resume(), "cancel": cmd.Cancel(), "terminate": cmd.Cancel(hard=True),
            "retry": cmd.Retry(),
        }  # fmt: skip
        steps = [step for _, _, step in state.steps() if step.kind not in CONTAINERS]
        if what in ("complete", "skip"):
            if not steps:
                return None
            output = b'{"by":"hand"}' if what == "complete" else None
            commands[what] = cmd.SettleStep(no=rng.choice(steps).no, output=output)
        if what == "edit":
            stopped = [step.no for step in steps if step.kind == "call" and step.status in (FAILED, CANCELLED)]
            commands[what] = cmd.Retry(edits=dict.fromkeys(stopped, b'{"edited":1}'))
        if what in commands:
            return lambda engine: engine.command(CALLER, run, commands[what], reason)
        if what == "alive":
            name = self._callback(run, state)
            return lambda engine: engine.command(CALLER, run, cmd.Alive(name=name, progress=b"1"), reason)
        payload = f'"{reason}"'.encode()
        if what == "answer":
            letter = cmd.Signal(
                signal=str(UUID(int=rng.getrandbits(128))), name=self._callback(run, state), payload=payload,
                failed=rng.random() < 0.3,
            )  # fmt: skip
            return lambda engine: engine.command(CALLER, run, letter, reason)
        if what in ("signal", "twice"):
            name = rng.choice(("a", "b"))
            key = reason if what == "twice" else None
            return lambda engine: engine.signal(CALLER, run, name, payload, reason, key)
        if what == "snapshot":
            return lambda engine: engine.snapshot(CALLER, run, "here", reason)
        snapshots = self.checker.tables.of_run("snapshots", run)
        if not snapshots:
            return None
        snapshot = rng.choice(snapshots)[1]
        return lambda engine: engine.rollback(CALLER, run, snapshot, reason)

    def _callback(self, run: UUID, state: Any) -> str:
        for _, _, step in state.steps():
            if step.kind == "wait_for" and step.status == WAITING:
                row = self.checker.tables["steps"][run, step.no]
                params = msgspec.json.decode(row["input"])
                if "callback" in params:
                    return callback_name(params["callback"], row["iteration"])
        return "callback:none"

    async def _fork(self, what: str, run: UUID) -> None:
        """A run that begins where another was."""
        snapshots, key = self.checker.tables.of_run("snapshots", run), self._token()
        if len(self.checker.tables["runs"]) > 12 or (what == "fork" and not snapshots):
            return
        if what == "fork":
            snapshot = self.rng.choice(snapshots)[1]
            how, answer = await self._call(lambda engine: engine.fork(CALLER, run, snapshot, None, "", key, b"h"))
        else:
            plan = self.plans.plan(self.checker.tables["runs"][run]["template"])
            first = self.rng.choice(plan.root.nodes).id
            how, answer = await self._call(lambda engine: engine.rerun(CALLER, run, first, None, "", key, b"h"))
        if how == "ok":
            self.coverage.saw("starts", what)
            there = answer.run_id in self.checker.tables["runs"]
            self.checker.expect(there, f"a {what} was acknowledged and is not there")

    async def _at_some_gate(self) -> None:
        """An approver decides an open gate as its policy allows, or does something else at it."""
        gates = [gate for gate in self.checker.tables["gates"].values() if gate["status"] == "open"]
        if gates:
            gate = self.rng.choice(gates)
            beside = [other for other in gates if other["run"] == gate["run"] and other is not gate]
            if beside and self.rng.random() < 0.4:  # each may void the other
                await asyncio.gather(self._at_gate(gate, "reject"), self._at_gate(beside[0], "reject"))
                return
            policy = msgspec.json.decode(gate["policy"])
            revisable = gate["round"] < policy.get("revise", {}).get("max_rounds", 0)
            decisions = [what for what in DECISIONS if what != "revise" or revisable]
            # What the fewest gates allow is chosen more often where it can be.
            decisions += ["revise"] * 3 * revisable
            await self._at_gate(gate, self.rng.choice(decisions if self.rng.random() < 0.6 else NOTES))

    async def _decide(self, run: UUID, outcome: str) -> None:
        """All open gates of a run are decided."""
        for gate in list(self.checker.tables["gates"].values()):
            if gate["run"] == run and gate["status"] == "open":
                await self._at_gate(gate, outcome)

    async def _at_gate(self, gate: Any, what: str) -> None:
        work = self.approvals.decide(gate["id"], what, UUID(int=self.rng.randint(50, 60)))
        try:
            counts = await self.approvals.process.spawn(lambda: work)
        except Unavailable:
            return
        if not counts:
            return
        self.coverage.saw("at gates", what)
        if what in DECISIONS:
            outcome = "approve" if what in ("bypass", "link") else what
            decided = self.checker.decided.get(gate["id"])
            self.checker.expect(decided == outcome, f"gate {gate['id']}: {what} was acknowledged")
