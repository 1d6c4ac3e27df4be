"""Random plans of every kind, and a random life for their runs."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from msgspec.structs import replace
from wfe_engine import commands as cmd
from wfe_engine.approved import approved_step
from wfe_engine.digests import approval_digest
from wfe_engine.errors import NotFound, StateConflict
from wfe_engine.events import NOTED
from wfe_engine.kinds.waiting import callback_name
from wfe_engine.plan import Block, Clocks, Literal, Node, Path, Plan, Retry
from wfe_engine.rewind import container_key, kept_steps
from wfe_engine.state import ENDED, READY, WAITING, Fault, RunState, Step, decode_state
from wfe_engine.turn import Env, Turn

#: What steps with runs of their own start.
TEMPLATE = "00000000-0000-0000-0000-000000000063"
CODES = ("HANDLER_ERROR", "HTTP_STATUS", "ATTEMPT_TIMEOUT")
LEAVES = (
    "call",
    "call",
    "call",
    "http",
    "set",
    "wait",
    "approval",
    "checkpoint",
    "fail",
    "emit",
    "wait_for",
    "workflow",
)
CONTAINERS = ("parallel", "switch", "foreach", "loop", "try")


def random_plan(rng: random.Random) -> Plan:
    """A plan of up to three levels."""
    triggers = frozenset(t for t in ("failure", "cancel", "rollback") if rng.random() < 0.5)
    root, total = _block(rng, "", 0, 3), rng.choice((None, None, 500.0, 60.0))
    return Plan("random", (), root, total=total, compensate_on=triggers)


def _block(rng: random.Random, prefix: str, level: int, most: int, **more: Any) -> Block:
    count = rng.randint(1, most)
    needs = [tuple(sorted(rng.sample(range(i), rng.randint(0, min(i, 2))))) for i in range(count)]
    nodes = []
    for i in range(count):
        kind = rng.choice(CONTAINERS) if level < 3 and rng.random() < 0.35 else rng.choice(LEAVES)
        id_ = f"s{level}{i}"
        params, blocks = _filling(rng, kind, f"{prefix}{id_}/", level)
        approved_by = -1
        if kind == "approval":
            params = _gate(rng, [f"s{level}{j}" for j in _leads_to(needs, i)])
        elif kind in ("call", "http"):
            # A gate approves at most one step.
            asked = [j for j in needs[i] if nodes[j].kind == "approval" and all(n.approved_by != j for n in nodes)]
            approved_by = rng.choice([-1, *asked, *asked])
        dependents = tuple(j for j in range(count) if i in needs[j])
        condition = Literal(rng.random() < 0.5) if rng.random() < 0.15 else None
        clocks = Clocks()
        if kind in ("call", "http") and rng.random() < 0.2:
            clocks = rng.choice((Clocks(queue=5.0), Clocks(total=30.0)))
        undo = None
        if kind not in CONTAINERS and rng.random() < 0.15:
            undo = Node(id=id_, index=i, path=f"{prefix}{id_}~", kind="call", params=Literal({}))
        nodes.append(
            Node(
                id=id_, index=i, path=f"{prefix}{id_}", kind=kind, params=params, needs=needs[i],
                dependents=dependents, condition=condition, retry=Retry(max_attempts=rng.randint(1, 2)),
                blocks=blocks, compensate=undo, approved_by=approved_by, clocks=clocks,
            )
        )  # fmt: skip
    roots = tuple(i for i in range(count) if not needs[i])
    return Block(tuple(nodes), roots, result=count - 1, **more)


def _leads_to(needs: list[tuple[int, ...]], index: int) -> list[int]:
    """Indexes of the steps that come before one in its block."""
    found: set[int] = set()
    for before in needs[index]:
        found |= {before, *_leads_to(needs, before)}
    return sorted(found)


def _gate(rng: random.Random, before: list[str]) -> Any:
    """What a gate asks, with a policy of every kind."""
    params: dict[str, Any] = {"title": "Go?", "policy": {"blocks": [{"count": 2}]}}
    if rng.random() < 0.4:
        params |= {"expires_after": 30, "on_expiry": rng.choice(("approve", "reject", "fail", "branch"))}
        params["agenda"] = [[10, "remind", 0], [20, "escalate", 1], [25, "expire", 0]]
    if rng.random() < 0.3:
        params["opens_after"] = 5
    if rng.random() < 0.3:
        params["payload"] = {"n": 1}
    if before and rng.random() < 0.6:
        params["policy"]["revise"] = {"step": rng.choice(before), "max_rounds": 3}
    return Literal(params)


def _filling(rng: random.Random, kind: str, prefix: str, level: int) -> tuple[Any, tuple[Block, ...]]:
    def inner(name: str = "", most: int = 2, **more: Any) -> Block:
        return _block(rng, f"{prefix}{name}/" if name else prefix, level + 1, most, name=name, **more)

    match kind:
        case "wait":
            return Literal({"for": rng.randint(0, 20)}), ()
        case "fail":
            return Literal({"code": rng.choice(CODES), "message": "no"}), ()
        case "wait_for":
            more = rng.choice(({}, {"after": 30}, {"after": 30, "then": "complete"}, {"after": 30, "heartbeat": 10}))
            callback = {"callback": prefix.strip("/").replace("/", "-")}
            names = rng.choice(({"signals": ["a", "b"]}, callback, {"signals": ["b"], **callback}))
            return Literal({**names, **more}), ()
        case "workflow":
            return Literal({"template": TEMPLATE, "version": 1, "input": {}}), ()
        case "checkpoint":
            return Literal({"name": "here"}), ()
        case "emit":
            return Literal({"name": "note", "data": 1}), ()
        case "approval":
            return Literal({}), ()
        case "parallel":
            policy = rng.choice(("stop", "collect"))
            return Literal({"on_failure": policy}), tuple(inner(f"b{i}") for i in range(rng.randint(1, 3)))
        case "switch":
            cases = [inner(f"c{i}", role="case", condition=Literal(rng.random() < 0.5)) for i in range(2)]
            return Literal({}), (*cases, inner("else", role="else")) if rng.random() < 0.5 else tuple(cases)
        case "foreach":
            policy = rng.choice(("stop", "collect", {"tolerate": 1}, {"percent": 50}))
            items = list(range(rng.randint(0, 4)))
            params = {"items": items, "concurrency": rng.randint(1, 3), "on_failure": policy}
            return Literal(params), (inner(),)
        case "loop":
            params = {"max": rng.randint(1, 3), "on_max": rng.choice(("fail", "complete"))}
            role = rng.choice(("while", "until"))
            # Until with false, or while with true, goes on to the cap.
            return Literal(params), (inner(role=role, condition=Literal((role == "while") != (rng.random() < 0.3))),)
        case "try":
            blocks = [inner("body", role="body")]
            if rng.random() < 0.7:
                codes = rng.choice((None, ("HANDLER_ERROR",), ("H*",)))
                blocks.append(inner("catch", role="catch", codes=codes))
            if rng.random() < 0.5 or len(blocks) == 1:
                blocks.append(inner("finally", role="finally"))
            return Literal({}), tuple(blocks)
    return Literal({"x": 1}) if rng.random() < 0.5 else Path("run", ("id",), "run.id"), ()


class Life:
    """Drives a run with random commands, then fairly to its end."""

    def __init__(self, run: Any, rng: random.Random) -> None:
        self.run = run
        self.rng = rng
        self.snapshots: list[tuple[int, RunState]] = []

    def do(self, command: cmd.Command) -> None:
        """Decide a command; a refusal changes nothing."""
        before = self.run.state
        try:
            decision = self.run.do(command)
        except (StateConflict, NotFound):
            assert self.run.state == before
            return
        if decision.effects.rolled_back is not None:
            self.snapshots = [found for found in self.snapshots if found[0] <= decision.effects.rolled_back]
        self.snapshots += [(s.seq, decode_state(s.state)) for s in decision.effects.snapshots]

    def step(self) -> None:
        """One random thing."""
        self.run.now += self.rng.random() * 10
        chance = self.rng.random()
        state = self.run.state
        if chance < 0.06:
            self.do(self.rng.choice((cmd.Pause(), cmd.Resume(), cmd.Resume())))
        elif chance < 0.09:
            self.do(cmd.Cancel(hard=self.rng.random() < 0.4))
        elif chance < 0.16:
            self.mend()
        elif chance < 0.19:
            self.do(cmd.TakeSnapshot(snapshot=self.run.new_id()))
        elif chance < 0.23 and self.snapshots:
            self.roll_back(*self.rng.choice(self.snapshots))
        elif chance < 0.28:
            self.run.reload()
        elif chance < 0.32:
            self.signal(self.rng.choice(("a", "b")))
        elif chance < 0.34:
            self.alive()
        elif state.status not in ENDED:
            self.progress(failing=0.3)

    def mend(self) -> None:
        """Retry, sometimes with another input or a step settled by hand."""
        steps = [step for _, _, step in self.run.state.steps() if step.kind not in CONTAINERS]
        if steps and self.rng.random() < 0.3:
            output = self.rng.choice((None, b'{"by":"hand"}'))
            self.do(cmd.SettleStep(no=self.rng.choice(steps).no, output=output))
            return
        edits = {step.no: b'{"edited":1}' for step in steps if step.kind == "call" and self.rng.random() < 0.2}
        self.do(cmd.Retry(edits=edits))

    def signal(self, name: str) -> None:
        """A signal, or an answer to a callback."""
        failed = name.startswith("callback:") and self.rng.random() < 0.2
        self.do(cmd.Signal(signal=self.run.new_id(), name=name, payload=b"{}", failed=failed))

    def alive(self) -> None:
        """The other side of some callback is heard of."""
        for _, _, step in self.run.state.steps():
            given = self.run.rows.steps[step.no]["input"] if step.kind == "wait_for" else b"{}"
            if step.status == WAITING and "callback" in (params := msgspec.json.decode(given)):
                name = callback_name(params["callback"], self.run.rows.steps[step.no]["iteration"])
                self.do(cmd.Alive(name=name, progress=b"1"))
                return

    def answer(self, step: Step, failing: float) -> None:
        """What a waiting step waits for happens."""
        if step.child is not None:
            fault = Fault(code="CHILD_FAILED", message="no") if self.rng.random() < failing else None
            self.do(cmd.ChildEnded(no=step.no, child=step.child, output=b"1", fault=fault))
            return
        row = self.run.rows.steps[step.no]
        params = msgspec.json.decode(row["input"])
        self.signal(
            params["signals"][0] if "signals" in params else callback_name(params["callback"], row["iteration"])
        )

    def roll_back(self, seq: int, state: RunState) -> None:
        """Back to a snapshot, with the inputs its steps with blocks have on record."""
        inputs = {
            container_key(scope, index): self.run.rows.steps[step.no]["input"]
            for scope, index, step in kept_steps(state.scopes)
        }
        records, asked = self.run.rows.records_at(seq, state.scopes), self.run.rows.asked()
        self.do(
            cmd.Rollback(
                snapshot="s", seq=seq, scopes=state.scopes, inputs=inputs, undo=state.undo, records=records, asked=asked
            )
        )

    def progress(self, failing: float) -> bool:
        """Something the run waits for happens; False when it waits for nothing."""
        rows, state = self.run.rows, self.run.state
        ready = [step for _, _, step in state.steps() if step.status == READY]
        gates = [step for _, _, step in state.steps() if step.gate is not None and step.status not in ENDED]
        waiting = [step for _, _, step in state.steps() if step.status == WAITING and step.kind != "wait"]
        choices = [("told", step) for step in waiting] + [("report", step) for step in ready]
        choices += [("gate", step) for step in gates] + [("timer", number) for number in rows.timers]
        if not choices:
            return False
        what, step = self.rng.choice(choices)
        if what == "report" and self.rng.random() < failing * 0.2:
            clock = Fault(code=self.rng.choice(("QUEUE_TIMEOUT", "LEASES_LOST")), message="too long")
            self.do(cmd.ClockRanOut(no=step.no, fence=1, fault=clock))
        elif what == "report":
            fails = self.rng.random() < failing
            fault = Fault(code=self.rng.choice(CODES), message="it broke") if fails else None
            output = None if fails else b'{"ok":true}'
            self.do(cmd.Report(no=step.no, output=output, fault=fault, executor="x"))
        elif what == "told":
            self.answer(step, failing)
        elif what == "gate":
            self.close(step, failing)
        else:
            self.run.now = max(self.run.now, rows.timers[step])
            self.do(cmd.TimerDue(no=step, due=rows.timers[step]))
        return True

    def close(self, step: Step, failing: float) -> None:
        """A gate is decided, by people or by its deadline, or lives on for a while."""
        notes = self.notes(step)
        if self.rng.random() < failing:
            self.do(cmd.GateNotes(gate=step.gate, notes=notes))
            if self.rng.random() < 0.2:  # told once more
                self.do(cmd.GateNotes(gate=step.gate, notes=notes))
            return
        params = msgspec.json.decode(self.run.rows.steps[step.no]["input"])
        said: dict[str, Any] = {"outcome": "approve", "notes": notes}
        if self.rng.random() < failing:
            said["outcome"] = self.rng.choice(("reject", "branch"))
            if said["outcome"] == "branch":
                said["branch"] = "other"
        elif "on_expiry" in params and self.rng.random() < 0.3:
            said |= {"outcome": params["on_expiry"], "expired": True, "via": "expiry"}
        elif "revise" in params["policy"] and self.rng.random() < failing + 0.1:
            said |= {"outcome": "revise", "comment": "again"}
        elif self.rng.random() < 0.3:
            said |= self.edited(step, exact=self.rng.random() > failing)
        elif self.rng.random() < 0.2:
            said |= {"via": self.rng.choice(("bypass", "link")), "decided_by": "p", "form": b'{"a":1}'}
        self.run.rows.gates[step.gate]["status"] = said["outcome"]
        self.do(cmd.GateClosed(gate=step.gate, **said))

    def notes(self, step: Step) -> tuple[cmd.Note, ...]:
        """What happened at a gate meanwhile; some of it the run knows already."""
        first = max(1, step.noted + self.rng.choice((0, 1, 1)))
        kinds = [self.rng.choice(list(NOTED)) for _ in range(self.rng.randint(0, 3))]
        return tuple(cmd.Note(n=n, type=kind, by="principal:p", at=self.run.now) for n, kind in enumerate(kinds, first))

    def edited(self, step: Step, *, exact: bool) -> dict[str, Any]:
        """Another payload with the digest of what it is for, or with one of something else."""
        turn = Turn(
            self.run.plan,
            self.run.state,
            Env(now=0.0, chance=0.0, new_id=str, values=self.run.values, evaluate=lambda *_: None),
        )
        ((scope, index),) = [found[:2] for found in self.run.state.steps() if found[2].no == step.no]
        node = turn.node(scope, index)
        target = approved_step(turn.block(scope), node)
        path, kind = (node.path, "approval") if target is None else (target.path, target.kind)
        payload = {"n": 2}
        digest = approval_digest("r", path, self.run.rows.steps[step.no]["iteration"], kind, payload)
        return {"payload": msgspec.json.encode(payload), "digest": digest if exact else "0" * 64}

    def finish(self) -> None:
        """No more faults: the run must end, and nothing may be left of it."""
        if self.run.state.paused_at is not None:
            self.do(cmd.Resume())
        for _ in range(3000):
            if self.run.state.status in ENDED:
                break
            assert self.progress(failing=0.0), "the run waits for nothing and has not ended"
        assert self.run.state.status in ENDED
        assert not self.run.rows.dispatch
        assert not self.run.rows.timers
        assert "open" not in {gate["status"] for gate in self.run.rows.gates.values()}
        settled = {"completed", "failed", "skipped", "cancelled", "rolled_back"}
        assert {row["status"] for row in self.run.rows.steps.values()} <= settled


def replaced(plan: Plan, **changes: Any) -> Plan:
    """A plan with other fields."""
    return replace(plan, **changes)
