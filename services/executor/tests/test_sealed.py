from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from executor_fakes import FakeScheduler, lease
from wfe_bus.messages import SEALED
from wfe_executor.outputs import StepFailed
from wfe_executor.sealed import Redactor, unsealed

CANARY = 'can"ary/töken 7'


def sealed(*parts: Any) -> dict[str, Any]:
    return {SEALED: list(parts)}


def test_placeholders_keep_types_or_join_to_text() -> None:
    values = {"a": "x", "n": 7, "o": {"k": [1]}}
    request = {
        "one": sealed({"var": "n"}), "object": sealed({"var": "o"}), "list": [sealed("Bearer ", {"var": "a"})],
        "mixed": sealed({"var": "n"}, "-", {"var": "o"}), "text": sealed("just text"), "plain": {"var": "a"},
    }  # fmt: skip
    assert unsealed(request, values) == {
        "one": 7, "object": {"k": [1]}, "list": ["Bearer x"], "mixed": '7-{"k":[1]}', "text": "just text",
        "plain": {"var": "a"},
    }  # fmt: skip
    assert SEALED in request["one"], "the request itself is left alone"


@pytest.mark.parametrize("bad", [{SEALED: "x"}, {SEALED: []}, {SEALED: [3]}, {SEALED: [{"var": "no"}]},
                                 {SEALED: ["a", {"x": 1}]}, {SEALED: [{"var": 1}]},
                                 {SEALED: ["a"], "b": 1}])  # fmt: skip
def test_placeholders_of_another_shape_fail_the_step(bad: dict[str, Any]) -> None:
    with pytest.raises(StepFailed) as caught:
        unsealed({"deep": [bad]}, {"a": 1})
    assert caught.value.failure.code == "SEALED_INVALID"


def test_the_redactor_knows_other_spellings_and_leaves_short_ones() -> None:
    redactor = Redactor({"a": CANARY, "b": {"c": ["secret", "abc"]}, "n": 123456, "long": "secret-and-more"})
    assert redactor.text(f"x{CANARY}y") == "x[redacted]y"
    assert redactor.text(json.dumps(CANARY)) == '"[redacted]"'
    assert redactor.text("q=can%22ary%2Ft%C3%B6ken+7") == "q=[redacted]"
    assert redactor.text("secret-and-more") == "[redacted]"
    assert redactor.value({"secret": ["abc", 123456]}) == {"[redacted]": ["abc", 123456]}


@pytest.mark.parametrize("name", ["leak", "sync_leak"])
async def test_sealed_values_reach_the_handler_and_nobody_else(
    scheduler: FakeScheduler, start: Any, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    executor = await start(sync=name == "sync_leak")

    def step(**extra: Any) -> Any:
        value = {
            "auth": sealed("Bearer ", {"var": "token"}, " ", {"var": "plain"}), "number": sealed({"var": "number"}),
            "object": sealed({"var": "object"}),
        }  # fmt: skip
        request = msgspec.json.encode({"handler": name, "input": value | extra})
        made = lease(request=request, sealed=True)
        scheduler.values[made.run] = {
            "token": CANARY,
            "plain": "plain-canary",
            "number": 42,
            "object": {"k": "inner-secret"},
        }
        return made

    good, bad = step(seconds=0.25), step(**{"raise": True})
    await scheduler.hand(executor.id, good, bad)
    outcome = await scheduler.outcome(good)
    said = json.loads(outcome.output)
    assert said["said"] == "Bearer [redacted] [redacted]"
    if name == "leak":
        assert said["Bearer [redacted] [redacted]"] == [42, "ok"]
        assert said["typed"] == {"k": "[redacted]"}
        assert any(beat.progress for beat in scheduler.beats)
    failure = (await scheduler.outcome(bad)).failure
    assert "[redacted]" in failure.message
    everything = repr(scheduler.reports) + repr(scheduler.beats) + "".join(capsys.readouterr())
    assert "handler failed" in everything
    for secret in (CANARY, "töken", "plain-canary", "inner-secret"):
        assert secret not in everything


async def test_a_lost_lease_does_not_start(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("echo", sealed({"var": "a"}), sealed=True)
    scheduler.stale.add(step.run)
    await scheduler.hand(executor.id, step)
    await scheduler.until(lambda: scheduler.beats and not list(executor.slots))
    assert step.run not in scheduler.outcomes
