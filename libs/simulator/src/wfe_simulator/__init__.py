"""Runs templates in memory: the engine's own core, mocked steps, a clock that jumps. For tests of templates."""

from __future__ import annotations

from wfe_simulator.cases import Case, CasesFault, read_cases
from wfe_simulator.checks import Report, check, run_case
from wfe_simulator.mocks import Answers, Calls, Decide, Fails, Gives, Mock, MockMissing, Mocks, Request, Silence, Tells
from wfe_simulator.results import Result, StepResult
from wfe_simulator.world import Endless, simulate

__all__ = [
    "Answers",
    "Calls",
    "Case",
    "CasesFault",
    "Decide",
    "Endless",
    "Fails",
    "Gives",
    "Mock",
    "MockMissing",
    "Mocks",
    "Report",
    "Request",
    "Result",
    "Silence",
    "StepResult",
    "Tells",
    "check",
    "read_cases",
    "run_case",
    "simulate",
]
