"""Reads the kinds that choose among blocks: switch by conditions, try by failures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as with_fields
from wfe_engine import plan

from wfe_language.compiler.blocks import MOST_BLOCKS, Blocks, Structure, read_block, read_body
from wfe_language.compiler.reading import Reading
from wfe_language.compiler.values import Scope
from wfe_language.faults import Where

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,62}\*?|\*", re.ASCII)
_CODES_MEND = "Write codes of failures: [HTTP_503, ATTEMPT_TIMEOUT] or [HTTP_*]."
#: Failures of the run as a whole, which no step can take.
_OF_THE_RUN = ("RUN_TIMEOUT",)


def read_switch(blocks: Blocks, value: Any, where: Where, scope: Scope, path: str) -> Structure:
    """Cases in order; the first that is met is run."""
    reading = blocks.reading
    mend = 'Write {cases: [{if: "${{ ... }}", steps: [...]}], else: [...]}.'
    given = reading.object(value, where, ("value", "cases", "else"), required=("cases",), mend=mend)
    subject = _subject(blocks, given, where, scope)
    cases = reading.list(given.get("cases", []), (*where, "cases"), mend) if "cases" in given else []
    if isinstance(given.get("cases"), list) and not 1 <= len(cases) <= MOST_BLOCKS:
        reading.fault((*where, "cases"), f"There are {len(cases)} cases.", f"Write 1 to {MOST_BLOCKS}.")
    found = []
    seen = _Seen(reading)
    for at, case in enumerate(cases[:MOST_BLOCKS]):
        inner = (*where, "cases", at)
        seen.block(inner)
        entry = reading.object(case, inner, ("if", "is", "steps", "output"), required=("steps",), mend=mend)
        condition = _case(blocks, entry, inner, scope, subject, seen)
        block = read_body(blocks, entry, inner, scope, f"{path}/{at + 1}/", name=str(at + 1), role="case")
        found.append(with_fields(block, condition=condition))
    if "else" in given:
        seen.block((*where, "else"))
        found.append(
            read_block(blocks, given["else"], (*where, "else"), scope, f"{path}/else/", name="else", role="else")
        )
    if "value" in given and not any(isinstance(case, dict) and "is" in case for case in cases):
        reading.key_fault((*where, "value"), "No case compares with the value.", "Add `is:` to cases, or remove it.")
    return plan.Literal({}), tuple(found)


class _Seen:
    """What the cases of a switch so far take, to find those that are never reached."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.everything: Where | None = None
        self.values: dict[str, Where] = {}

    def block(self, where: Where) -> None:
        """Comes to a case or an else."""
        if self.everything is not None:
            line = self.reading.positions.value(self.everything).line
            self.reading.key_fault(
                where,
                f"This is never reached: the case on line {line} is always met.",
                "Put that case last, or use else.",
            )
            self.everything = None  # once is enough

    def value(self, item: Any, where: Where) -> None:
        """Comes to a value a case compares with."""
        key = json.dumps(item)
        if key in self.values:
            line = self.reading.positions.value(self.values[key]).line
            self.reading.fault(where, f"{key[:60]} is there twice; the other is on line {line}.", "Keep one of them.")
        self.values.setdefault(key, where)


#: Stands for the value of a switch that is wrong: the fault is known, its cases are not compiled.
_BROKEN = ""


def _subject(blocks: Blocks, given: dict[str, Any], where: Where, scope: Scope) -> str | None:
    """The expression cases compare with; None without one, `_BROKEN` when it is wrong."""
    if "value" not in given:
        return None
    reading, inner, before = blocks.reading, (*where, "value"), len(blocks.reading.faults)
    compiled = blocks.values.value(given["value"], inner, scope.at("in a switch"))
    if not isinstance(compiled, plan.Path | plan.Cel):
        if len(reading.faults) == before:
            reading.fault(inner, "The value of a switch is one expression.", 'Write value: "${{ vars.kind }}".')
        return _BROKEN
    return compiled.source if len(reading.faults) == before else _BROKEN


def _case(
    blocks: Blocks, entry: dict[str, Any], where: Where, scope: Scope, subject: str | None, seen: _Seen
) -> plan.Expression | None:
    reading = blocks.reading
    if not entry:
        return None
    if ("if" in entry) == ("is" in entry):
        reading.key_fault(where, "A case has exactly one of if and is.", 'Write if: "${{ ... }}", or is: with value:.')
        return None
    if "if" in entry:
        condition = blocks.values.condition(entry["if"], (*where, "if"), scope.at("in a case"))
        if condition == plan.Literal(value=True):
            seen.everything = where
        return condition
    inner = (*where, "is")
    several = isinstance(entry["is"], list)
    wanted = entry["is"] if several else [entry["is"]]
    if several and not wanted:
        reading.fault(inner, "There is nothing to compare with.", "Write is: urgent or is: [urgent, high].")
        return None
    before = len(reading.faults)
    for at, item in enumerate(wanted):
        place = (*inner, at) if several else inner
        if not isinstance(item, str | int | float | bool | None) or (isinstance(item, str) and "${{" in item):
            reading.fault(
                place, "A case is compared with plain values.", 'Write is: urgent; for more, if: "${{ ... }}".'
            )
        else:
            seen.value(item, place)
    if subject is None:
        reading.fault(inner, "There is no value to compare with.", 'Add value: "${{ ... }}" beside cases.')
    if not subject or len(reading.faults) > before:
        return None
    literals = ", ".join(json.dumps(item, ensure_ascii=False) for item in wanted)
    return blocks.values.condition(f"${{{{ ({subject}) in [{literals}] }}}}", inner, scope.at("in a case"))


def read_try(blocks: Blocks, value: Any, where: Where, scope: Scope, path: str) -> Structure:
    """A body, what takes its failures, and what is run in any case."""
    reading = blocks.reading
    mend = "Write {steps: [...], catch: [{codes: [HTTP_503], steps: [...]}], finally: [...]}."
    given = reading.object(value, where, ("steps", "output", "catch", "finally"), required=("steps",), mend=mend)
    if isinstance(value, dict) and not {"catch", "finally"} & set(given):
        reading.key_fault(where, "A try has a catch, a finally, or both.", mend)
    found = [read_body(blocks, given, where, scope, f"{path}/body/", name="body")]
    inside = replace(scope, locals=scope.locals | {"error"})
    given_catch = given.get("catch", [])
    several = isinstance(given_catch, list)
    catches = given_catch if several else [given_catch]
    if "catch" in given and not 1 <= len(catches) <= MOST_BLOCKS:
        reading.fault((*where, "catch"), f"There are {len(catches)} catches.", f"Write 1 to {MOST_BLOCKS}.")
    taken = _Taken(reading)
    for at, catch in enumerate(catches[:MOST_BLOCKS]):
        inner = (*where, "catch", at) if several else (*where, "catch")
        entry = reading.object(catch, inner, ("codes", "steps", "output"), required=("steps",), mend=mend)
        name = "catch" if at == 0 else f"catch-{at + 1}"
        block = read_body(blocks, entry, inner, inside, f"{path}/{name}/", name=name, role="catch")
        found.append(with_fields(block, codes=taken.catch(entry, inner)))
    if "finally" in given:
        last, place = given["finally"], (*where, "finally")
        if isinstance(last, dict) and "output" in last:
            reading.key_fault((*place, "output"), "Nobody sees the output of a finally.", "Remove it.")
        found.append(read_block(blocks, last, place, inside, f"{path}/finally/", name="finally", role="finally"))
    return plan.Literal({}), tuple(found)


class _Taken:
    """What the catches of a try so far take, to find those that are never reached."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.patterns: dict[str, Where] = {}

    def catch(self, entry: dict[str, Any], where: Where) -> tuple[str, ...] | None:
        """Comes to a catch; the codes it takes, None for all."""
        if "*" in self.patterns:
            line = self.reading.positions.value(self.patterns["*"]).line
            reason = f"This is never reached: the catch on line {line} takes every failure."
            self.reading.key_fault(where, reason, "Put that catch last.")
        if "codes" not in entry:
            self.patterns.setdefault("*", where)
            return None
        inner = (*where, "codes")
        codes = self.reading.list(entry["codes"], inner, _CODES_MEND)
        if isinstance(entry["codes"], list) and not codes:
            self.reading.fault(inner, "There are no codes.", "Leave codes out to take every failure.")
        for at, code in enumerate(codes):
            self._code(code, (*inner, at))
        return tuple(code for code in codes if isinstance(code, str))

    def _code(self, code: Any, where: Where) -> None:
        reading = self.reading
        if not isinstance(reading.name(code, where, "The code", _CODE, _CODES_MEND), str):
            return
        if code in _OF_THE_RUN:
            reading.fault(where, f"{code} ends the whole run and cannot be caught.", "Remove it.")
        covering = next((known for known in self.patterns if known != "*" and _covers(known, code)), None)
        if covering is not None:
            line = reading.positions.value(self.patterns[covering]).line
            said = f"{code} is there twice; the other" if covering == code else f"{code} is taken by {covering}, which"
            reading.fault(where, f"{said} is on line {line}.", "Remove it, or put the narrower code first.")
        self.patterns.setdefault(code, where)


def _covers(pattern: str, code: str) -> bool:
    return code.startswith(pattern[:-1]) if pattern.endswith("*") else code == pattern
