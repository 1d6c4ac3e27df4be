"""What expressions cost a scheduler: it evaluates the cheap ones itself and hands the others over.

`pytest -s libs/language/tests/test_cost.py` prints the figures.
"""

from __future__ import annotations

import contextlib
import sys
import time

import msgspec
import pytest
import wfe_language
from hostile import HOSTILE, VALUES
from samples import chain
from test_expressions import cel
from wfe_engine import plan
from wfe_engine.values import Record, Values, View, record_key
from wfe_language import CelEvaluator, ExpressionError, is_cheap
from wfe_language.expressions import evaluator
from wfe_language.expressions.evaluator import project
from wfe_language.expressions.pool import MOST_BINDINGS
from wfe_language.expressions.worker import Request

#: Milliseconds an expression may cost a scheduler.
MOST_MS = 10.0


def show(line: str) -> None:
    sys.stdout.write(line + "\n")


def cost(expression: plan.Cel, bindings: dict[str, object]) -> float:
    """Milliseconds of CPU for one that was never met before: looking at it, and evaluating it or packing it up."""
    evaluator._uses.cache_clear()
    fresh = CelEvaluator()
    began = time.thread_time()
    if is_cheap(expression, bindings):
        with contextlib.suppress(ExpressionError):
            fresh.evaluate(expression, bindings)
    else:
        msgspec.json.encode(project(expression, bindings))  # the key its answer is kept under
        body = msgspec.msgpack.encode(Request(expression, project(expression, bindings)))
        assert len(body) < MOST_BINDINGS
    return (time.thread_time() - began) * 1000


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_costs_a_scheduler_more_than_10_ms(name):
    expression = cel(HOSTILE[name])
    bindings = {"vars": VALUES}
    spent = min(cost(expression, bindings) for _ in range(5))
    show(f"{spent:6.2f} ms  {'here' if is_cheap(expression, bindings) else 'pool'}  {name}")
    assert spent < MOST_MS


def test_plain_paths_cost_microseconds():
    values = Values({"n": 1}, {"id": "r"}, {record_key("", "a"): Record(status="completed", output=b'{"b": {"c": 1}}')})
    view = View(values, lambda *_: pytest.fail("a path is no CEL"), {}, None)  # type: ignore[arg-type]
    paths = [plan.Path("vars", ("n",), "vars.n"), plan.Path("steps", ("a", "output", "b", "c"), "steps.a.output.b.c")]
    for path in paths:
        assert view.render(path) == 1
        spent = []
        for _ in range(5):
            began = time.thread_time()
            for _ in range(1000):
                view.render(path)
            spent.append((time.thread_time() - began) * 1000)
        show(f"{min(spent):6.2f} µs  {path.source}")
        assert min(spent) < 20


def test_a_cheap_expression_costs_tens_of_microseconds():
    expression, bindings, fresh = cel("vars.n + 1 > 2 && vars.t == 'x'"), {"vars": {"n": 3, "t": "x"}}, CelEvaluator()
    spent = []
    for _ in range(5):
        began = time.thread_time()
        for _ in range(100):
            assert is_cheap(expression, bindings)
            fresh.evaluate(expression, bindings)
        spent.append((time.thread_time() - began) * 10_000)
    show(f"{min(spent):6.2f} µs  {expression.source}")
    assert min(spent) < 500


STEPS = """\
  - {id: aN, if: "${{ BEFORE > N }}", set: {n: "${{ BEFORE + N }}", k: text}}
  - id: bN
    foreach:
      items: [1, 2]
      steps:
        - {id: dN, call: {handler: echo, input: {n: "${{ vars.n + item * N }}", v: "${{ index }}"}}}
  - {id: cN, call: {handler: echo, input: {n: "n ${{ size(steps.bN.output) + N }}"}}}
"""


def varied(count: int) -> str:
    """So many steps of several kinds, each with an expression of its own."""
    steps = [
        STEPS.replace("BEFORE", f"steps.c{at - 1}.output.n" if at else "vars.n").replace("N", str(at))
        for at in range(count // 4)
    ]
    return "name: t\nvariables: {n: {type: integer, default: 1}}\nsteps:\n" + "".join(steps)


@pytest.mark.parametrize("source", [chain(200), varied(200)], ids=["a chain", "every step different"])
def test_a_template_of_200_steps_is_checked_in_50_ms(source):
    assert wfe_language.validate(source) == []
    spent = []
    for _ in range(7):
        began = time.thread_time()
        wfe_language.validate(source)
        spent.append((time.thread_time() - began) * 1000)
    show(f"{min(spent):6.1f} ms  200 steps, {len(source) // 1024} KiB")
    assert min(spent) < 50
