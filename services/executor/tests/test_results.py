"""Large inputs are fetched and large outputs stored part by part, under the lease's fence."""

from __future__ import annotations

import json
from typing import Any

from executor_fakes import FakeScheduler, lease
from wfe_bus.messages import PART_BYTES, REPORT_BYTES


async def test_a_large_output_is_stored_before_its_report(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    text = "é" * 700_000
    step = lease("echo", None, request=None)
    scheduler.inputs[step.run] = json.dumps({"handler": "echo", "input": text}).encode()
    small = lease("echo", "x" * (REPORT_BYTES - 10))
    await scheduler.hand(executor.id, step, small)
    outcome = await scheduler.outcome(step, 60)
    assert outcome.output is None
    parts = scheduler.parts[outcome.stored.blob]
    whole = b"".join(parts[number] for number in sorted(parts))
    assert (json.loads(whole), len(whole)) == (text, outcome.stored.size)
    assert {len(part) for part in list(parts.values())[:-1]} == {PART_BYTES}
    assert (await scheduler.outcome(small)).stored is None


async def test_an_output_of_a_lost_lease_is_not_reported(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("echo", "x" * 300_000)
    scheduler.stale.add(step.run)
    await scheduler.hand(executor.id, step)
    await scheduler.until(lambda: scheduler.beats and not list(executor.slots))
    assert step.run not in scheduler.outcomes


async def test_limits_are_named(scheduler: FakeScheduler, start: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("wfe_executor.inputs.REQUEST_BYTES", 2_000_000)
    monkeypatch.setattr("wfe_executor.outputs.OUTPUT_BYTES", 1_000_000)
    executor = await start()
    large, output = lease("echo", None, request=None), lease("echo", None, request=None)
    scheduler.inputs[large.run] = json.dumps({"handler": "echo", "input": "x" * 2_000_000}).encode()
    scheduler.inputs[output.run] = json.dumps({"handler": "echo", "input": "x" * 1_500_000}).encode()
    await scheduler.hand(executor.id, large, output)
    failure = (await scheduler.outcome(large, 60)).failure
    assert (failure.code, failure.retryable, failure.details["limit"]) == ("INPUT_TOO_LARGE", False, 2_000_000)
    assert "2000000" in failure.message
    failure = (await scheduler.outcome(output, 60)).failure
    assert (failure.code, failure.retryable, failure.details["limit"]) == ("OUTPUT_TOO_LARGE", False, 1_000_000)
    assert "1000000" in failure.message
    assert scheduler.parts == {}
