"""Evaluating expressions without letting one of them hold up a cycle."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec
from wfe_engine.plan import Cel
from wfe_engine.values import Deferred, ExpressionFault
from wfe_language import CelEvaluator, ExpressionError, ExpressionPool, is_cheap, met_in, narrowed

#: Answers kept for decisions that are made again.
ANSWERS = 1000


class Evaluator:
    """Evaluates cheap expressions at once and asks for the others to be evaluated outside.

    An answer depends on nothing but the expression and its bindings, so an answer found outside is as good as one
    found here.
    """

    def __init__(self, pool: ExpressionPool) -> None:
        self._cel = CelEvaluator()
        self._pool = pool
        self._answers: OrderedDict[bytes, Any] = OrderedDict()

    def __call__(self, expression: Cel, bindings: dict[str, Any]) -> Any:
        """The value of an expression.

        Raises:
            ExpressionFault: It cannot be evaluated.
            Deferred: It must be evaluated outside first.
        """
        if is_cheap(expression, bindings):
            try:
                return self._cel.evaluate(expression, bindings)
            except ExpressionError as fault:
                raise ExpressionFault(fault.message, expression.source) from None
        # Large values are rarely looked at as a whole: what is not is handed to nobody.
        lean = narrowed(expression, bindings)
        if is_cheap(expression, lean):
            try:
                return self._cel.evaluate(expression, lean)
            except ExpressionError as fault:
                raise ExpressionFault(met_in(fault.message, expression, bindings), expression.source) from None
        answer = self._answers.get(_key(expression, lean), msgspec.UNSET)
        if answer is msgspec.UNSET:
            raise Deferred(expression, lean)
        if isinstance(answer, ExpressionFault):
            raise ExpressionFault(met_in(answer.message, expression, bindings), answer.expression)
        return answer

    async def outside(self, deferred: Deferred) -> None:
        """Evaluate in the pool, within its bounds, and keep the answer for the decision to come."""
        answer: Any
        try:
            answer = await self._pool.evaluate(deferred.expression, deferred.bindings)
        except ExpressionError as fault:
            answer = ExpressionFault(fault.message, deferred.expression.source)
        self._answers[_key(deferred.expression, deferred.bindings)] = answer
        while len(self._answers) > ANSWERS:
            self._answers.popitem(last=False)


def _key(expression: Cel, bindings: dict[str, Any]) -> bytes:
    return expression.source.encode() + b"\0" + msgspec.json.encode(bindings)
