"""Compiles values that may hold expressions, and checks what the expressions refer to."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Any

from cel_expr_python import cel
from wfe_engine import plan

from wfe_language.compiler.reading import Reading
from wfe_language.expressions.environment import MOST_SOURCE, NotCel, compile_cel
from wfe_language.expressions.scan import (
    LOCALS,
    Hole,
    Reference,
    Unclosed,
    parse_path,
    references,
    split,
)
from wfe_language.faults import Where, choices, suggest

#: Expressions that are not plain paths a template may have: bounds what publishing it costs.
MOST_CEL = 2000

STEP_FIELDS = ("output", "status", "error", "attempts")
ERROR_FIELDS = ("code", "message", "step", "details")
REVISION_FIELDS = ("reason", "round", "by", "payload", "approval")
RUN_FIELDS = ("id", "created_at", "created_by", "labels", "epoch", "template")

_JSON_TYPES = {
    "boolean": "BOOL",
    "string": "STRING",
    "integer": "INT",
    "number": "DOUBLE",
    "array": "LIST",
    "object": "MAP",
}
_STEP_TYPES = {"status": "STRING", "attempts": "INT"}
_SAID = {
    "BOOL": "true or false", "STRING": "text", "INT": "a whole number", "UINT": "a whole number",
    "DOUBLE": "a number", "LIST": "a list", "MAP": "an object", "NULL": "null",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions at one place of a template may refer to.

    Attributes:
        variables: Declared ones, by name.
        steps: Ids of all steps they could name.
        before: Those of them that have ended by then.
        step: Id of the step they stand in; empty outside of steps.
        locals: Those of item, index, error and revision that mean something here.
        loops: Ids of the loops around; their output is that of the last round.
        siblings: Ids of the steps of the same list that have ended by then.
        follows: The one step this needs; empty when there are none or several.
        sealing: Whether sensitive variables may stand here, whole or inside text.
        place: Where this is, for a sentence: "in the params of a call".
    """

    variables: dict[str, plan.Variable]
    steps: frozenset[str]
    before: Container[str]
    step: str = ""
    locals: frozenset[str] = frozenset()
    loops: frozenset[str] = frozenset()
    siblings: frozenset[str] = frozenset()
    follows: str = ""
    sealing: bool = False
    place: str = "here"

    def at(self, place: str, *, sealing: bool = False) -> Scope:
        """The same names at another place."""
        return replace(self, place=place, sealing=sealing)


@dataclass(slots=True)
class Values:
    """Compiles the values of one template.

    Attributes:
        reading: Gets the faults.
        sealed: Whether a sensitive variable was met since it was last set to False.
    """

    reading: Reading
    sealed: bool = False
    _compiled: dict[str, str | NotCel] = field(default_factory=dict)

    def value(self, value: Any, where: Where, scope: Scope) -> plan.Expression:
        """Any value: a Literal when nothing in it is an expression."""
        if isinstance(value, str):
            return self._string(value, where, scope)
        if isinstance(value, list):
            return list_of([self.value(item, (*where, at), scope) for at, item in enumerate(value)])
        if isinstance(value, dict):
            return map_of({key: self._entry(key, item, (*where, key), scope) for key, item in value.items()})
        return plan.Literal(value)

    def text(self, value: Any, where: Where, scope: Scope, mend: str, *, empty: bool = False) -> plan.Expression:
        """Text with or without expressions; gives a string also when it is exactly one expression."""
        if not isinstance(value, str) or not (empty or value.strip()):
            self.reading.text(value, where, mend)
            return plan.Literal("")
        compiled = self._string(value, where, scope)
        return plan.Text((compiled,)) if isinstance(compiled, plan.Path | plan.Cel) else compiled

    def condition(self, value: Any, where: Where, scope: Scope) -> plan.Expression | None:
        """The value of `if`: true, false, or an expression that gives one of them."""
        mend = 'Write an expression that is true or false: if: "${{ vars.x > 1 }}".'
        if isinstance(value, bool):
            return plan.Literal(value)
        if not isinstance(value, str):
            self.reading.text(value, where, mend)
            return None
        if not value.strip().startswith("${{"):
            self.reading.fault(where, "The condition is plain text, not an expression.", mend)
            return None
        compiled = self._string(value.strip(), where, scope)
        if not isinstance(compiled, plan.Path | plan.Cel):
            self.reading.fault(where, "The condition is text with expressions in it.", mend)
            return None
        self.expect(compiled, where, scope, ("BOOL",), mend)
        return compiled

    def expect(self, compiled: plan.Expression, where: Where, scope: Scope, types: tuple[str, ...], mend: str) -> None:
        """A fault when it is known that an expression gives something else than one of some CEL types."""
        known = self._type(compiled, scope)
        if known and known not in types:
            self.reading.fault(where, f"The expression gives {_SAID.get(known, known.lower())}.", mend)

    def _entry(self, key: str, value: Any, where: Where, scope: Scope) -> plan.Expression:
        if "${{" in key:
            self.reading.key_fault(where, "A key cannot hold an expression.", "Only values can; write the key itself.")
        return self.value(value, where, scope)

    def _type(self, compiled: plan.Expression, scope: Scope) -> str:
        """CEL type of what an expression gives; empty when it is not known."""
        if isinstance(compiled, plan.Cel):
            known = self._compiled.get(compiled.source)
            return known if isinstance(known, str) else ""
        if isinstance(compiled, plan.Path):
            if compiled.root == "vars" and len(compiled.parts) == 1:
                declared = scope.variables.get(str(compiled.parts[0]))
                kind = declared.schema.get("type") if declared else None
                return _JSON_TYPES.get(kind, "") if isinstance(kind, str) else ""
            if compiled.root == "index":
                return "INT"
            if compiled.root == "steps" and len(compiled.parts) == 2:
                return _STEP_TYPES.get(str(compiled.parts[1]), "")
        return ""

    def _string(self, text: str, where: Where, scope: Scope) -> plan.Expression:
        try:
            parts = split(text) if "${{" in text else [text]
        except Unclosed as error:
            place = self.reading.positions.inside(where, text, error.offset)
            self.reading.fault(
                where, "An expression begins with ${{ and does not end.",
                "Close it with }}; for a literal ${{ write $${{.", place=place,
            )  # fmt: skip
            return plan.Literal(text)
        if not any(isinstance(part, Hole) for part in parts):
            return plan.Literal("".join(str(part) for part in parts))
        compiled = tuple(self._hole(p, text, where, scope) if isinstance(p, Hole) else p for p in parts)
        if len(compiled) == 1 and not isinstance(compiled[0], str):
            return compiled[0]
        return plan.Text(compiled)

    def _hole(self, hole: Hole, text: str, where: Where, scope: Scope) -> plan.Path | plan.Cel:
        source = hole.source.strip()
        begin = hole.offset + len(hole.source) - len(hole.source.lstrip())
        path = parse_path(source) if len(source) <= MOST_SOURCE else None
        if path is not None:
            self._reference(Reference(path.root, path.parts, 0), where, text, begin, scope, whole=True)
            return path
        found = references(source) if len(source) <= MOST_SOURCE else []
        if not self._compile(source, where, text, begin, scope):
            return plan.Cel(source, ())
        for reference in found:
            self._reference(reference, where, text, begin, scope, whole=False)
        roots = {(ref.root, str(ref.parts[0]) if ref.parts else "") for ref in found}
        return plan.Cel(source, tuple(sorted(roots)))

    def _compile(self, source: str, where: Where, text: str, begin: int, scope: Scope) -> bool:
        """Whether an expression compiles; remembers the type it gives."""
        if source not in self._compiled:
            if self.reading.full:
                return False
            if len(self._compiled) >= MOST_CEL:
                self.reading.fault(
                    where, f"The template has more than {MOST_CEL} expressions that are not plain paths.",
                    "Compute in a handler, or split the template.",
                )  # fmt: skip
                return False
            try:
                kind = compile_cel(source).return_type() if source else None
                if kind is None:
                    raise NotCel([])
                self._compiled[source] = "" if kind == cel.Type.DYN else kind.name().partition("<")[0]
            except NotCel as error:
                self._compiled[source] = error
        known = self._compiled[source]
        if isinstance(known, str):
            return True
        if not source:
            place = self.reading.positions.inside(where, text, begin)
            self.reading.fault(where, "The expression is empty.", "Write one between ${{ and }}.", place=place)
        for problem in known.problems:
            offset = min(problem.offset or 0, len(source))
            place = self.reading.positions.inside(where, text, begin + offset)
            reason = f"The expression does not compile: {problem.message}."
            self.reading.fault(where, reason, _cel_mend(problem.message, scope), place=place)
        return False

    def _reference(
        self, reference: Reference, where: Where, text: str, begin: int, scope: Scope, *, whole: bool
    ) -> None:
        """Faults for a name that means nothing here. `whole`: the reference is the whole expression."""
        problem = _refer(reference, scope, whole=whole)
        if problem is None:
            if reference.root == "vars" and reference.parts:
                declared = scope.variables.get(str(reference.parts[0]))
                self.sealed |= declared is not None and declared.sensitive
            return
        place = self.reading.positions.inside(where, text, begin + reference.offset)
        self.reading.fault(where, *problem, place=place)


def map_of(entries: dict[str, plan.Expression]) -> plan.Expression:
    """An object of expressions; a Literal when all of them are."""
    if all(isinstance(item, plan.Literal) for item in entries.values()):
        return plan.Literal({key: item.value for key, item in entries.items() if isinstance(item, plan.Literal)})
    return plan.MapOf(tuple(entries.items()))


def list_of(items: list[plan.Expression]) -> plan.Expression:
    """A list of expressions; a Literal when all of them are."""
    if all(isinstance(item, plan.Literal) for item in items):
        return plan.Literal([item.value for item in items if isinstance(item, plan.Literal)])
    return plan.ListOf(tuple(items))


def _refer(reference: Reference, scope: Scope, *, whole: bool) -> tuple[str, str] | None:
    """Reason and mend of what is wrong with a reference; None when nothing is."""
    root, parts = reference.root, reference.parts
    if root in LOCALS:
        return _refer_local(root, parts, scope)
    if root == "vars":
        return _refer_variable(parts, scope, whole=whole)
    if root == "steps":
        return _refer_step(parts, scope)
    if not parts:
        return (
            "run stands alone.",
            f"Name one of its fields: {choices(f'run.{name}' for name in RUN_FIELDS)}.",
        )
    if parts[0] not in RUN_FIELDS:
        return f"A run has no field {str(parts[0])[:60]}.", suggest(
            str(parts[0]), RUN_FIELDS, f"Known: {choices(RUN_FIELDS)}."
        )
    return None


_LOCAL_PLACES = {
    "item": "inside of a foreach",
    "index": "inside of a foreach or a loop",
    "error": "in a catch or a finally",
    "revision": "in a list of steps with a gate that revises",
}


def _refer_local(root: str, parts: tuple[str | int, ...], scope: Scope) -> tuple[str, str] | None:
    if root not in scope.locals:
        return f"{root} means nothing {scope.place}.", f"It is known {_LOCAL_PLACES[root]}."
    if root == "index" and parts:
        return "index is a number and has no fields.", "Use index alone."
    fields = {"error": ERROR_FIELDS, "revision": REVISION_FIELDS}.get(root)
    if fields and parts and parts[0] not in fields:
        name = str(parts[0])[:60]
        article = "An" if root == "error" else "A"
        return f"{article} {root} has no field {name}.", suggest(name, fields, f"Known: {choices(fields)}.")
    return None


def _refer_variable(parts: tuple[str | int, ...], scope: Scope, *, whole: bool) -> tuple[str, str] | None:
    if not parts:
        hidden = [name for name, variable in scope.variables.items() if variable.sensitive]
        if hidden:
            return (
                f"vars as a whole would show the sensitive variable {hidden[0]}.",
                "Name the variables one by one.",
            )
        return None
    name = str(parts[0])
    declared = scope.variables.get(name)
    if declared is None:
        mend = suggest(name, scope.variables, f"Declare it: variables: {{{name[:60]}: {{type: string}}}}.")
        return f"There is no variable {name[:60]}.", mend
    if not declared.sensitive:
        return None
    if not scope.sealing:
        return (
            f"The sensitive variable {name} cannot be used {scope.place}.",
            "Sensitive values may only stand in the params of http and call steps.",
        )
    if not whole or len(parts) > 1:
        return (
            f"The sensitive variable {name} is used in more than a plain path.",
            f"Use it whole, alone or inside text: ${{{{ vars.{name} }}}}.",
        )
    return None


def _refer_step(parts: tuple[str | int, ...], scope: Scope) -> tuple[str, str] | None:
    if not parts:
        return "steps stands alone.", "Name a step and what of it: steps.fetch.output."
    name = str(parts[0])
    if name not in scope.steps:
        return f"There is no step {name[:60]}.", suggest(name, scope.steps, f"Known: {choices(sorted(scope.steps))}.")
    if name == scope.step and name not in scope.loops:
        return f"The step {name} refers to itself.", "A step sees only steps that ended before it."
    if name not in scope.before and name not in scope.loops:
        return (
            f"The step {name} may not have ended before {scope.step or 'this'}.",
            f"Add {name} to the needs of {scope.step or 'what this stands in'}, directly or through another step.",
        )
    if len(parts) < 2 or parts[1] not in STEP_FIELDS:
        given = f"{parts[1]}"[:60] if len(parts) > 1 else ""
        reason = f"A step has no field {given}." if given else f"steps.{name} stands alone."
        return reason, suggest(
            given, STEP_FIELDS, f"Say what of it: steps.{name}.output{'.' + given if given else ''}."
        )
    return None


def _cel_mend(message: str, scope: Scope) -> str:
    if "undeclared reference to '" in message:
        name = message.partition("'")[2].partition("'")[0].split(".")[0]
        if name in scope.variables:
            return f"Did you mean vars.{name}?"
        if name in scope.steps:
            return f"Did you mean steps.{name}.output?"
        return suggest(
            name, ("vars", "steps", "run"), "Names begin with vars, steps or run; functions are in the guide."
        )
    if "no matching overload" in message:
        return "Make both sides the same type, for example with string(), int() or double()."
    if "nested more than" in message:
        return "Join text with several ${{ }} in it, or compute in a handler."
    if "longer than" in message:
        return "Compute in a handler."
    return "Expressions are CEL: quote text, use && || ! and ==, and no = or and/or."
