"""What follows from an answer to a gate: from the template's graph and what the run has recorded. Nothing runs."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import wfe_language
from wfe_engine.approved import approved_step, to_do_again
from wfe_engine.plan import CONTAINERS, Block, Cel, Node, Plan
from wfe_engine.scopes import place
from wfe_engine.turn import Env, Turn
from wfe_engine.values import SEALED, Deferred, ExpressionFault, Values
from wfe_store.gates import Gate
from wfe_store.load import LoadedRun, load_runs
from wfe_store.pool import Database
from wfe_store.templates import Templates

#: Compiled plans kept.
PLANS = 200
MOST_STEPS = 200
#: Methods that change nothing on the other side.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """A step that can follow.

    Attributes:
        effect: none, read, change or unknown.
        target: What it is done to; empty when that is not known.
        undo: Whether it can be taken back: nothing_to_undo; yes, by its compensation; no or unknown.
        certain: yes or maybe.
    """

    path: str
    kind: str
    effect: str
    target: str
    undo: str
    certain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What follows from one answer.

    Attributes:
        answer: approve, reject, revise or expire.
        outcome: Of a rejection or an expiry: what it means.
        run: continues, fails or goes_back.
        steps: That can follow before another gate.
        gates: Paths of those gates.
    """

    answer: str
    outcome: str
    run: str
    steps: tuple[Following, ...]
    gates: tuple[str, ...]


class Previews:
    """Previews of gates."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._templates = Templates(database)
        self._plans: OrderedDict[tuple[UUID, int], Plan] = OrderedDict()

    async def of(self, owner_id: UUID, gate: Gate) -> list[Answer]:
        """What follows from each answer to an open gate; none for one that is closed."""
        async with self._database.connection() as connection:
            run = (await load_runs(connection, [gate.run_id])).get(gate.run_id)
        found = None if run is None else run.state.find(gate.no)
        if run is None or found is None or found[2].gate != str(gate.id):
            return []
        plan = await self._plan(owner_id, run)
        return _Walk(plan, run, gate, found[0], found[1]).answers()

    async def _plan(self, owner_id: UUID, run: LoadedRun) -> Plan:
        key = (run.template, run.template_version)
        plan = self._plans.get(key)
        if plan is None:
            resolved = await self._templates.resolve(owner_id, *key)
            # Compiling a large template takes tens of milliseconds; the loop has other things to do.
            plan = self._plans[key] = await asyncio.to_thread(wfe_language.compile, resolved.source)
            while len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        return plan


class _Walk:
    """One gate's surroundings."""

    def __init__(self, plan: Plan, run: LoadedRun, gate: Gate, scope: str, index: int) -> None:
        facts = {"id": str(run.run), "created_by": str(run.created_by), "labels": run.labels, "epoch": run.state.epoch}
        values = Values(run.input, facts, run.records, run.inputs, run.gates)
        env = Env(now=0.0, chance=0.0, new_id=lambda: "", values=values, evaluate=_not_here)
        self._turn = Turn(plan, run.state, env)
        self._gate = gate
        self._scope = scope
        self._node = self._turn.node(scope, index)

    def answers(self) -> list[Answer]:
        gate = self._gate
        approved = self._continues("approve", "", approved=True)
        found = [approved]
        for outcome in gate.policy.reject_outcomes:
            if outcome == "fail":
                found.append(self._fails("reject", outcome))
            elif outcome != "revise":
                found.append(self._continues("reject", outcome, approved=False))
        if gate.policy.max_rounds > gate.round:
            found.append(self._goes_back())
        if gate.expires_at is not None:
            if gate.on_expiry in ("approve", "branch"):
                found.append(self._continues("expire", gate.on_expiry, approved=gate.on_expiry == "approve"))
            else:
                found.append(self._fails("expire", gate.on_expiry))
        return found

    def _fails(self, answer: str, outcome: str) -> Answer:
        """The failure goes up; a try around it may take it, and a finally runs in any case.

        If nothing takes it, what the run has done is taken back where the template says so, last done first.
        """
        steps: list[Following] = []
        caught = False
        scope = self._scope
        while scope and not caught:
            parent, index, block, _ = place(scope)
            node = self._turn.node(parent, index)
            if node.kind == "try":
                role = node.blocks[block].role
                for other in node.blocks:
                    takes = other.role == "catch" and role == "body"
                    if takes or other.role == "finally":
                        steps += self._inside(other, "maybe")
                    caught |= takes
            scope = parent
        if not caught and "failure" in self._turn.plan.compensate_on:
            undone = [undo for undo in reversed(self._turn.state.undo) if undo.fault is None]
            steps += [self._step(self._turn.undoing(undo.no)[0], "yes", undo.scope) for undo in undone]
        return Answer(
            answer=answer, outcome=outcome, run="continues" if caught else "fails", steps=tuple(steps), gates=()
        )

    def _goes_back(self) -> Answer:
        block = self._turn.block(self._scope)
        policy = msgspec.json.decode(self._turn.env.values.inputs[self._gate.no])["policy"]
        steps = [
            self._step(block.nodes[index], "yes", self._scope)
            for index in to_do_again(block, self._node, policy["revise"]["step"])
        ]
        return Answer(
            answer="revise", outcome="revise", run="goes_back", steps=tuple(steps), gates=(self._node.path,)
        )  # fmt: skip

    def _continues(self, answer: str, outcome: str, *, approved: bool) -> Answer:
        steps: list[Following] = []
        gates: list[str] = []
        scope, index = self._scope, self._node.index
        skipped = None if approved else approved_step(self._turn.block(scope), self._node)
        while True:
            block = self._turn.block(scope)
            self._after(block, index, scope, skipped, steps, gates)
            if not scope or gates:
                break
            scope, index = place(scope)[:2]
        return Answer(
            answer=answer, outcome=outcome, run="continues", steps=tuple(steps[:MOST_STEPS]), gates=tuple(gates)
        )

    def _after(
        self, block: Block, index: int, scope: str, skipped: Node | None, steps: list[Following], gates: list[str]
    ) -> None:
        seen: set[int] = set()
        waiting = list(block.nodes[index].dependents)
        while waiting:
            at = waiting.pop(0)
            if at in seen or len(steps) >= MOST_STEPS:
                continue
            seen.add(at)
            node = block.nodes[at]
            if node.kind == "approval":
                gates.append(node.path)
                continue
            if skipped is None or node.index != skipped.index or scope != self._scope:
                steps.append(self._step(node, "maybe" if node.condition is not None else "yes", scope))
                for inner in node.blocks:
                    steps += self._inside(inner, "maybe")
                gates += [one.path for inner in node.blocks for one in _all(inner) if one.kind == "approval"]
            waiting += node.dependents

    def _inside(self, block: Block, certain: str) -> list[Following]:
        return [self._step(node, certain, None) for node in _all(block) if node.kind != "approval"]

    def _step(self, node: Node, certain: str, scope: str | None) -> Following:
        params = self._params(node, scope)
        effect, target = _effect(node, params)
        undo = {"none": "nothing_to_undo", "read": "nothing_to_undo", "change": "no"}.get(effect, "unknown")
        if node.compensate is not None and self._turn.plan.compensate_on:
            undo = "yes"
        return Following(path=node.path, kind=node.kind, effect=effect, target=target, undo=undo, certain=certain)

    def _params(self, node: Node, scope: str | None) -> Any:
        """What a step will work with; an empty object when that is not known yet."""
        target = approved_step(self._turn.block(self._scope), self._node) if scope == self._scope else None
        if target is not None and target.index == node.index:
            return msgspec.json.decode(self._gate.present or "null")
        fixed = dict(getattr(node.params, "items", ())) if hasattr(node.params, "items") else {}
        try:
            return self._turn.render(node.params, scope or "")
        except (ExpressionFault, Deferred, KeyError, AssertionError):
            found = {}
            for key, expression in fixed.items():
                try:
                    found[key] = self._turn.render(expression, scope or "")
                except (ExpressionFault, Deferred, KeyError, AssertionError):
                    continue
            return found


def _all(block: Block) -> Iterable[Node]:
    for node in block.nodes:
        yield node
        for inner in node.blocks:
            yield from _all(inner)


def _effect(node: Node, params: Any) -> tuple[str, str]:
    params = params if isinstance(params, dict) else {}
    if node.kind == "http":
        method, url = str(params.get("method", "")), params.get("url")
        shown = url if isinstance(url, str) else "[sealed]" if isinstance(url, dict) and SEALED in url else ""
        effect = "unknown" if not method else "read" if method in _SAFE else "change"
        return effect, f"{method} {shown}".strip() if shown else method
    if node.kind == "call":
        return "unknown", str(params.get("handler", ""))
    if node.kind in CONTAINERS or node.kind in ("wait", "set", "checkpoint", "fail", "emit"):
        return "none", ""
    return "unknown", ""


def _not_here(expression: Cel, bindings: dict[str, Any]) -> Any:
    raise Deferred(expression, bindings)
