"""Compiles values that may hold expressions, and checks what the expressions refer to."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Any

from wfe_engine import plan

from wfe_language.compiler.reading import Reading
from wfe_language.compiler.references import Around, refer
from wfe_language.compiler.secrets import placeholder, text_with
from wfe_language.compiler.types import Types, check
from wfe_language.expressions.environment import MOST_SOURCE, NotCel, Problem
from wfe_language.expressions.functions import FUNCTIONS
from wfe_language.expressions.scan import Hole, Reference, Unclosed, parse_path, references, split
from wfe_language.faults import Where, suggest

#: Expressions that are not plain paths a template may have: bounds what publishing it costs.
MOST_CEL = 2000
#: Variables and steps one of them may refer to: bounds what is copied to evaluate it.
MOST_NAMES = 12

#: Levels of lists and objects in a value.
MOST_LEVELS = 32

_SAID = {
    "BOOL": "true or false", "STRING": "text", "INT": "a whole number", "UINT": "a whole number",
    "DOUBLE": "a number", "LIST": "a list", "MAP": "an object", "NULL": "null",
    "NUMBER": "a number", "TIMESTAMP": "a moment", "DURATION": "a span", "BYTES": "bytes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions at one place of a template may refer to.

    Attributes:
        variables: Declared ones, by name.
        steps: Ids of all steps they could name.
        before: Those of them that have ended by then.
        step: Id of the step they stand in; empty outside of steps.
        within: Ids of the steps around that one, the outermost first.
        locals: Those of item, index, error and revision that mean something here.
        loops: Ids of the loops around; their output is that of the last round.
        siblings: Ids of the steps of the same list that have ended by then.
        follows: The one step this needs; empty when there are none or several.
        sealing: Whether secrets and sensitive variables may stand here, whole or inside text.
        place: Where this is, for a sentence: "in the params of a call".
        types: What is known of the values.
    """

    variables: dict[str, plan.Variable]
    steps: frozenset[str]
    before: Container[str]
    step: str = ""
    within: tuple[str, ...] = ()
    locals: frozenset[str] = frozenset()
    loops: frozenset[str] = frozenset()
    siblings: frozenset[str] = frozenset()
    follows: str = ""
    sealing: bool = False
    place: str = "here"
    types: Types = field(default_factory=lambda: Types({}))

    def at(self, place: str, *, sealing: bool = False) -> Scope:
        """The same names at another place."""
        return replace(self, place=place, sealing=sealing)


@dataclass(slots=True)
class Values:
    """Compiles the values of one template.

    Attributes:
        reading: Gets the faults.
        sealed: Whether a secret or a sensitive variable was met since it was last set to False.
        sealed: Whether a sensitive variable was met since it was last set to False.
        around: Ids of the steps around a step that is in some block, by its id.
    """

    reading: Reading
    sealed: bool = False
    around: Around = dict
    _compiled: dict[tuple[str, bool], tuple[str, list[Problem]]] = field(default_factory=dict)

    def value(self, value: Any, where: Where, scope: Scope, level: int = 0) -> plan.Expression:
        """Any value: a Literal when nothing in it is an expression."""
        if isinstance(value, str):
            return self._string(value, where, scope)
        if isinstance(value, list | dict) and level >= MOST_LEVELS:
            reason = f"Lists and objects are more than {MOST_LEVELS} levels deep."
            self.reading.fault(where, reason, "Make the value flatter.")
            return plan.Literal(None)
        if isinstance(value, list):
            return list_of([self.value(item, (*where, at), scope, level + 1) for at, item in enumerate(value)])
        if isinstance(value, dict):
            return map_of({key: self._entry(key, item, (*where, key), scope, level + 1) for key, item in value.items()})
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
        if known == "NUMBER" and {"INT", "DOUBLE"} & set(types):
            return
        if known and known not in types:
            self.reading.fault(where, f"The expression gives {_SAID.get(known, known.lower())}.", mend)

    def _entry(self, key: str, value: Any, where: Where, scope: Scope, level: int) -> plan.Expression:
        if "${{" in key:
            self.reading.key_fault(where, "A key cannot hold an expression.", "Only values can; write the key itself.")
        return self.value(value, where, scope, level)

    def _type(self, compiled: plan.Expression, scope: Scope) -> str:
        """CEL type of what an expression gives; empty when it is not known."""
        if isinstance(compiled, plan.Cel):
            typed = scope.types.typed(compiled.source, references(compiled.source))
            return self._compiled.get((typed, typed == compiled.source), ("", []))[0]
        if isinstance(compiled, plan.Path):
            if compiled.root == "index":
                return "INT"
            known = scope.types.of(compiled.root, compiled.parts).kind
            return "" if known == "NULL" else known
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
        return text_with(compiled)

    def _hole(self, hole: Hole, text: str, where: Where, scope: Scope) -> plan.Literal | plan.Path | plan.Cel:
        source = hole.source.strip()
        begin = hole.offset + len(hole.source) - len(hole.source.lstrip())
        path = parse_path(source) if len(source) <= MOST_SOURCE else None
        if path is not None:
            self._reference(Reference(path.root, path.parts, 0), where, text, begin, scope, whole=True)
            return placeholder(path.parts) if path.root == "secrets" else path
        found = references(source) if len(source) <= MOST_SOURCE else []
        if not self._compile(source, found, where, text, begin, scope):
            return plan.Cel(source, ())
        for reference in found:
            self._reference(reference, where, text, begin, scope, whole=False)
        roots = {(ref.root, str(ref.parts[0]) if ref.parts else "") for ref in found}
        if len(roots) > MOST_NAMES:
            reason = f"The expression refers to {len(roots)} variables and steps, more than {MOST_NAMES}."
            place = self.reading.positions.inside(where, text, begin)
            self.reading.fault(where, reason, "Make several expressions of it.", place=place)
        return plan.Cel(source, tuple(sorted(roots)))

    def _compile(self, source: str, found: list[Reference], where: Where, text: str, begin: int, scope: Scope) -> bool:
        """Whether an expression compiles; remembers the type it gives."""
        if not source:
            place = self.reading.positions.inside(where, text, begin)
            self.reading.fault(where, "The expression is empty.", "Write one between ${{ and }}.", place=place)
            return False
        typed = scope.types.typed(source, found)
        key = (typed, typed == source)
        if key not in self._compiled:
            if self.reading.full:
                return False
            if len(self._compiled) >= MOST_CEL:
                self.reading.fault(
                    where, f"The template has more than {MOST_CEL} expressions that are not plain paths.",
                    "Compute in a handler, or split the template.",
                )  # fmt: skip
                return False
            try:
                self._compiled[key] = check(source, typed)
            except NotCel as error:
                self._compiled[key] = ("", error.problems)
        kind, problems = self._compiled[key]
        for problem in problems:
            offset = min(problem.offset or 0, len(source))
            place = self.reading.positions.inside(where, text, begin + offset)
            reason = f"The expression does not compile: {problem.message}."
            self.reading.fault(where, reason, _cel_mend(problem.message, scope), place=place)
        if kind.startswith("optional"):
            place = self.reading.positions.inside(where, text, begin)
            mend = "End it with .orValue(...), which says what it gives otherwise."
            self.reading.fault(where, "The expression gives an optional value.", mend, place=place)
        return not problems

    def _reference(
        self, reference: Reference, where: Where, text: str, begin: int, scope: Scope, *, whole: bool
    ) -> None:
        """Faults for a name that means nothing here. `whole`: the reference is the whole expression."""
        problem = refer(reference, scope, self.around, whole=whole)
        if problem is None:
            if reference.root == "run" and reference.parts[0] == "callbacks":
                self.sealed = True
                place = self.reading.positions.inside(where, text, begin + reference.offset)
                self.reading.callback_uses.append((str(reference.parts[1]), where, place))
            self.sealed |= reference.root == "secrets"
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


def _cel_mend(message: str, scope: Scope) -> str:
    if "undeclared reference to '" in message:
        name = message.partition("'")[2].partition("'")[0].split(".")[0]
        if name in scope.variables:
            return f"Did you mean vars.{name}?"
        if name in scope.steps:
            return f"Did you mean steps.{name}.output?"
        if name == "now":
            return "Expressions have no clock; use run.created_at, or hand the moment over as a variable."
        return suggest(
            name,
            ("vars", "steps", "run", "secrets", *FUNCTIONS),
            "Names begin with vars, steps, run or secrets; functions are in the guide.",
        )
    if "does not work on" in message:
        return "Make the types fit, for example with string(), int() or double()."
    if "nested more than" in message:
        return "Join text with several ${{ }} in it, or compute in a handler."
    if "longer than" in message:
        return "Compute in a handler."
    return "Expressions are CEL: quote text, use && || ! and ==, and no = or and/or."
