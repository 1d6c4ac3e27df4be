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
from wfe_engine.state import WAITING, decode_state
from wfe_servicekit.auth import Caller

if TYPE_CHECKING:
    from tests.sim.checks import Checker
    from tests.sim.processes import Approvals, Scheduler

OWNER = UUID(int=7)
CALLER = Caller(OWNER, "o", UUID(int=9), "p", "person", frozenset(), frozenset())


class Clients:
    """The clients of a world."""

    rng: random.Random
    checker: Checker
    schedulers: list[Scheduler]
    approvals: Approvals
    templates: list[UUID]
    runs: list[UUID]
    peace: bool
    _tokens: int
    _tasks: set[asyncio.Task[Any]]

    async def _call(self, work: Any, seconds: float = 8.0) -> tuple[str, Any]:
        """Ask some scheduler: (ok, answer), (refused, why), or (unknown, None)."""
        scheduler = self.rng.choice(self.schedulers)
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
        """Start a run and ask until it is known; sometimes twice at once."""
        template, key = self.rng.choice(self.templates), self._token()
        known: set[UUID] = set()

        async def ask(engine: Any) -> Any:
            return await engine.start(CALLER, template, None, {}, {}, key, b"h")

        while not known:
            calls = [self._call(ask) for _ in range(1 if self.rng.random() < 0.8 else 2)]
            for how, answer in await asyncio.gather(*calls):
                if how == "ok":
                    known.add(answer.run_id)
                elif how == "refused":
                    self.checker.note(f"a start was refused: {answer!r}")
                    return
            if self.peace and len(self._tasks) > 100:
                return
            await asyncio.sleep(0.2)
        self.checker.expect(len(known) == 1, f"one key began {len(known)} runs")
        run = known.pop()
        stored = self.checker.tables["keys"].get((OWNER, key))
        self.checker.expect(run in self.checker.tables["runs"], f"run {run} was acknowledged and is not there")
        self.checker.expect(stored is not None and stored["run"] == run, "a key stands for another run")
        self.runs.append(run)

    async def _act(self) -> None:
        """Something a person or a program asks of a run."""
        runs = list(self.checker.tables["runs"])
        if not runs:
            return
        run, rng, reason = self.rng.choice(runs), self.rng, self._token()
        state = decode_state(self.checker.tables["runs"][run]["state"])
        what = rng.choice(("pause", "resume", "resume", "cancel", "retry", "retry", "gate", "gate", "signal", "signal",
                           "snapshot", "rollback", "fork", "settle", "twice", "alive"))  # fmt: skip
        if what == "gate":
            await self._decide(run, rng.choice(("approve", "approve", "reject", "revise", "vote")))
            return
        if what == "fork":
            await self._fork(run)
            return
        work = self._work(what, run, state, reason)
        if work is None:
            return
        how, answer = await self._call(work)
        if how == "ok":
            self.checker.acknowledged(reason)
        elif how == "refused" and what != "rollback":
            self.checker.expect(
                reason not in self.checker.commits, f"{reason} ({what}) was refused and has happened: {answer}"
            )
        if what == "twice" and how == "ok":
            how, _ = await self._call(work)
            found = [
                k
                for k in self.checker.tables.of_run("signals", run)
                if self.checker.tables["signals"][k]["payload"] == f'"{reason}"'
            ]
            self.checker.expect(len(found) == 1, f"one signal came {len(found)} times")

    def _work(self, what: str, run: UUID, state: Any, reason: str) -> Any:
        rng = self.rng
        commands: dict[str, cmd.Command] = {
            "pause": cmd.Pause(), "resume": cmd.Resume(), "cancel": cmd.Cancel(hard=rng.random() < 0.3),
            "retry": cmd.Retry(),
        }  # fmt: skip
        if what in commands:
            return lambda engine: engine.command(CALLER, run, commands[what], reason)
        if what == "settle":
            steps = [step.no for _, _, step in state.steps() if step.kind == "call"]
            if not steps:
                return None
            command = cmd.SettleStep(no=rng.choice(steps), output=rng.choice((None, b'{"by":"hand"}')))
            return lambda engine: engine.command(CALLER, run, command, reason)
        if what in ("signal", "twice", "alive"):
            name, key = rng.choice(("a", "b", self._callback(run, state))), None
            if what == "alive":
                return lambda engine: engine.command(CALLER, run, cmd.Alive(name=name, progress=b"1"), reason)
            if what == "twice":
                name, key = "a", reason
            payload = f'"{reason}"'.encode()
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

    async def _fork(self, run: UUID) -> None:
        snapshots, key = self.checker.tables.of_run("snapshots", run), self._token()
        if not snapshots or len(self.checker.tables["runs"]) > 12:
            return
        snapshot = self.rng.choice(snapshots)[1]
        how, answer = await self._call(lambda engine: engine.fork(CALLER, run, snapshot, None, "", key, b"h"))
        if how == "ok":
            self.checker.expect(
                answer.run_id in self.checker.tables["runs"], "a fork was acknowledged and is not there"
            )

    async def _decide(self, run: UUID, outcome: str) -> None:
        for gate in list(self.checker.tables["gates"].values()):
            if gate["run"] == run and gate["status"] == "open":
                policy = msgspec.json.decode(gate["policy"])
                if outcome == "revise" and gate["round"] >= policy.get("revise", {}).get("max_rounds", 0):
                    continue
                work = self.approvals.decide(gate["id"], outcome, UUID(int=self.rng.randint(50, 60)))
                try:
                    counts = await self.approvals.process.spawn(lambda work=work: work)
                except Unavailable:
                    continue
                if counts and outcome != "vote":
                    decided = self.checker.decided.get(gate["id"])
                    self.checker.expect(decided == outcome, f"gate {gate['id']}: {outcome} was acknowledged")
