"""The template language: reads, checks and compiles templates; checks input; evaluates expressions."""

from __future__ import annotations

from collections.abc import Collection

from wfe_engine.plan import Plan

from wfe_language.compiler.template import TemplateReader
from wfe_language.expressions import (
    CelEvaluator,
    ExpressionError,
    ExpressionPool,
    is_cheap,
    narrowed,
    outside_expression,
)
from wfe_language.faults import Fault, TemplateFaults
from wfe_language.loader import Place, Positions, load
from wfe_language.spans import parse_span
from wfe_language.variables import check_input

__all__ = [
    "CelEvaluator",
    "ExpressionError",
    "ExpressionPool",
    "Fault",
    "Place",
    "Positions",
    "TemplateFaults",
    "check_input",
    "compile",
    "is_cheap",
    "load",
    "narrowed",
    "outside_expression",
    "parse_span",
    "validate",
]


def validate(source: str | bytes, *, handlers: Collection[str] | None = None) -> list[Fault]:
    """Everything that is wrong with a template, in the order of the text; empty when it can be published.

    Args:
        source: YAML 1.2 or JSON.
        handlers: Names `call` may use; None when they are not known, then any is taken.
    """
    try:
        document, positions = load(source)
    except TemplateFaults as error:
        return list(error.faults)
    reader = TemplateReader(positions, handlers)
    reader.template(document)
    return reader.reading.sorted()


def compile(source: str | bytes) -> Plan:  # noqa: A001 - the module's own word, always used as wfe_language.compile
    """The plan of a template; the same text gives the same plan.

    Raises:
        TemplateFaults: It is not valid; has what `validate` gives.
    """
    document, positions = load(source)
    reader = TemplateReader(positions)
    plan = reader.template(document)
    if reader.reading.faults:
        raise TemplateFaults(reader.reading.sorted())
    return plan
