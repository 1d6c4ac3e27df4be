"""Which kind a step is, and what is wrong with its keys."""

from __future__ import annotations

from typing import Any

from wfe_engine import plan

from wfe_language.compiler.kinds import KINDS, LATER_KINDS
from wfe_language.compiler.reading import Reading
from wfe_language.compiler.structure import STRUCTURES
from wfe_language.faults import Where, choices, nearest

#: Keys of a step of any kind.
COMMON = ("id", "description", "if", "needs", "retry", "timeout", "queue", "compensate", "approved_by")
#: Every kind.
ALL = (*KINDS, *STRUCTURES, "agent")


def kind_of(reading: Reading, value: Any, where: Where) -> str:
    """The one kind of a step; empty when it has none that runs. Faults for every key of the step."""
    if not isinstance(value, dict):
        reading.object(value, where, (), mend="Write a step: {id: first, call: {handler: echo}}.")
        return ""
    if "id" not in value:
        reading.key_fault(where, "The step has no id.", "Add `id:`, a name other steps can refer to.")
    found = [key for key in value if key in plan.KINDS]
    later = [key for key in value if key in LATER_KINDS]
    known = (*COMMON, *ALL, *LATER_KINDS)
    meant = False  # an unknown key is probably a kind, misspelt
    for key in value:
        inner = (*where, key)
        if key in later:
            reading.key_fault(inner, f"This version does not run {key} steps yet.", f"It runs {choices(ALL)}.")
        elif key not in known:
            near = nearest(key, known)
            meant |= near in ALL
            mend = f"Did you mean {near}?" if near else f"Known are {choices(COMMON)}, and one of {choices(ALL)}."
            reading.key_fault(inner, f"The key {key[:60]} is not known in a step.", mend)
    if len(found) + len(later) > 1:
        both = [*found, *later]
        reading.key_fault((*where, both[1]), f"The step has two kinds: {choices(both)}.", "Make two steps of it.")
    elif not found and not later and not meant:
        reading.key_fault(where, "The step does not say what it does.", f"Add one of {choices(ALL)}.")
    return found[0] if found else ""
