"""The template language: reads, checks and compiles templates; checks input; evaluates expressions."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from wfe_engine.plan import Plan

from wfe_language.comparing import Change, compare
from wfe_language.compiler.reserved import refuse_reserved, reserved_key_in
from wfe_language.compiler.secrets import is_secret_name, secrets_of
from wfe_language.compiler.template import TemplateReader
from wfe_language.expressions import (
    CelEvaluator,
    ExpressionError,
    ExpressionPool,
    is_cheap,
    met_in,
    narrowed,
    outside_expression,
)
from wfe_language.faults import Fault, TemplateFaults
from wfe_language.loader import Place, Positions, load
from wfe_language.spans import parse_span
from wfe_language.variables import check_input

__all__ = [
    "CelEvaluator",
    "Change",
    "ExpressionError",
    "ExpressionPool",
    "Fault",
    "Place",
    "Positions",
    "TemplateFaults",
    "check_input",
    "child_templates",
    "compare",
    "compile",
    "is_cheap",
    "is_secret_name",
    "load",
    "met_in",
    "narrowed",
    "outside_expression",
    "parse_span",
    "reserved_key_in",
    "secrets_of",
    "validate",
]


def child_templates(source: str | bytes) -> frozenset[str]:
    """Names of the templates a template's `workflow` steps run; empty when the text cannot be read."""
    try:
        document, positions = load(source)
    except TemplateFaults:
        return frozenset()
    reader = TemplateReader(positions)
    reader.template(document)
    return frozenset(reader.reading.children)


def validate(
    source: str | bytes,
    *,
    handlers: Collection[str] | None = None,
    templates: Mapping[str, tuple[str, int]] | None = None,
) -> list[Fault]:
    """Everything that is wrong with a template, in the order of the text; empty when it can be published.

    Args:
        source: YAML 1.2 or JSON.
        handlers: Names `call` may use; None when they are not known, then any is taken.
        templates: Published templates `workflow` may run, by name: id and newest version; None likewise.
    """
    try:
        document, positions = load(source)
    except TemplateFaults as error:
        return list(error.faults)
    reader = TemplateReader(positions, handlers, templates)
    reader.template(document)
    refuse_reserved(reader.reading, document)
    return reader.reading.sorted()


def compile(  # noqa: A001 - the module's own word, always used as wfe_language.compile
    source: str | bytes, templates: Mapping[str, tuple[str, int]] | None = None
) -> Plan:
    """The plan of a template; the same text and templates give the same plan.

    Args:
        templates: What its `workflow` steps are pinned to, by name: id and version. Without it they cannot be run.

    Raises:
        TemplateFaults: It is not valid; has what `validate` gives.
    """
    document, positions = load(source)
    reader = TemplateReader(positions, templates=templates)
    plan = reader.template(document)
    refuse_reserved(reader.reading, document)
    if reader.reading.faults:
        raise TemplateFaults(reader.reading.sorted())
    return plan
