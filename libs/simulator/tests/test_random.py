"""Random templates with random outcomes: they are valid, every run ends, and the state is the fold of the events."""

from __future__ import annotations

import itertools
import json
from typing import Any

import wfe_language
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wfe_engine.evolve import fold
from wfe_engine.state import decode_state, encode_state
from wfe_simulator import Fails, Gives, Mocks, simulate

CODES = st.sampled_from(["A", "B", "HTTP_STATUS"])
LEAVES = st.one_of(
    st.just({"call": {"handler": "h"}, "retry": {"max_attempts": 2, "initial": "1s"}}),
    st.just({"wait": {"for": "10s"}}),
    st.just({"set": {"x": 1}}),
    st.just({"emit": {"name": "told"}}),
    CODES.map(lambda code: {"fail": {"code": code, "message": "m"}}),
    st.just({"if": "${{ run.epoch > 1 }}", "set": {"x": 1}}),
)


def blocks(steps: Any) -> Any:
    listed = st.lists(steps, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(
            listed, st.sampled_from(["stop", "collect", {"tolerate": 1}]), st.integers(0, 4), st.integers(1, 3)
        ).map(
            lambda g: {"foreach": {"items": list(range(g[2])), "concurrency": g[3], "on_failure": g[1], "steps": g[0]}}
        ),
        st.tuples(listed, listed, st.sampled_from(["stop", "collect"])).map(
            lambda g: {"parallel": {"branches": {"a": g[0], "b": g[1]}, "on_failure": g[2]}}
        ),
        st.tuples(listed, listed, st.booleans()).map(
            lambda g: {
                "switch": {"cases": [{"if": f"${{{{ run.epoch > {int(g[2])} }}}}", "steps": g[0]}], "else": g[1]}
            }
        ),
        st.tuples(listed, st.integers(0, 3), st.sampled_from(["fail", "complete"])).map(
            lambda g: {"loop": {"until": f"${{{{ index >= {g[1]} }}}}", "max": 2, "on_max": g[2], "steps": g[0]}}
        ),
        st.tuples(listed, listed, listed, CODES, st.booleans()).map(
            lambda g: {
                "try": {"steps": g[0], "catch": {"codes": [g[3]], "steps": g[1]}} | ({"finally": g[2]} if g[4] else {})
            }
        ),
    )


TEMPLATES = st.lists(st.recursive(LEAVES, blocks, max_leaves=10), min_size=1, max_size=3)
OUTCOMES = st.lists(
    st.one_of(
        st.builds(Gives, st.integers(), takes=st.floats(0, 30)), st.builds(Fails, CODES, retryable=st.booleans())
    ),
    min_size=1,
    max_size=6,
)


def with_ids(steps: list[Any], ids: itertools.count[int], needs: list[bool]) -> list[Any]:
    """Every step gets an id; some wait for nothing."""

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [step(each) if isinstance(each, dict) else each for each in value]
        return {key: named(each) for key, each in value.items()} if isinstance(value, dict) else value

    def step(given: dict[str, Any]) -> dict[str, Any]:
        if "if" in given and "steps" in given:  # a case
            return named(given)
        no = next(ids)
        free = {"needs": []} if needs[no % len(needs)] else {}
        return {"id": f"s{no}", **free, **named(given)}

    return named(steps)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEMPLATES, OUTCOMES, st.lists(st.booleans(), min_size=1, max_size=5))
def test_every_run_ends(steps, outcomes, needs):
    source = json.dumps({"name": "t", "timeout": "1h", "steps": with_ids(steps, itertools.count(), needs)})
    plan = wfe_language.compile(source)
    log: list[Any] = []

    def observe(decision: Any, now: float) -> None:
        log.extend((event, now) for event in decision.events)
        assert decode_state(encode_state(decision.state)) == decision.state == fold(log)

    result = simulate(plan, {}, Mocks(handlers={"h": outcomes}), observe=observe)
    assert result.status in ("completed", "failed")
    assert (result.error is None) == (result.status == "completed")
    for step in result.steps:
        assert step.status in ("completed", "failed", "skipped", "cancelled"), step
        assert step.ended is not None
    again = simulate(plan, {}, Mocks(handlers={"h": outcomes}))
    assert (again.status, again.took, len(again.events)) == (result.status, result.took, len(result.events))
