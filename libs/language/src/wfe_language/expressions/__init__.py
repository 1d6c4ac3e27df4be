"""Expressions: CEL between `${{` and `}}`."""

from wfe_language.expressions.environment import NotCel, compile_cel
from wfe_language.expressions.evaluator import (
    CelEvaluator,
    ExpressionError,
    is_cheap,
    met_in,
    narrowed,
    outside_expression,
)
from wfe_language.expressions.pool import ExpressionPool

__all__ = [
    "CelEvaluator",
    "ExpressionError",
    "ExpressionPool",
    "NotCel",
    "compile_cel",
    "is_cheap",
    "met_in",
    "narrowed",
    "outside_expression",
]
