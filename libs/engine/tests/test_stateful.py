"""A run of a random plan decided by several schedulers over a store that loses, refuses and doubts their commits.

Every scheduler decides on what it has in memory, which may be old; a commit stands on the run's version and on the
fence of what it reports. Messages come twice and late. Whatever the order, the fold of the events is the state (the
driver checks it with every commit), a command happens once, and the run ends when nothing goes wrong any more.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from memory_run import Run
from msgspec.structs import replace
from random_runs import Life, random_plan
from wfe_engine import commands as cmd
from wfe_engine.decide import Decision, decide
from wfe_engine.errors import NotFound, StateConflict
from wfe_engine.state import ENDED, RunState
from wfe_engine.turn import Env
from wfe_engine.values import Values

SCHEDULERS = 3
#: What becomes of a commit: done; not done and refused; its answer lost before it was done, or after.
OUTCOMES = ("done", "done", "refused", "lost before", "lost after")
#: What the store says again when nobody has taken it in, or a bus delivers twice.
REPEATED = (cmd.Report, cmd.TimerDue, cmd.ClockRanOut, cmd.GateNotes, cmd.GateClosed)


class Stored(Run):
    """A run in a store with a version, and what each scheduler has of it in memory."""

    def __init__(self, plan: Any) -> None:
        super().__init__(plan)
        self.version = 0
        self.fences: dict[int, int] = {}
        self.memory: dict[int, tuple[int, RunState, Values]] = {}
        self.scheduler = 0
        self.outcomes: list[str] = []
        self.sent: list[cmd.Command] = []
        self.taken: set[tuple[int, int]] = set()

    def do(self, command: cmd.Command) -> Decision:
        """Send a command to the present scheduler, which tries until it knows what became of it."""
        if isinstance(command, cmd.Report | cmd.ClockRanOut):
            command = replace(command, fence=self.fences[command.no])
        if isinstance(command, REPEATED):
            self.sent.append(command)
        return self.take(command)

    def take(self, command: cmd.Command) -> Decision:
        """A scheduler takes a command: decides it, commits it, and looks into the log where it has to."""
        tried: list[Decision] = []
        while True:
            if tried and self._happened(tried[-1]):
                return tried[-1]
            version, state, values = self._in_memory()
            env = Env(
                now=self.now, chance=self.chance, new_id=self.new_id, values=values,
                evaluate=lambda *_: pytest.fail("no CEL here"),
            )  # fmt: skip
            try:
                decision = decide(self.plan, state, command, env)
            except (StateConflict, NotFound):
                if version == self.version:
                    raise
                self.memory.pop(self.scheduler)  # refused on what was old; it is looked at again
                continue
            outcome = self.outcomes.pop(0) if self.outcomes else "done"
            stands = version == self.version and self._is_held(command)
            if not stands or outcome in ("refused", "lost before"):
                self.memory.pop(self.scheduler)
                if not self._is_held(command):
                    return decision  # of an outcome under another fence nothing is taken
                tried += [decision] if outcome == "lost before" else []
                continue
            if isinstance(command, cmd.Report | cmd.ClockRanOut) and decision.events:
                assert (command.no, command.fence) not in self.taken, "two outcomes under one fence"
                self.taken.add((command.no, command.fence))
            self._commit(decision)
            if outcome == "lost after":
                self.memory.pop(self.scheduler, None)
                tried.append(decision)
                continue
            return decision

    def _in_memory(self) -> tuple[int, RunState, Values]:
        if self.scheduler not in self.memory:
            values = self.rows.values(self.variables, self.state) if self.log else Values({}, {"id": "r"})
            self.memory[self.scheduler] = self.version, self.state, values
        version, state, values = self.memory[self.scheduler]
        return version, state, copy.deepcopy(values)  # a decision that fails leaves no trace

    def _is_held(self, command: cmd.Command) -> bool:
        if not isinstance(command, cmd.Report | cmd.ClockRanOut):
            return True
        return command.no in self.rows.dispatch and self.fences[command.no] == command.fence

    def _happened(self, decision: Decision) -> bool:
        """Whether a doubtful decision is in the log; ids and numbers make its events its own."""
        first = len(self.log) - len(decision.events)
        events = [event for event, _ in self.log[max(0, first) :]]
        return bool(decision.events) and events == decision.events

    def _commit(self, decision: Decision) -> None:
        before = set(self.rows.dispatch)
        self.accept(decision)
        self.version += 1
        effects = decision.effects
        moved = [row.no for row in (*effects.dispatches, *effects.redispatches, *effects.again)]
        for no in moved:
            assert self.fences.get(no, -1) < self.version
            self.fences[no] = self.version
        assert set(self.rows.dispatch) - before <= set(moved)
        if decision.state.status in ENDED or effects.rolled_back is not None or effects.revised:
            self.memory.pop(self.scheduler, None)
        else:
            values = self.rows.values(self.variables, self.state)
            self.memory[self.scheduler] = self.version, self.state, values


class Schedulers(RuleBasedStateMachine):
    """What hypothesis does to a run."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.run = Stored(random_plan(random.Random(seed)))
        self.life = Life(self.run, random.Random(seed))
        self.run.start()
        self.life.snapshots.clear()

    @rule(scheduler=st.integers(0, SCHEDULERS - 1), outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=3),
          seed=st.integers(0, 2**16))  # fmt: skip
    def something_happens(self, scheduler: int, outcomes: list[str], seed: int) -> None:
        self.run.scheduler, self.run.outcomes = scheduler, list(outcomes)
        self.life.rng = random.Random(seed)
        self.life.step()

    @precondition(lambda self: self.run.sent)
    @rule(scheduler=st.integers(0, SCHEDULERS - 1), which=st.integers(0, 1000))
    def a_message_comes_again(self, scheduler: int, which: int) -> None:
        command = self.run.sent[which % len(self.run.sent)]
        self.run.scheduler, self.run.outcomes = scheduler, []
        before = self.run.state
        try:
            self.run.take(command)
        except (StateConflict, NotFound):
            assert self.run.state == before

    @rule(seconds=st.sampled_from([-30.0, -1.0, 1.0, 30.0]))
    def the_clock_jumps(self, seconds: float) -> None:
        self.run.now += seconds

    @rule(scheduler=st.integers(0, SCHEDULERS - 1))
    def a_scheduler_dies(self, scheduler: int) -> None:
        self.run.memory.pop(scheduler, None)

    @invariant()
    def rows_are_those_the_state_speaks_of(self) -> None:
        if not hasattr(self, "run"):
            return
        state, rows = self.run.state, self.run.rows
        assert {step.no for _, _, step in state.steps() if step.status == "ready"} == set(rows.dispatch)
        if state.paused_at is None:
            due = {step.no for _, _, step in state.steps() if step.status == "waiting" and step.due is not None}
            assert due <= set(rows.timers)

    def teardown(self) -> None:
        if hasattr(self, "run"):
            self.run.outcomes, self.life.rng = [], random.Random(1)
            self.life.finish()


Schedulers.TestCase.settings = settings(
    max_examples=400, stateful_step_count=40, deadline=None, derandomize=True, print_blob=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
TestSchedulers = Schedulers.TestCase
