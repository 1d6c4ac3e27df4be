"""What is large and not looked at as a whole is handed to nobody."""

from __future__ import annotations

import pytest
from wfe_engine.plan import Cel
from wfe_engine.values import Deferred, ExpressionFault
from wfe_language import ExpressionPool
from wfe_scheduler.evaluate import Evaluator

LARGE = {"steps": {"fetch": {"status": "completed", "output": {"status": 200, "body": "x" * 9_000_000, "n": [3, 1]}}}}
ROOTS = (("steps", "fetch"),)


def test_a_part_of_a_large_value_is_compared_at_once():
    evaluate = Evaluator(ExpressionPool(size=0))
    assert evaluate(Cel("steps.fetch.output.status == 200", ROOTS), LARGE) is True
    with pytest.raises(ExpressionFault) as fault:
        evaluate(Cel("steps.fetch.output.nothing == 200", ROOTS), LARGE)
    assert 'Here steps.fetch.output is {"status":200,"body":"xxx' in fault.value.message


async def test_what_may_take_long_is_given_what_it_looks_at():
    async with ExpressionPool(size=1) as pool:
        evaluate = Evaluator(pool)
        expression = Cel("steps.fetch.output.n.map(one, one + 1)", ROOTS)
        with pytest.raises(Deferred) as deferred:
            evaluate(expression, LARGE)
        assert deferred.value.bindings == {"steps": {"fetch": {"output": {"n": [3, 1]}}}}
        await evaluate.outside(deferred.value)
        assert evaluate(expression, LARGE) == [4, 2]
        whole = Cel("steps.fetch.output.body.split('y')", ROOTS)
        with pytest.raises(Deferred) as deferred:
            evaluate(whole, LARGE)
        await evaluate.outside(deferred.value)
        with pytest.raises(ExpressionFault, match="3145728"):
            evaluate(whole, LARGE)
