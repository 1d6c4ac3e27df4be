"""Runs templates and holds the engine to its word: the stored state is the fold of the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import wfe_language
from wfe_engine.decide import Decision
from wfe_engine.events import decode_event, encode_event
from wfe_engine.evolve import fold
from wfe_engine.state import decode_state, encode_state
from wfe_simulator import Mock, Mocks, Result, simulate


@pytest.fixture
def run() -> Callable[..., Result]:
    """run(steps, mocks, handlers=…, given=…, top=…): simulates a template of these steps, checking every decision."""

    def go(
        steps: str,
        mocks: dict[str, Mock] | None = None,
        *,
        handlers: dict[str, Mock] | None = None,
        given: dict[str, Any] | None = None,
        top: str = "",
        fold_every: int = 1,
    ) -> Result:
        source = f"name: t\n{top}steps:\n" + "".join(f"  {line}\n" for line in steps.strip("\n").split("\n"))
        log: list[tuple[Any, float]] = []
        count = 0

        def observe(decision: Decision, now: float) -> None:
            nonlocal count
            count += 1
            log.extend((decode_event(event.TYPE, encode_event(event)), now) for event in decision.events)
            assert decision.state.seq == len(log)
            assert decode_state(encode_state(decision.state)) == decision.state
            if count % fold_every == 0 or decision.state.status == "completed":
                assert fold(log) == decision.state

        return simulate(wfe_language.compile(source), given, Mocks(mocks, handlers), observe=observe)

    return go
