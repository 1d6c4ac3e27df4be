"""A run in memory: plans from short descriptions, and a driver that folds what is decided."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from memory_store import Rows
from wfe_engine import commands as cmd
from wfe_engine.decide import Decision, decide
from wfe_engine.events import Event, decode_event, encode_event
from wfe_engine.evolve import fold
from wfe_engine.plan import Block, Expression, Literal, Node, Plan, Retry
from wfe_engine.state import ENDED, Fault, RunState, Step, decode_state, encode_state, shown_status
from wfe_engine.turn import Env
from wfe_engine.values import Values, record_key


def step(step_id: str, kind: str = "call", *, needs: tuple[str, ...] | None = None, **more: Any) -> dict[str, Any]:
    """One step of `plan`; needs the one before it unless told otherwise."""
    return {"id": step_id, "kind": kind, "needs": needs, **more}


def plan(*steps: dict[str, Any], output: Expression | None = None, **more: Any) -> Plan:
    """A plan of root steps."""
    names = [s["id"] for s in steps]
    needs = [
        tuple(names.index(n) for n in s["needs"]) if s["needs"] is not None else ((i - 1,) if i else ())
        for i, s in enumerate(steps)
    ]
    nodes = []
    for i, s in enumerate(steps):
        fields = {k: v for k, v in s.items() if k not in ("id", "kind", "needs")}
        fields.setdefault("params", Literal({"for": 5} if s["kind"] == "wait" else {"title": "Go?"}))
        fields.setdefault("retry", Retry(max_attempts=1))
        nodes.append(
            Node(
                id=s["id"],
                index=i,
                path=s["id"],
                kind=s["kind"],
                needs=needs[i],
                dependents=tuple(j for j, n in enumerate(needs) if i in n),
                **fields,
            )
        )
    roots = tuple(i for i, n in enumerate(needs) if not n)
    return Plan("test", (), Block(tuple(nodes), roots), output=output, **more)


class Run:
    """Drives `decide` the way a scheduler does, and checks after every command that the fold gives the state."""

    def __init__(self, the_plan: Plan, variables: dict[str, Any] | None = None, **env: Any) -> None:
        self.plan = the_plan
        self.state = RunState()
        self.now = 1000.0
        self.chance = 1.0
        self.log: list[tuple[Event, float]] = []
        self.variables = variables or {}
        self.values = Values(self.variables, {"id": "r"})
        self.rows = Rows()
        self.decisions: list[Decision] = []
        self.env = env
        self._ids = itertools.count(1)

    def do(self, command: cmd.Command) -> Decision:
        """Decide a command and take it in."""
        env = Env(
            now=self.now,
            chance=self.chance,
            new_id=self.new_id,
            values=self.values,
            evaluate=self.env.get("evaluate", lambda *_: pytest.fail("no CEL here")),
            snapshot_every=self.env.get("snapshot_every", 0),
        )
        decision = decide(self.plan, self.state, command, env)
        self.accept(decision)
        # As a scheduler does: of what is done again nothing is kept.
        for gone in decision.effects.revised:
            outer = record_key(gone.scope, gone.path.rpartition("/")[2])
            for key in [k for k in self.values.records if k == outer or k.startswith(gone.prefix)]:
                del self.values.records[key]
        self.values.records.update(decision.added)
        for no, (given, params) in decision.entered.items():
            self.values.record(no, given, params)
        self.values.signals.update(decision.signals)
        self.decisions.append(decision)
        if self.state.status in ENDED or any(e.rolled_back is not None for e in [decision.effects]):
            self.reload()
        return decision

    def accept(self, decision: Decision) -> None:
        """Take what was decided into the log, the state and the rows."""
        self.log += [(event, self.now) for event in decision.events]
        assert decision.state.seq == len(self.log)
        assert fold(self.log) == decision.state
        # What is stored is JSON; it must give the same back.
        stored = [(decode_event(event.TYPE, encode_event(event)), at) for event, at in self.log]
        assert fold(stored) == decision.state
        assert decode_state(encode_state(decision.state)) == decision.state
        self.state = decision.state
        self.rows.apply(decision.effects)

    def new_id(self) -> str:
        """A fresh UUID."""
        return f"00000000-0000-7000-8000-{next(self._ids):012d}"

    def reload(self) -> None:
        """Forget what is in memory and read the run back, as after a crash."""
        self.values = self.rows.values(self.variables, self.state)

    def start(self, at: float | None = None) -> Run:
        """Begin, now or at a moment."""
        self.do(cmd.Start(template="t", template_version=1, trigger="api", input={}, start_at=at))
        return self

    def live(self, path: str) -> Step:
        """A live step."""
        return next(s for _, _, s in self.state.steps() if s.path == path)

    def paths(self, status: str) -> list[str]:
        """Paths of live steps with a status."""
        return sorted(s.path for _, _, s in self.state.steps() if s.status == status)

    def report(self, path: str, output: bytes = b'{"ok":true}', **more: Any) -> Decision:
        """An executor reports success."""
        return self.do(cmd.Report(no=self.live(path).no, output=output, executor="x", fence=1, **more))

    def fail(self, path: str, code: str = "HANDLER_ERROR", **more: Any) -> Decision:
        """An executor reports a failure."""
        fault = Fault(code=code, message="it broke")
        return self.do(cmd.Report(no=self.live(path).no, fault=fault, executor="x", fence=1, **more))

    def gate(self, path: str, outcome: str = "approve", **more: Any) -> Decision:
        """Somebody decides the open gate of a step."""
        gate = self.live(path).gate
        assert gate is not None
        return self.do(cmd.GateClosed(gate=gate, outcome=outcome, decided_by="p", **more))

    @property
    def status(self) -> str:
        """What people see."""
        return shown_status(self.state)

    @property
    def types(self) -> list[str]:
        """Types of the whole log."""
        return [event.TYPE for event, _ in self.log]

    def done(self, step_id: str) -> bool:
        """Whether a step has completed."""
        record = self.values.records.get(record_key("", step_id))
        return record is not None and record.status == "completed"
