"""Reads a file of cases: what a template is started with, what its steps do, and what must come of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wfe_language import Fault, TemplateFaults, load
from wfe_language.compiler.reading import MISSING, Reading
from wfe_language.faults import Where, choices

from wfe_simulator.mocks import Answers, Calls, Decide, Fails, Gives, Mock, Outcome, Silence, Tells

_TOP = ("input", "steps", "handlers", "expect", "begin", "cases")
_EXPECT = ("status", "reason", "output", "error", "steps", "emitted", "takes")
_STEP = ("status", "output", "error", "attempts", "count", "input")
_KINDS = ("output", "echo", "error", "decision", "payload", "failed", "answer", "calls")
_OUTCOME = (*_KINDS, "takes", "comment", "by", "signal", "after")
_ERROR = ("code", "message", "details", "retryable", "retry_after")
_DECISIONS = ("approve", "reject", "revise", "expire")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,62}", re.ASCII)
_MEND = "Write {output: ...}, {echo: true}, {error: HTTP_503}, {decision: approve}, {payload: ...} or a list of them."


class CasesFault(Exception):
    """A file of cases is wrong; `faults` has everything that is."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Case:
    """One run of a template, and what must come of it.

    Attributes:
        name: Empty when the file has just one.
        input: Of the run.
        steps, handlers: See `mocks.Mocks`.
        expect: What must come of it, as written; see `checks.check`.
        begin: Moment the run starts, in RFC 3339; None for the usual one.
    """

    name: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Mock] = field(default_factory=dict)
    handlers: Mapping[str, Mock] = field(default_factory=dict)
    expect: Mapping[str, Any] = field(default_factory=dict)
    begin: str | None = None


def read_cases(source: str | bytes) -> list[Case]:
    """The cases of a YAML or JSON text.

    A file has one case, or several under `cases` by name; what stands beside `cases` holds for each of them, and each
    may say more; an `expect` of its own stands in place of the common one.

    Raises:
        CasesFault: It is wrong somewhere.
    """
    try:
        document, positions = load(source)
    except TemplateFaults as error:
        raise CasesFault(list(error.faults)) from None
    reader = _Reader(Reading(positions))
    given = reader.reading.object(document, (), _TOP, mend="Write steps, input and expect.")
    shared = reader.case("", given, ())
    named = given.get("cases", {})
    if not isinstance(named, dict) or ("cases" in given and not named):
        reader.reading.fault(("cases",), "There are no cases.", "Write cases by name: {good: {input: ...}}.")
        named = {}
    cases = [
        _merged(
            name, shared, reader.case(name, reader.reading.object(case, ("cases", name), _TOP[:-1]), ("cases", name))
        )
        for name, case in named.items()
    ]
    if reader.reading.faults:
        raise CasesFault(reader.reading.sorted())
    return cases or [shared]


def _merged(name: str, shared: Case, own: Case) -> Case:
    return Case(
        name=name,
        input={**shared.input, **own.input},
        steps={**shared.steps, **own.steps},
        handlers={**shared.handlers, **own.handlers},
        expect=own.expect or shared.expect,
        begin=own.begin or shared.begin,
    )


class _Reader:
    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def case(self, name: str, given: dict[str, Any], where: Where) -> Case:
        return Case(
            name=name,
            input=self._map(given, where, "input"),
            steps={
                key: self._mock(mock, (*where, "steps", key)) for key, mock in self._map(given, where, "steps").items()
            },
            handlers={
                key: self._mock(mock, (*where, "handlers", key))
                for key, mock in self._map(given, where, "handlers").items()
            },
            expect=self._expect(given, where),
            begin=self._text(given, where, "begin"),
        )

    def _map(self, given: dict[str, Any], where: Where, key: str) -> dict[str, Any]:
        value = given.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.reading.object(value, (*where, key), (), mend="Write names and values.")
            return {}
        return value

    def _text(self, given: dict[str, Any], where: Where, key: str) -> str | None:
        if key not in given:
            return None
        text = self.reading.text(given[key], (*where, key), "Write a moment: 2030-01-31T12:00:00Z.")
        return text if isinstance(text, str) else None

    def _mock(self, value: Any, where: Where) -> Mock:
        if isinstance(value, list):
            if not value:
                self.reading.fault(where, "There is no outcome.", _MEND)
            return [self._outcome(each, (*where, at)) for at, each in enumerate(value)]
        return self._outcome(value, where)

    def _outcome(self, value: Any, where: Where) -> Outcome:
        if isinstance(value, str) and value in _DECISIONS:
            return Decide(value)
        if value == "timeout":
            return Silence()
        given = self.reading.object(value, where, _OUTCOME, mend=_MEND)
        kinds = [key for key in _KINDS if key in given]
        if isinstance(value, dict) and len(kinds) != 1:
            self.reading.key_fault(where, f"An outcome has exactly one of {choices(_KINDS)}.", _MEND)
        takes = self._seconds(given, where, "takes")
        if "error" in given:
            return self._fails(given["error"], (*where, "error"), takes)
        if "payload" in given or "failed" in given:
            payload = given.get("payload", given.get("failed"))
            after = self._seconds(given, where, "after")
            return Tells(str(given.get("signal", "")), payload, failed="failed" in given, after=after)
        if "answer" in given:
            return Answers(given["answer"], takes=takes)
        if "calls" in given:
            return Calls(self._calls(given["calls"], (*where, "calls")), takes=takes)
        if "decision" in given:
            decision = self.reading.choice(given["decision"], (*where, "decision"), _DECISIONS)
            return Decide(
                str(decision),
                comment=str(given.get("comment", "")),
                by=str(given.get("by", "somebody")),
                after=self._seconds(given, where, "after"),
            )
        return Gives(given.get("output"), echo=given.get("echo") is True, takes=takes)

    def _calls(self, value: Any, where: Where) -> list[tuple[str, Any]]:
        mend = "Write a list of calls: [{lookup: {order: 7}}]."
        found = []
        for at, call in enumerate(self.reading.list(value, where, mend)):
            if isinstance(call, dict) and len(call) == 1:
                found += list(call.items())
            else:
                self.reading.fault((*where, at), "A call is one name with its arguments.", mend)
        return found

    def _fails(self, value: Any, where: Where, takes: float) -> Fails:
        if isinstance(value, str):
            self.reading.name(value, where, "The failure code", _CODE, "Codes look like HTTP_503.")
            return Fails(value, takes=takes)
        given = self.reading.object(value, where, _ERROR, required=("code",), mend="Write error: HTTP_503.")
        if "code" in given:
            self.reading.name(given["code"], (*where, "code"), "The failure code", _CODE, "Codes look like HTTP_503.")
        return Fails(
            str(given.get("code")),
            message=str(given.get("message", "it was mocked to fail")),
            details=self._map(given, where, "details"),
            retryable=given.get("retryable", True) is True,
            retry_after=self._seconds(given, where, "retry_after") if "retry_after" in given else None,
            takes=takes,
        )

    def _seconds(self, given: dict[str, Any], where: Where, key: str) -> float:
        span = self.reading.optional(given, where, key, lambda v, w: self.reading.span(v, w, least=0))
        return span if isinstance(span, float) else 0.0

    def _expect(self, given: dict[str, Any], where: Where) -> dict[str, Any]:
        if "expect" not in given:
            return {}
        inner = (*where, "expect")
        expect = self.reading.object(given["expect"], inner, _EXPECT, mend="Write {status: completed}.")
        self.reading.optional(
            expect, inner, "status", lambda v, w: self.reading.choice(v, w, ("completed", "failed", "cancelled"))
        )
        for path, wanted in self._map(expect, inner, "steps").items():
            if isinstance(wanted, dict):
                self.reading.object(wanted, (*inner, "steps", path), _STEP)
        if "takes" in expect and self.reading.span(expect["takes"], (*inner, "takes"), least=0) is MISSING:
            return {}
        return expect
