"""The world around a run in memory: an executor that is always free, people, and a clock that jumps to what is next.

The decisions are the engine's own (`wfe_engine.decide`); what they bring about is taken in here as a store, executors
and people would.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from wfe_engine import commands as cmd
from wfe_engine import effects as fx
from wfe_engine.decide import Decision, decide
from wfe_engine.errors import InvalidInput
from wfe_engine.events import Emitted, Event
from wfe_engine.kinds.waiting import callback_name
from wfe_engine.plan import Cel, Plan
from wfe_engine.state import ENDED, READY, WAITING, WAITING_APPROVAL, Fault, RunState
from wfe_engine.turn import Env
from wfe_engine.values import SEALED, ExpressionFault, Values, record_key
from wfe_language import CelEvaluator, ExpressionError, check_input

from wfe_simulator.mocks import Answers, Calls, Decide, Fails, Gives, Mocks, Request, Silence, Tells
from wfe_simulator.results import Result, StepResult
from wfe_simulator.turns import turn

#: Decisions after which a run counts as endless.
MOST_DECISIONS = 200_000
#: When runs begin, unless told otherwise: 2030-01-01T00:00:00Z.
BEGIN = 1_893_456_000.0

_decode = msgspec.json.decode


class Endless(Exception):
    """The run does not come to an end."""


def simulate(
    plan: Plan,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the word of the API
    mocks: Mocks | None = None,
    *,
    begin: float = BEGIN,
    labels: Mapping[str, str] | None = None,
    observe: Callable[[Decision, float], None] | None = None,
) -> Result:
    """Run a plan to its end.

    The same arguments give the same result: chance is drawn from a fixed seed.

    Args:
        begin: Moment the run starts, in Unix seconds.
        observe: Told of every decision and its moment.

    Raises:
        InvalidInput: The input does not fit the variables.
        MockMissing: A step was reached that nothing says the outcome of.
        Endless: It does not come to an end.
    """
    values, violations = check_input(plan.variables, dict(input or {}))
    if violations:
        raise InvalidInput(violations, reason="INVALID_RUN_INPUT")
    for variable in plan.variables:
        if variable.sensitive and values.get(variable.name) is not None:
            values[variable.name] = {SEALED: [{"var": variable.name}]}
    return _World(plan, values, mocks or Mocks(), begin, dict(labels or {}), observe).run()


class _World:
    def __init__(
        self,
        plan: Plan,
        variables: dict[str, Any],
        mocks: Mocks,
        begin: float,
        labels: dict[str, str],
        observe: Callable[[Decision, float], None] | None,
    ) -> None:
        self._plan = plan
        self._input = variables
        self._labels = labels
        self._mocks = mocks
        self._begin = self._now = begin
        self._observe = observe
        self._state = RunState()
        self._random = random.Random(0)
        self._evaluator = CelEvaluator()
        self._order = itertools.count()
        self._next: list[tuple[float, int, Callable[[], cmd.Command | None]]] = []
        self._timers: dict[int, float] = {}
        self._work: dict[int, fx.Dispatch | fx.Redispatch] = {}
        self._attempts: dict[int, int] = {}
        self._rows: dict[int, StepResult] = {}
        self._events: list[tuple[Event, float]] = []
        self._output: Any = None
        moment = _moment(begin)
        facts = {
            "id": self._id(), "template": {"name": plan.name, "version": 1}, "created_by": "starter",
            "created_at": moment, "labels": labels, "epoch": 1,
        }  # fmt: skip
        self._values = Values(variables, facts)

    def run(self) -> Result:
        """Take one thing after the other until the run has ended."""
        template = self._id()
        start = cmd.Start(template=template, template_version=1, trigger="api", input=self._input, labels=self._labels)
        self._decide(start)
        for _ in range(MOST_DECISIONS):
            if self._state.status in ENDED:
                return self._result()
            if not self._next:
                live = ", ".join(sorted(f"{step.path} ({step.kind})" for _, _, step in self._state.steps()))
                raise Endless(f"nothing happens any more; the run waits for {live}")
            self._now, _, command = heapq.heappop(self._next)
            found = command()
            if found is not None:
                self._decide(found)
        raise Endless(f"the run has not ended after {MOST_DECISIONS} decisions")

    def _decide(self, command: cmd.Command) -> None:
        env = Env(
            now=self._now, chance=self._random.random(), new_id=self._id, values=self._values, evaluate=self._evaluate
        )
        decision = decide(self._plan, self._state, command, env)
        self._state = decision.state
        self._events += [(event, self._now - self._begin) for event in decision.events]
        for gone in decision.effects.revised:
            again = record_key(gone.scope, gone.path.rpartition("/")[2])
            for key in [key for key in self._values.records if key == again or key.startswith(gone.prefix)]:
                del self._values.records[key]
        self._values.records.update(decision.added)
        self._values.signals.update(decision.signals)
        for no, (given, params) in decision.entered.items():
            self._values.record(no, given, params)
        self._take(decision.effects)
        if self._observe is not None:
            self._observe(decision, self._now)

    def _take(self, effects: fx.Effects) -> None:
        for row in effects.steps:
            self._enter(row.no, row.path, row.iteration, row.kind, row.status, row.input)
            self._change(row.no, row.status, row.output, row.error, ended=row.ended)
            if row.kind == "wait_for" and row.status == WAITING:
                self._wait_for(row)
        for change in effects.changes:
            self._change(change.no, change.status, change.output, change.error, ended=change.ended)
        for done in effects.finished:
            self._change(done.no, done.status, done.output, done.error, ended=True)
            self._rows[done.no].attempts = done.attempts or self._rows[done.no].attempts
            self._work.pop(done.no, None)
        ready: list[fx.Dispatch | fx.Redispatch] = [*effects.dispatches, *effects.redispatches]
        for work in ready:
            given = work.request if isinstance(work, fx.Dispatch) else None
            self._enter(work.no, work.path, work.iteration, work.kind, "running", given)
            self._work[work.no] = work
            self._attempts[work.no] = 0
            self._at(work.available_at, self._attempt(work.no))
            if work.clocks.total is not None:
                self._total(work, work.clocks.total)
        for again in effects.again:
            self._rows[again.no].attempts = again.attempt - 1
            self._at(again.available_at, self._attempt(again.no))
        for no, due in effects.timers.items():
            self._timers.pop(no, None)
            if due is not None:
                self._timers[no] = due
                self._at(due, self._timer(no, due))
        for gate in effects.gates:
            self._gate(gate)
        for wish in effects.children:
            if wish.wish in ("start", "retry"):
                self._child(wish)
        if effects.output is not None:
            self._output = _decode(effects.output)

    # ---- what happens next

    def _at(self, moment: float, command: Callable[[], cmd.Command | None]) -> None:
        heapq.heappush(self._next, (max(moment, self._now), next(self._order), command))

    def _timer(self, no: int, due: float) -> Callable[[], cmd.Command | None]:
        return lambda: cmd.TimerDue(no=no, due=due) if self._timers.get(no) == due else None

    def _attempt(self, no: int) -> Callable[[], None]:
        """An executor begins an attempt."""

        def begin() -> None:
            work = self._work.get(no)
            if work is None:
                return
            self._attempts[no] += 1
            row = self._rows[no]
            request = Request(work.path, work.iteration, work.kind, row.input, self._attempts[no])
            # What an executor says of a request that is none: the params could not be computed.
            invalid = Fails("REQUEST_INVALID", "the step's request cannot be read", retryable=False)
            outcome = invalid if row.input is None else self._mocks.outcome(request)
            if work.kind == "model" and isinstance(outcome, Answers | Calls):
                outcome = Gives(turn(request, outcome), takes=outcome.takes)
            if not isinstance(outcome, Gives | Fails):
                raise TypeError(f"{work.path} is a {work.kind} step; its mock is an output or an error")
            report = self._report(no, request, outcome)
            took = outcome.takes
            most = work.clocks.attempt
            if most is not None and took > most:
                fault = Fault(code="ATTEMPT_TIMEOUT", message=f"the attempt took longer than {most:g} s")
                report, took = cmd.Report(no=no, fault=fault, fence=1), most
            self._at(self._now + took, lambda: report if self._work.get(no) is work and self._live(no, READY) else None)

        return begin

    def _total(self, work: fx.Dispatch | fx.Redispatch, total: float) -> None:
        """The step's total clock runs, over all attempts and the time between them."""
        fault = Fault(code="TOTAL_TIMEOUT", message=f"the step took longer than {total:g} s")
        over = cmd.ClockRanOut(no=work.no, fence=1, fault=fault)
        self._at(work.available_at + total, lambda: over if self._work.get(work.no) is work else None)

    def _report(self, no: int, request: Request, outcome: Gives | Fails) -> cmd.Report:
        if isinstance(outcome, Gives):
            output = msgspec.json.encode(request.input if outcome.echo else outcome.output)
            return cmd.Report(no=no, output=output, executor="simulator", fence=1)
        fault = Fault(code=outcome.code, message=outcome.message, details=dict(outcome.details))
        return cmd.Report(
            no=no,
            fault=fault,
            retryable=outcome.retryable,
            retry_after=outcome.retry_after,
            executor="simulator",
            fence=1,
        )

    def _wait_for(self, row: fx.StepRow) -> None:
        params = self._rows[row.no].input
        outcome = self._mocks.outcome(Request(row.path, row.iteration, row.kind, params, 1))
        if isinstance(outcome, Silence):
            return
        if not isinstance(outcome, Tells):
            raise TypeError(f"{row.path} is a wait_for step; its mock is a payload, or the word timeout")
        name = outcome.name
        if not name:
            callback, signals = params.get("callback"), params.get("signals") or [""]
            name = callback_name(callback, row.iteration) if callback else signals[0]
        told = cmd.Signal(
            signal=self._id(), name=name, payload=msgspec.json.encode(outcome.payload), failed=outcome.failed
        )
        self._at(self._now + outcome.after, lambda: told if self._live(row.no, WAITING) else None)

    def _child(self, wish: fx.ChildWish) -> None:
        row = self._rows[wish.no]
        outcome = self._mocks.outcome(Request(row.path, row.iteration, row.kind, row.input, 1))
        if not isinstance(outcome, Gives | Fails):
            raise TypeError(f"{row.path} is a workflow step; its mock is an output or an error")
        if isinstance(outcome, Gives):
            given = row.input.get("input") if outcome.echo else outcome.output
            ended = cmd.ChildEnded(no=wish.no, child=wish.child, output=msgspec.json.encode(given))
        else:
            fault = Fault(code=outcome.code, message=outcome.message, details=dict(outcome.details))
            ended = cmd.ChildEnded(no=wish.no, child=wish.child, fault=fault)
        self._at(self._now + outcome.takes, lambda: ended)

    def _gate(self, gate: fx.GateRow) -> None:
        row = self._rows[gate.no]
        outcome = self._mocks.outcome(Request(gate.path, gate.iteration, "approval", row.input, 1))
        if not isinstance(outcome, Decide):
            raise TypeError(f"{gate.path} is an approval step; it is decided, it gives no output: decision: approve")
        decided = max(self._now, gate.opens_at or 0.0) + outcome.after
        if gate.expires_at is not None and (outcome.outcome == "expire" or decided >= gate.expires_at):
            closed = cmd.GateClosed(gate=gate.id, outcome=gate.on_expiry, expired=True, branch=gate.branch)
            decided = gate.expires_at
        elif outcome.outcome == "expire":
            raise TypeError(f"{gate.path} does not expire; its approval has no expires")
        elif outcome.outcome == "revise" and (row.input.get("policy") or {}).get("revise") is None:
            raise TypeError(f"{gate.path} sends nothing back; its approval has no revise")
        else:
            closed = cmd.GateClosed(
                gate=gate.id, outcome=outcome.outcome, decided_by=outcome.by, comment=outcome.comment
            )
        self._at(decided, lambda: closed if self._live(gate.no, WAITING_APPROVAL) else None)

    def _live(self, no: int, status: str) -> bool:
        found = self._state.find(no)
        return found is not None and found[2].status == status

    # ---- rows

    def _enter(self, no: int, path: str, iteration: str, kind: str, status: str, given: bytes | None) -> None:
        known = self._rows.get(no)
        if known is None:
            known = self._rows[no] = StepResult(no, path, iteration, kind, status, entered=self._now - self._begin)
        known.status = status
        if given is not None:
            known.input = _decode(given)
            if status != "completed":
                self._values.inputs.setdefault(no, given)

    def _change(self, no: int, status: str, output: bytes | None, error: bytes | None, *, ended: bool) -> None:
        row = self._rows[no]
        row.status = status
        row.output = row.output if output is None else _decode(output)
        row.error = row.error if error is None else _decode(error)
        row.ended = self._now - self._begin if ended else None

    # ---- the rest

    def _evaluate(self, expression: Cel, bindings: dict[str, Any]) -> Any:
        try:
            return self._evaluator.evaluate(expression, bindings)
        except ExpressionError as fault:
            raise ExpressionFault(fault.message, expression.source) from None

    def _id(self) -> str:
        return str(uuid.UUID(int=next(self._order) + 1, version=4))

    def _result(self) -> Result:
        fault = self._state.fault
        return Result(
            status=self._state.status,
            reason=self._state.reason,
            output=self._output if self._state.status == "completed" else None,
            error=None if fault is None else msgspec.to_builtins(fault),
            steps=[self._rows[no] for no in sorted(self._rows)],
            events=self._events,
            emitted=[(event.name, event.data) for event, _ in self._events if isinstance(event, Emitted)],
            took=self._now - self._begin,
        )


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")
