"""Compares what came of a run with what was expected, and runs cases."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wfe_engine.errors import InvalidInput
from wfe_engine.plan import Block, Plan
from wfe_language import parse_span

from wfe_simulator.cases import Case
from wfe_simulator.mocks import MockMissing, Mocks
from wfe_simulator.results import Result, StepResult
from wfe_simulator.world import BEGIN, Endless, simulate


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a case.

    Attributes:
        case: Its name.
        problems: Sentences; empty when all is as expected.
        result: Of the run; None when it could not be run to its end.
        seconds: Real time it took.
    """

    case: str
    problems: list[str] = field(default_factory=list)
    result: Result | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether all is as expected."""
        return not self.problems


def run_case(plan: Plan, case: Case) -> Report:
    """Run a case and check what comes of it."""
    began = time.perf_counter()
    mocks = Mocks(case.steps, case.handlers)
    unused = mocks.unused(set(_paths(plan.root)))
    problems = [f"there is no step {path}, which is mocked" for path in unused]
    try:
        begin = BEGIN if case.begin is None else dt.datetime.fromisoformat(case.begin).timestamp()
        result = simulate(plan, case.input, mocks, begin=begin)
    except InvalidInput as error:
        problems += [f"{violation.field}: {violation.message}" for violation in error.violations]
    except (MockMissing, Endless, TypeError, ValueError) as error:
        problems.append(str(error))
    else:
        problems += check(result, case.expect)
        return Report(case.name, problems, result, time.perf_counter() - began)
    return Report(case.name, problems, None, time.perf_counter() - began)


def _paths(block: Block) -> list[str]:
    found = []
    for node in block.nodes:
        found += [node.path] if node.compensate is None else [node.path, node.compensate.path]
        for inner in node.blocks:
            found += _paths(inner)
    return found


def check(result: Result, expect: Mapping[str, Any]) -> list[str]:
    """What is not as expected; without an expected status, or a failure that is expected, the run must complete.

    Args:
        expect: status, reason, output, error (a code, or some of its fields), steps (by path or path[iteration]: a
            status, or {status, output, error, attempts, count, input}), emitted (names, or {name: data}), takes (the
            span of the virtual clock).
    """
    problems: list[str] = []
    status = expect.get("status", "failed" if "error" in expect else "completed")
    if result.status != status:
        why = f": {result.error['code']}: {result.error['message']}" if result.error else ""
        at = f" at {result.error['step']}" if result.error and result.error.get("step") else ""
        problems.append(f"the run {result.status}{at}{why}; expected {status}")
    if "reason" in expect:
        _same(problems, "reason", expect["reason"], result.reason)
    if "output" in expect:
        _same(problems, "output", expect["output"], result.output)
    if "error" in expect:
        _error(problems, "error", expect["error"], result.error)
    for path, wanted in expect.get("steps", {}).items():
        _step(problems, path, wanted, result)
    if "emitted" in expect:
        _emitted(problems, expect["emitted"], result)
    if "takes" in expect and abs(parse_span(expect["takes"]) - result.took) > 0.001:
        problems.append(f"the run takes {result.took:g} s; expected {expect['takes']}")
    return problems


def _step(problems: list[str], path: str, wanted: Any, result: Result) -> None:
    name, _, iteration = path.removesuffix("]").partition("[")
    found = [step for step in result.all(name) if not iteration or step.iteration == iteration]
    given = wanted if isinstance(wanted, dict) else {"status": wanted}
    if "count" in given and len(found) != given["count"]:
        problems.append(f"steps.{path} was entered {len(found)} times; expected {given['count']}")
    if given.get("status") == "pending" or given.get("count") == 0:
        if found and given.get("status") == "pending":
            problems.append(f"steps.{path} is {found[0].status}; expected it not to be reached")
        return
    if not found:
        problems.append(f"steps.{path} was not reached; expected {_shown(wanted)}")
    for step in found:
        _one(problems, step, given)


def _one(problems: list[str], step: StepResult, given: Mapping[str, Any]) -> None:
    name = f"steps.{step.path}[{step.iteration}]" if step.iteration else f"steps.{step.path}"
    for key in ("status", "output", "attempts"):
        if key in given:
            _same(problems, f"{name}.{key}", given[key], getattr(step, key))
    if "input" in given:
        actual = step.input.get("input") if step.kind == "call" and isinstance(step.input, dict) else step.input
        _same(problems, f"{name}.input", given["input"], actual)
    if "error" in given:
        _error(problems, f"{name}.error", given["error"], step.error)


def _error(problems: list[str], name: str, wanted: Any, actual: Any) -> None:
    actual = actual or {}
    for key, value in (wanted if isinstance(wanted, dict) else {"code": wanted}).items():
        _same(problems, f"{name}.{key}", value, actual.get(key))


def _emitted(problems: list[str], wanted: list[Any], result: Result) -> None:
    actual = [
        {name: data} if isinstance(each, dict) else name
        for each, (name, data) in zip(wanted, result.emitted, strict=False)
    ]
    actual += [name for name, _ in result.emitted[len(wanted) :]]
    _same(problems, "emitted", wanted, actual)


def _same(problems: list[str], name: str, wanted: Any, actual: Any) -> None:
    if wanted != actual or isinstance(wanted, bool) != isinstance(actual, bool):
        problems.append(f"{name} is {_shown(actual)}; expected {_shown(wanted)}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 300 else text[:297] + "..."
