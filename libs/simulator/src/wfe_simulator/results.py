"""What a simulated run came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wfe_engine.events import Event


@dataclass(slots=True)
class StepResult:
    """One step at one iteration.

    Attributes:
        no: Number in the order of entering.
        path, iteration, kind: See `mocks.Request`.
        status: completed, failed, skipped, cancelled, …
        attempts: That reported.
        input: What its params evaluated to; None when that is not kept.
        output: What it gave.
        error: Why it failed: {"code", "message", …}; of a step that went on after failures, those.
        entered, ended: Seconds since the run began; ended is None while it is live.
    """

    no: int
    path: str
    iteration: str
    kind: str
    status: str
    attempts: int = 0
    input: Any = None
    output: Any = None
    error: Any = None
    entered: float = 0.0
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A simulated run.

    Attributes:
        status: completed, failed or cancelled.
        reason: Short code of why, e.g. approval_rejected.
        output: Of a completed run.
        error: Of a failed one: {"code", "message", "step", …}.
        steps: In the order of entering.
        events: The whole log, with the moment of each in seconds since the run began.
        emitted: What emit steps told: (name, data).
        took: Seconds of the virtual clock.
    """

    status: str
    reason: str
    output: Any
    error: Any
    steps: list[StepResult]
    events: list[tuple[Event, float]]
    emitted: list[tuple[str, Any]] = field(default_factory=list)
    took: float = 0.0

    def all(self, path: str) -> list[StepResult]:
        """Every time a step was entered."""
        return [step for step in self.steps if step.path == path]

    def step(self, path: str, iteration: str | None = None) -> StepResult:
        """The last time a step was entered, in an iteration if one is named.

        Raises:
            KeyError: It was not.
        """
        found = [step for step in self.all(path) if iteration is None or step.iteration == iteration]
        if not found:
            raise KeyError(path if iteration is None else f"{path}[{iteration}]")
        return found[-1]
