"""Runs in memory, for tests."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
from wfe_engine.plan import Clocks, Literal, MapOf, Path, Retry

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from memory_run import Run, plan, step


@pytest.fixture
def make_step() -> Callable[..., dict[str, Any]]:
    return step


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """make_run(step, step, …, variables=…, output=…): a run of these steps, not started."""

    def make(*steps: dict[str, Any], variables: dict[str, Any] | None = None, env: Any = None, **more: Any) -> Run:
        return Run(plan(*steps, **more), variables, **(env or {}))

    return make


@pytest.fixture
def make_run_of() -> Callable[..., Run]:
    """make_run_of(plan): a run of it, not started."""
    return Run


@pytest.fixture
def lib() -> Any:
    """Names tests need without importing from one another."""

    class Lib:
        Clocks, Literal, MapOf, Path, Retry = Clocks, Literal, MapOf, Path, Retry

    return Lib
