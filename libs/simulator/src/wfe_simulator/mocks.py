"""What mocked steps do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt of a step, as an executor would get it.

    Attributes:
        path: Of the step: its id, behind the ids of the steps and the names of the blocks around it.
        iteration: Rounds it is in, from the outside in, joined by dots; empty outside of loops.
        kind: http, call, …
        given: What its params evaluated to: {"handler", "input"} of a call.
        attempt: 1 and up.
    """

    path: str
    iteration: str
    kind: str
    given: Any
    attempt: int

    @property
    def handler(self) -> str:
        """Of a call; empty otherwise."""
        return str(self.given.get("handler", "")) if self.kind == "call" else ""

    @property
    def input(self) -> Any:
        """Of a call: its input. Otherwise all that it is given."""
        return self.given.get("input") if self.kind == "call" else self.given


@dataclass(frozen=True, slots=True)
class Gives:
    """The attempt succeeds.

    Attributes:
        output: What it gives.
        echo: It gives its own input instead.
        takes: Seconds.
    """

    output: Any = None
    echo: bool = False
    takes: float = 0.0


@dataclass(frozen=True, slots=True)
class Fails:
    """The attempt fails.

    Attributes:
        retryable: Whether another attempt can help.
        retry_after: Seconds the other side asks to wait.
        takes: Seconds.
    """

    code: str
    message: str = "it was mocked to fail"
    details: Mapping[str, Any] = field(default_factory=dict)
    retryable: bool = True
    retry_after: float | None = None
    takes: float = 0.0


@dataclass(frozen=True, slots=True)
class Decide:
    """Somebody decides a gate, or nobody does.

    Attributes:
        outcome: approve, reject, revise or expire.
        by: Who.
        after: Seconds after the gate opened; a gate that expires before that does.
    """

    outcome: str
    comment: str = ""
    by: str = "somebody"
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Tells:
    """Something comes that a wait_for waits for: a signal, or the answer to its callback.

    Attributes:
        name: Of the signal; empty for the callback, or for the first signal of a step without one.
        payload: What is told.
        failed: A callback that says it failed; the payload has code and message.
        after: Seconds after the step began to wait.
    """

    name: str = ""
    payload: Any = None
    failed: bool = False
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """The model of an agent is done.

    Attributes:
        value: What it says; of an agent with a schema, the value.
        takes: Seconds.
    """

    value: Any = ""
    takes: float = 0.0


@dataclass(frozen=True, slots=True)
class Calls:
    """The model of an agent calls tools.

    Attributes:
        calls: Names and arguments.
        takes: Seconds.
    """

    calls: Sequence[tuple[str, Any]]
    takes: float = 0.0


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing comes: a wait_for times out."""


Outcome: TypeAlias = Gives | Fails | Decide | Tells | Silence | Answers | Calls
_OUTCOMES = Gives | Fails | Decide | Tells | Silence | Answers | Calls
_ADD = {"approval": "decision: approve", "wait_for": "payload: ...", "model": "answer: ..."}
#: One outcome for always; several, one after the other, the last again and again; or a function of the attempt, whose
#: result is the output unless it is an outcome itself.
Mock: TypeAlias = Outcome | Sequence[Outcome] | Callable[[Request], Any]


class MockMissing(Exception):
    """A step was reached that nothing says the outcome of."""

    def __init__(self, path: str, iteration: str, kind: str) -> None:
        where = f"{path}[{iteration}]" if iteration else path
        mend = _ADD.get(kind, "output: ...")
        super().__init__(f"the {kind} step {where} has no mock; add it: {path}: {{{mend}}}")
        self.path = path
        self.iteration = iteration


class Mocks:
    """Finds what a step does.

    Args:
        steps: By path; `path[iteration]` for one iteration only, which goes first.
        handlers: By handler, for calls that are not among the steps.
    """

    def __init__(self, steps: Mapping[str, Mock] | None = None, handlers: Mapping[str, Mock] | None = None) -> None:
        self._steps = dict(steps or {})
        self._handlers = dict(handlers or {})
        self._used: dict[str, int] = {}

    def outcome(self, request: Request) -> Outcome:
        """What happens at an attempt, or at a gate.

        Raises:
            MockMissing: Nothing says it.
        """
        for key, mock in (
            (f"{request.path}[{request.iteration}]", self._steps.get(f"{request.path}[{request.iteration}]")),
            (request.path, self._steps.get(request.path)),
            (f"handler {request.handler}", self._handlers.get(request.handler) if request.handler else None),
        ):
            if mock is not None:
                return self._of(key, mock, request)
        raise MockMissing(request.path, request.iteration, request.kind)

    def _of(self, key: str, mock: Mock, request: Request) -> Outcome:
        if isinstance(mock, _OUTCOMES):
            return mock
        if isinstance(mock, Sequence):
            used = self._used[key] = self._used.get(key, -1) + 1
            return mock[min(used, len(mock) - 1)]
        given = mock(request)
        return given if isinstance(given, _OUTCOMES) else Gives(given)

    def unused(self, paths: set[str]) -> list[str]:
        """Mocks of steps that are not in the template."""
        return [key for key in self._steps if key.partition("[")[0] not in paths]
