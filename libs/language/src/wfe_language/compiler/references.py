"""Checks what a name in an expression refers to, and whether that is known where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from wfe_engine import plan

from wfe_language.compiler.secrets import refer_secret
from wfe_language.expressions.scan import LOCALS, Reference
from wfe_language.faults import choices, suggest

if TYPE_CHECKING:
    from wfe_language.compiler.values import Scope

#: Gives the ids of the steps around a step that is in some block, by its id, the outermost first.
Around = Callable[[], Mapping[str, tuple[str, ...]]]

STEP_FIELDS = ("output", "status", "error", "attempts")
ERROR_FIELDS = ("code", "message", "step", "details")
REVISION_FIELDS = ("reason", "round", "by", "payload", "approval")
RUN_FIELDS = ("id", "created_at", "created_by", "labels", "epoch", "template")


def ids_around(value: Any) -> dict[str, tuple[str, ...]]:
    """Ids of the steps around each step that is inside of others, the outermost first; by its id."""
    found: dict[str, tuple[str, ...]] = {}
    waiting: list[tuple[Any, tuple[str, ...]]] = [(value, ())]
    while waiting:
        here, outer = waiting.pop()
        if isinstance(here, list):
            waiting.extend((each, outer) for each in here)
        elif isinstance(here, dict):
            id_ = here.get("id")
            kind = next((key for key in here if key in plan.CONTAINERS), None)
            if isinstance(id_, str) and any(key in plan.KINDS for key in here):
                if outer:
                    found.setdefault(id_, outer)
                outer = (*outer, id_) if kind else outer
                waiting.extend([(here[kind], outer)] if kind else [])
            else:
                waiting.extend((each, outer) for key, each in here.items() if key not in ("items", "output"))
    return found


def refer(reference: Reference, scope: Scope, around: Around, *, whole: bool) -> tuple[str, str] | None:
    """Reason and mend of what is wrong with a reference; None when nothing is."""
    root, parts = reference.root, reference.parts
    if root in LOCALS:
        return _refer_local(root, parts, scope)
    if root == "vars":
        return _refer_variable(parts, scope, whole=whole) or _refer_key(reference, scope)
    if root == "steps":
        return _refer_step(parts, scope, around) or _refer_key(reference, scope)
    if root == "secrets":
        return refer_secret(parts, scope.place, allowed=scope.sealing, whole=whole)
    if not parts:
        return (
            "run stands alone.",
            f"Name one of its fields: {choices(f'run.{name}' for name in RUN_FIELDS)}.",
        )
    if parts[0] == "callbacks":
        return _refer_callback(parts, scope, whole=whole)
    if parts[0] not in RUN_FIELDS:
        return f"A run has no field {str(parts[0])[:60]}.", suggest(
            str(parts[0]), RUN_FIELDS, f"Known: {choices(RUN_FIELDS)}."
        )
    return None


def _refer_callback(parts: tuple[str | int, ...], scope: Scope, *, whole: bool) -> tuple[str, str] | None:
    if len(parts) != 2 or not whole:
        return (
            "The URL of a callback is a plain path.",
            "Write ${{ run.callbacks.NAME }}, with the name a wait_for waits for.",
        )
    if not scope.sealing:
        return (
            f"The URL of a callback cannot be used {scope.place}.",
            "It may only stand in the params of steps that an executor runs.",
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
            "Sensitive values may only stand in the params of steps that an executor runs.",
        )
    if not whole or len(parts) > 1:
        return (
            f"The sensitive variable {name} is used in more than a plain path.",
            f"Use it whole, alone or inside text: ${{{{ vars.{name} }}}}.",
        )
    return None


def _refer_step(parts: tuple[str | int, ...], scope: Scope, around: Around) -> tuple[str, str] | None:
    if not parts:
        return "steps stands alone.", "Name a step and what of it: steps.fetch.output."
    name = str(parts[0])
    if name not in scope.steps:
        outer = around().get(name)
        if outer is not None:
            return _refer_inside(name, outer, scope)
        return f"There is no step {name[:60]}.", suggest(name, scope.steps, f"Known: {choices(sorted(scope.steps))}.")
    if name == scope.step and name not in scope.loops:
        return f"The step {name} refers to itself.", "A step sees only steps that ended before it."
    if name not in scope.before and name not in scope.loops:
        return _refer_too_early(name, scope, around)
    if len(parts) < 2 or parts[1] not in STEP_FIELDS:
        given = f"{parts[1]}"[:60] if len(parts) > 1 else ""
        reason = f"A step has no field {given}." if given else f"steps.{name} stands alone."
        return reason, suggest(
            given, STEP_FIELDS, f"Say what of it: steps.{name}.output{'.' + given if given else ''}."
        )
    return None


def _refer_too_early(name: str, scope: Scope, around: Around) -> tuple[str, str]:
    """What is wrong with a reference to a step that may not have ended yet."""
    this = scope.step or "this"
    if name in scope.within:
        return f"The step {name} is around {this} and has not ended.", "Hand over what is needed with item or vars."
    # The step that must wait is the one of the same block.
    depth = len(around().get(name, ()))
    late = scope.within[depth] if depth < len(scope.within) else scope.step or "what this stands in"
    return (
        f"The step {name} may not have ended before {late if late in scope.within else this}.",
        f"Add {name} to the needs of {late}, directly or through another step.",
    )


def _refer_inside(name: str, outer: tuple[str, ...], scope: Scope) -> tuple[str, str]:
    """What is wrong with a reference to a step that is inside of others, the outermost first."""
    seen = next((id_ for id_ in reversed(outer) if id_ in scope.steps), "")
    reason = f"The step {name} is inside of the step {outer[-1] or '?'}."
    if not seen or (seen not in scope.before and seen not in scope.loops):
        return reason, "Blocks of steps do not see into each other; use its output behind the step it is inside of."
    return reason, f"From outside only what that step gives is seen: steps.{seen}.output."


def _refer_key(reference: Reference, scope: Scope) -> tuple[str, str] | None:
    """What is wrong with a reference to a key that the value surely does not have."""
    found = scope.types.missing(reference)
    if found is None:
        return None
    key, known = found[0][:60], found[1]
    owner = ".".join([reference.root, *map(str, reference.parts[: reference.parts.index(found[0])])])
    if known.kind == "NULL":
        return f"{owner} is null and has no {key}.", "Steps of this kind give nothing."
    return f"There is no {key} in {owner}.", suggest(key, known.keys or (), f"There is {choices(known.keys or ())}.")
