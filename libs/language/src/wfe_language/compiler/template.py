"""Reads a whole template: its top level, its steps and the order between them."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wfe_engine import plan

from wfe_language.compiler.agent_steps import agent_block, read_agent
from wfe_language.compiler.approved import bind, check_expiries, check_revisions, revises
from wfe_language.compiler.blocks import Either
from wfe_language.compiler.clocks import read_clocks, read_retry
from wfe_language.compiler.declarations import NAME, NAME_RULE, RESERVED, read_variables
from wfe_language.compiler.graph import Order, order
from wfe_language.compiler.kinds import KINDS, TEMPLATE_NAME, TEMPLATE_RULE
from wfe_language.compiler.reading import Missing, Reading
from wfe_language.compiler.references import ids_around
from wfe_language.compiler.step_kinds import kind_of
from wfe_language.compiler.structure import STRUCTURES
from wfe_language.compiler.types import Types
from wfe_language.compiler.values import Scope, Values
from wfe_language.faults import Where, choices, suggest
from wfe_language.loader import Positions

#: Steps of a template, those inside of others included.
MOST_STEPS = 1000
#: Steps that hold steps, in each other.
MOST_NESTING = 16

QUEUE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)

_TOP = ("name", "description", "variables", "defaults", "timeout", "priority", "compensate", "steps", "output")
_TRIGGERS = ("failure", "cancel", "rollback")
_WORK_ONLY = ("retry", "timeout", "queue")
_INSTEAD = {
    ("approval", "timeout"): "Use expires: {after: 24h, then: reject} in the approval.",
    ("wait", "timeout"): "The wait's own span says how long it takes.",
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What steps take over when they do not say it themselves."""

    retry: plan.Retry = field(default_factory=plan.Retry)
    clocks: plan.Clocks = field(default_factory=plan.Clocks)
    queue: str = "default"


@dataclass(frozen=True, slots=True)
class _Before:
    """Ids of the steps that have surely ended before a step: a bit set over its block, and those around it."""

    position: dict[str, int]
    bits: int
    outer: Container[str]

    def __contains__(self, id_: object) -> bool:
        at = self.position.get(id_) if isinstance(id_, str) else None
        return (at is not None and bool(self.bits >> at & 1)) or id_ in self.outer


def _is_approved(step: Any) -> bool:
    return isinstance(step, dict) and isinstance(step.get("approved_by"), str)


class TemplateReader:
    """Reads one document; `reading.faults` has what is wrong with it afterwards."""

    def __init__(
        self,
        positions: Positions,
        handlers: Collection[str] | None = None,
        templates: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        self.reading = Reading(positions, handlers, templates)
        self.values = Values(self.reading)
        self._steps = 0
        self._nesting = 0
        self._defaults = Defaults()

    def template(self, document: Any) -> plan.Plan:
        """The plan; to be used only when there are no faults."""
        reading = self.reading
        given = reading.object(document, (), _TOP, required=("name", "steps"), mend="Write `name:` and `steps:`.")
        name = reading.optional(
            given, (), "name", lambda v, w: reading.name(v, w, "The template's name", TEMPLATE_NAME, TEMPLATE_RULE)
        )
        reading.optional(given, (), "description", lambda v, w: reading.text(v, w, "Describe the template.", most=4000))
        variables = reading.optional(given, (), "variables", lambda v, w: read_variables(reading, v, w))
        declared = () if isinstance(variables, Missing) else variables
        self._defaults = self._read_defaults(given)
        total = reading.optional(given, (), "timeout", reading.span)
        priority = reading.optional(given, (), "priority", lambda v, w: reading.integer(v, w, -100, 100))
        triggers = reading.optional(given, (), "compensate", self._triggers)
        by_name = {variable.name: variable for variable in declared}
        scope = Scope(by_name, frozenset(), frozenset(), types=Types.of_variables(by_name))
        self.values.around = functools.cache(lambda: ids_around(given.get("steps")))
        root, ended = plan.Block((), ()), scope
        if "steps" in given:
            root, ended = self.inner(given["steps"], ("steps",), scope, "")
            check_expiries(reading, root)
        for unknown, where, place in reading.callback_uses:
            if unknown not in reading.callbacks:
                otherwise = f"Wait for it: wait_for: {{callback: {unknown[:60]}}}."
                mend = suggest(unknown, reading.callbacks, otherwise)
                reading.fault(where, f"No step waits for a callback {unknown[:60]}.", mend, place=place)
        output = None
        if "output" in given:
            output = self.values.value(given["output"], ("output",), ended.at("in the output"))
        return plan.Plan(
            name=name if isinstance(name, str) else "",
            variables=declared,
            root=root,
            output=output,
            total=None if isinstance(total, Missing) else total,
            priority=0 if isinstance(priority, Missing) else priority,
            compensate_on=frozenset(_TRIGGERS) if isinstance(triggers, Missing) else triggers,
        )

    def _triggers(self, value: Any, where: Where) -> frozenset[str]:
        mend = "Write when what was done is taken back: [failure, cancel, rollback]."
        words = self.reading.list(value, where, mend)
        read = [self.reading.choice(word, (*where, at), _TRIGGERS) for at, word in enumerate(words)]
        return frozenset(word for word in read if isinstance(word, str))

    def _read_defaults(self, given: dict[str, Any]) -> Defaults:
        if "defaults" not in given:
            return Defaults()
        where: Where = ("defaults",)
        reading, base = self.reading, Defaults()
        value = reading.object(given["defaults"], where, ("timeout", "retry", "queue"))
        retry = reading.optional(value, where, "retry", lambda v, w: read_retry(reading, v, w, base.retry))
        clocks = reading.optional(value, where, "timeout", lambda v, w: read_clocks(reading, v, w, base.clocks))
        queue = reading.optional(value, where, "queue", self._queue)
        return Defaults(
            base.retry if isinstance(retry, Missing) else retry,
            base.clocks if isinstance(clocks, Missing) else clocks,
            base.queue if isinstance(queue, Missing) else queue,
        )

    def _queue(self, value: Any, where: Where) -> str | Missing:
        return self.reading.name(value, where, "The queue", QUEUE, "Use a-z, 0-9 and -, at most 63 characters.")

    def inner(self, value: Any, where: Where, scope: Scope, prefix: str) -> tuple[plan.Block, Scope]:
        """See `blocks.Blocks`."""
        self._nesting += 1
        try:
            return self._block(value, where, scope, prefix)
        finally:
            self._nesting -= 1

    def _block(self, value: Any, where: Where, outer: Scope, prefix: str) -> tuple[plan.Block, Scope]:
        reading = self.reading
        steps = reading.list(value, where, "Write a list of steps, each beginning with `- id:`.")
        if isinstance(value, list) and not value:
            reading.key_fault(where, "There are no steps.", "Add one: - {id: first, call: {handler: echo}}.")
        if self._nesting > MOST_NESTING + 1:
            reading.key_fault(
                where,
                f"Steps are nested more than {MOST_NESTING} deep.",
                "Make a template of the inner ones.",
            )
            return plan.Block((), ()), outer
        self._steps += len(steps)
        if self._steps > MOST_STEPS:
            reading.key_fault(
                where,
                f"The template has more than {MOST_STEPS} steps.",
                "Split it, or let a handler do several things.",
            )
            return plan.Block((), ()), outer
        ids = self._ids(steps, where, outer)
        arranged = self._order(steps, ids, where, outer)
        position = {id_: at for at, id_ in enumerate(ids) if id_}
        known = frozenset(position)
        everything = outer.steps | known
        types = outer.types.with_steps({id_: step for id_, step in zip(ids, steps, strict=True) if id_})
        check_revisions(reading, steps, where, arranged)
        inside = outer
        if any(revises(step) for step in steps):
            inside = replace(outer, locals=outer.locals | {"revision"})
        nodes = []
        for at, step in enumerate(steps):
            # With a cycle nobody knows who comes first; the cycle is fault enough.
            bits = -1 if arranged.cycle else arranged.before[at]
            before = _Before(position, bits, outer.before)
            needs = arranged.needs[at]
            scope = replace(
                inside,
                steps=everything,
                before=before,
                step=ids[at],
                place="here",
                types=types,
                siblings=frozenset(id_ for id_, index in position.items() if bits >> index & 1),
                follows=ids[needs[0]] if len(needs) == 1 else "",
            )
            gate = position.get(step["approved_by"]) if _is_approved(step) else None
            # What people are to approve must be known when they are asked.
            asked = scope if gate is None or arranged.cycle else replace(
                scope, before=_Before(position, arranged.before[gate], outer.before)
            )  # fmt: skip
            nodes.append(self._node(step, (*where, at), scope, prefix, at, arranged, asked))
        nodes = bind(reading, steps, where, nodes, ids)
        roots = tuple(at for at, needs in enumerate(arranged.needs) if not needs)
        ended = replace(outer, steps=everything, before=Either(outer.before, known), step="", types=types)
        return plan.Block(tuple(nodes), roots, result=len(nodes) - 1), ended

    def _ids(self, steps: list[Any], where: Where, outer: Scope) -> list[str]:
        """Ids by position; empty for a step without a usable one."""
        reading = self.reading
        ids: list[str] = []
        first: dict[str, int] = {}
        for at, step in enumerate(steps):
            inner = (*where, at, "id")
            given = step.get("id") if isinstance(step, dict) else None
            id_: str | Missing = ""
            if isinstance(step, dict) and "id" in step:
                id_ = reading.name(given, inner, "The step's id", NAME, NAME_RULE)
            if id_ in RESERVED:
                reading.fault(inner, f"{id_} is a word of the expressions.", "Choose another id.")
            elif isinstance(id_, str) and id_ and first.setdefault(id_, at) != at:
                line = reading.positions.value((*where, first[id_])).line
                reading.fault(inner, f"There are two steps {id_}.", f"Rename one; the other is on line {line}.")
                id_ = ""
            elif isinstance(id_, str) and id_ in outer.steps:
                reading.fault(inner, f"There is a step {id_} outside of this block already.", "Choose another id.")
            elif id_ == "output" and self._nesting > 1:
                reading.fault(inner, "output is the word for what a block gives.", "Choose another id.")
            ids.append(id_ if isinstance(id_, str) else "")
        return ids

    def _order(self, steps: list[Any], ids: list[str], where: Where, outer: Scope) -> Order:
        position = {id_: at for at, id_ in enumerate(ids) if id_}
        needs: list[tuple[int, ...]] = []
        for at, step in enumerate(steps):
            if isinstance(step, dict) and "needs" in step:
                needs.append(self._needs(step["needs"], (*where, at, "needs"), position, at, outer))
            else:
                needs.append((at - 1,) if at else ())
        arranged = order(needs)
        if arranged.cycle:
            self._cycle(steps, ids, where, arranged.cycle)
        return arranged

    def _unknown_need(self, id_: str, where: Where, position: dict[str, int], outer: Scope) -> None:
        inside = self.values.around().get(id_)
        if id_ in outer.steps:
            reason, mend = f"The step {id_} is outside of this block.", "Remove it; needs names steps of the same list."
        elif inside is not None:
            reason = f"The step {id_} is inside of the step {inside[-1] or '?'}."
            mend = "Needs names steps of the same list; name the step it is inside of."
        else:
            reason = f"There is no step {id_[:60]}."
            mend = suggest(id_, position, f"Known: {choices(position)}.")
        self.reading.fault(where, reason, mend)

    def _needs(self, value: Any, where: Where, position: dict[str, int], at: int, outer: Scope) -> tuple[int, ...]:
        reading = self.reading
        mend = (
            f"Write a list: needs: [{value[:60]}]."
            if isinstance(value, str)
            else "Write a list of ids: needs: [fetch]."
        )
        found: list[int] = []
        for number, id_ in enumerate(reading.list(value, where, mend)):
            inner = (*where, number)
            if not isinstance(id_, str):
                reading.text(id_, inner, mend)
            elif id_ not in position:
                self._unknown_need(id_, inner, position, outer)
            elif position[id_] == at:
                reading.fault(inner, f"The step {id_} needs itself.", "Remove it from its needs.")
            elif position[id_] in found:
                reading.fault(inner, f"{id_} is there twice.", "Remove one of them.")
            else:
                found.append(position[id_])
        return tuple(sorted(found))

    def _cycle(self, steps: list[Any], ids: list[str], where: Where, cycle: tuple[int, ...]) -> None:
        names = [ids[at] or f"steps[{at}]" for at in cycle]
        at = next((at for at in cycle if isinstance(steps[at], dict) and "needs" in steps[at]), cycle[0])
        mend = "Remove one of these needs."
        implied = next((n for n, p in zip(names, cycle, strict=True) if "needs" not in steps[p]), None)
        if implied:
            mend = f"{implied} has no needs of its own, so it follows the step above it; give it `needs:`."
        self.reading.key_fault(
            (*where, at, "needs"), f"The steps need each other in a circle: {' needs '.join(names)}.", mend
        )

    def _node(
        self,
        value: Any,
        where: Where,
        scope: Scope,
        prefix: str,
        at: int,
        arranged: Order,
        asked: Scope,
    ) -> plan.Node:
        reading, values = self.reading, self.values
        given = value if isinstance(value, dict) else {}
        kind = kind_of(self.reading, value, where)
        condition = None
        if "if" in given:
            condition = values.condition(given["if"], (*where, "if"), scope.at("in an if"))
        retry, clocks, queue = self._work(given, where, kind)
        if "description" in given:
            reading.text(given["description"], (*where, "description"), "Describe the step.", most=2000)
        values.sealed = False
        params: plan.Expression = plan.Literal(None)
        blocks: tuple[plan.Block, ...] = ()
        path = f"{prefix}{scope.step}"
        if kind == "agent":
            params = read_agent(reading, values, given[kind], (*where, kind), scope)
            blocks = (agent_block(params, path, retry, clocks, queue, sealed=values.sealed),)
        elif kind in STRUCTURES:
            params, blocks = STRUCTURES[kind](self, given[kind], (*where, kind), scope, path)
            values.sealed = False
        elif kind:
            params = KINDS[kind](reading, values, given[kind], (*where, kind), asked)
        return plan.Node(
            id=scope.step,
            index=at,
            path=path,
            kind=kind,
            params=params,
            needs=arranged.needs[at],
            dependents=arranged.dependents[at],
            condition=condition,
            retry=retry,
            clocks=clocks,
            queue=queue,
            sealed=values.sealed,
            blocks=blocks,
            compensate=self._compensate(given, where, scope, path) if "compensate" in given else None,
        )

    def _work(self, given: dict[str, Any], where: Where, kind: str) -> tuple[plan.Retry, plan.Clocks, str]:
        """Retry, clocks and queue of a step; faults where its kind has none."""
        reading = self.reading
        if kind not in plan.WORK and kind != "agent":
            for key in _WORK_ONLY if kind else ():
                if key in given:
                    mend = _INSTEAD.get((kind, key), f"Remove {key}.")
                    reading.key_fault((*where, key), f"{key} is for steps that executors run, not for {kind}.", mend)
            return plan.Retry(), plan.Clocks(), "default"
        retry, clocks, queue = self._defaults.retry, self._defaults.clocks, self._defaults.queue
        if "retry" in given:
            retry = read_retry(reading, given["retry"], (*where, "retry"), retry)
        if "timeout" in given:
            clocks = read_clocks(reading, given["timeout"], (*where, "timeout"), clocks)
        if "queue" in given:
            named = self._queue(given["queue"], (*where, "queue"))
            queue = queue if isinstance(named, Missing) else named
        return retry, clocks, queue

    def _compensate(self, step: dict[str, Any], where: Where, scope: Scope, path: str) -> plan.Node | None:
        """What takes a step back: work for an executor, with the step's output and all that was before it at hand."""
        reading, inner = self.reading, (*where, "compensate")
        kinds = tuple(kind for kind in KINDS if kind in plan.WORK)
        mend = "Write work: {call: {handler: refund, input: {...}}}."
        given = reading.object(step["compensate"], inner, (*kinds, *_WORK_ONLY), mend=mend)
        found = [key for key in given if key in kinds]
        if len(found) != 1:
            if isinstance(step["compensate"], dict):
                reading.key_fault(inner, f"It takes exactly one of {choices(kinds)}.", mend)
            return None
        kind = found[0]
        retry, clocks, queue = self._work(given, inner, kind)
        own = frozenset({scope.step})
        seeing = replace(scope, steps=scope.steps | own, before=Either(scope.before, own), step="")
        self.values.sealed = False
        params = KINDS[kind](reading, self.values, given[kind], (*inner, kind), seeing)
        return plan.Node(
            id=scope.step,
            index=0,
            path=f"{path}~",
            kind=kind,
            params=params,
            retry=retry,
            clocks=clocks,
            queue=queue,
            sealed=self.values.sealed,
        )
