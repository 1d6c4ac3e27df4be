"""What handlers may do, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from executor_fakes import FakeScheduler, alive, lease
from wfe_executor import pool as pools


async def run(scheduler: FakeScheduler, executor: Any, handler: str, value: Any, **fields: Any) -> Any:
    step = lease(handler, value, **fields)
    await scheduler.hand(executor.id, step)
    return await scheduler.outcome(step)


async def test_the_context(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("context", None, path="a.b", iteration="3", visit=2, attempt=2, owner="own", attempt_timeout=60)
    await scheduler.hand(executor.id, step)
    said = json.loads((await scheduler.outcome(step)).output)
    assert abs(said.pop("deadline") - time.time() - 60) < 5
    from uuid import UUID

    assert said == {
        "run_id": str(UUID(bytes=step.run)), "step": "a.b", "iteration": "3", "visit": 2, "attempt": 2,
        "max_attempts": 3, "idempotency_key": "key-1", "owner": "own",
    }  # fmt: skip


ERRORS: list[tuple[str, str, bool, str]] = [
    ("terminal", "CARD_DECLINED", False, "no money"),
    ("retry", "BUSY", True, "later"),
    ("exit", "HANDLER_ERROR", True, "SystemExit: 3"),
    ("cancel", "HANDLER_ERROR", True, "cancelled from within"),
    ("ugly", "HANDLER_ERROR", True, "RuntimeError: nul \ufffd"),
    ("group", "HANDLER_ERROR", True, "ExceptionGroup"),
    ("thing", "HANDLER_ERROR", True, "ValueError: bad thing"),
    ("details", "X", False, ""),
]


async def test_errors(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    for value, code, retryable, message in ERRORS:
        failure = (await run(scheduler, executor, "raise", value)).failure
        assert (failure.code, failure.retryable) == (code, retryable)
        assert message in failure.message
        assert len(failure.message.encode()) <= 4096
    assert (await run(scheduler, executor, "raise", "terminal")).failure.details == {"left": 3}
    assert (await run(scheduler, executor, "raise", "retry")).failure.retry_after == 7.5
    assert "nan" in (await run(scheduler, executor, "raise", "details")).failure.details["dropped"]


OUTPUTS = {
    "nan": "output is nan", "inf": "output[0] is inf", "nul": "NUL", "surrogate": "surrogate",
    "ring": "deeper",
    "sealed": "reserved", "big": "output.n is an integer", "set": "a set", "bytes": "a bytes",
    "key": "keys must",
    "longint": "integer beyond",
}  # fmt: skip


async def test_the_output_gate(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    for value, words in OUTPUTS.items():
        failure = (await run(scheduler, executor, "give", value)).failure
        assert (failure.code, failure.retryable) == ("OUTPUT_INVALID", False)
        assert words in failure.message
    failure = (await run(scheduler, executor, "give", "huge")).failure
    assert (failure.code, failure.retryable) == ("OUTPUT_TOO_LARGE", False)
    outcome = await run(scheduler, executor, "give", "ok")
    assert json.loads(outcome.output) == {"a": [1, 2.5, None, True, "ü"]}


async def test_unknown_handlers_and_kinds(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    for fields, code in (({"handler": "nobody"}, "HANDLER_NOT_FOUND"), ({"kind": "foreach"}, "UNKNOWN_KIND")):
        step = lease(**fields)
        await scheduler.hand(executor.id, step)
        failure = (await scheduler.outcome(step)).failure
        assert (failure.code, failure.retryable) == (code, False)


async def test_the_demo_handlers(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    said = json.loads((await run(scheduler, executor, "summarise", {"text": "One two. Three?"})).output)
    assert said == {"summary": "One two. Three?", "words": 3}
    assert (await run(scheduler, executor, "summarise", {})).failure.code == "INPUT_INVALID"
    assert (await run(scheduler, executor, "flaky", {"failures": 2}, attempt=2)).failure.code == "FLAKY"
    assert json.loads((await run(scheduler, executor, "flaky", {"failures": 2}, attempt=3)).output) == {"attempt": 3}
    said = json.loads((await run(scheduler, executor, "work", {"seconds": 0, "bytes": 3})).output)
    assert said == {"pieces": 4, "text": "xxx"}


async def test_sync_handlers_run_in_another_process(
    scheduler: FakeScheduler, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WFE_NATS_PASSWORD", "secret")
    executor = await start(sync=True)
    outcome = await run(scheduler, executor, "sync_context", {"a": 1}, attempt=2, attempt_timeout=60)
    said = json.loads(outcome.output)
    assert said["pid"] != os.getpid()
    assert (said["key"], said["attempt"], said["nats"], said["value"]) == ("key-1", 2, [], {"a": 1})
    assert abs(said["deadline"] - time.time() - 60) < 5
    for do, code in (("raise", "HANDLER_ERROR"), ("sysexit", "HANDLER_ERROR"), ("nan", "OUTPUT_INVALID")):
        assert (await run(scheduler, executor, "sync", {"do": do})).failure.code == code
    # All of that, and a signal to its group, left the same process in place.
    assert json.loads((await run(scheduler, executor, "sync", {"do": "terminate"})).output)["pid"] == said["pid"]


async def test_poison_handlers_kill_their_process_only(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start(sync=True)
    pids = set()
    for do, exit_ in (("exit", 5), ("segfault", "SIGSEGV"), ("sigkill", "SIGKILL")):
        failure = (await run(scheduler, executor, "sync", {"do": do})).failure
        assert (failure.code, failure.retryable, failure.details) == (
            "HANDLER_CRASHED",
            True,
            {"exit": exit_},
        )
        pids.add(json.loads((await run(scheduler, executor, "sync", {})).output)["pid"])
    assert len(pids) == 3
    assert json.loads((await run(scheduler, executor, "echo", 1)).output) == 1


@pytest.mark.parametrize("do", ["sleep", "spawn"])
async def test_stop_kills_sync_work_within_a_second(
    scheduler: FakeScheduler, start: Any, tmp_path: Path, do: str
) -> None:
    executor = await start(sync=True, heartbeat_seconds=5)
    file = tmp_path / "pid"
    step = lease("sync", {"do": do, "seconds": 60, "file": str(file)})
    await scheduler.hand(executor.id, step)
    await scheduler.until(lambda: file.exists() and file.read_text())
    pid, worker = int(file.read_text()), executor.pool.pids[0]
    began = time.monotonic()
    await scheduler.stop_work(executor.id, step)
    await scheduler.until(lambda: not alive(pid) and not alive(worker))
    assert time.monotonic() - began < 1.0
    await scheduler.until(lambda: not list(executor.slots))
    assert json.loads((await run(scheduler, executor, "sync", {})).output)["pid"] != pid
    assert step.run not in scheduler.outcomes


async def test_a_polite_sync_handler_keeps_its_process(scheduler: FakeScheduler, start: Any, tmp_path: Path) -> None:
    executor = await start(sync=True)
    file = tmp_path / "pid"
    outcome = await run(scheduler, executor, "sync", {"do": "polite", "file": str(file)}, attempt_timeout=0.3)
    assert outcome.failure.code == "ATTEMPT_TIMEOUT"
    assert json.loads((await run(scheduler, executor, "sync", {})).output)["pid"] == int(file.read_text())


async def test_sync_heartbeats_and_progress(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start(sync=True)
    step = lease("sync", {"do": "beats"}, heartbeat_timeout=0.3)
    await scheduler.hand(executor.id, step)
    assert (await scheduler.outcome(step)).failure is None
    said = [json.loads(p.progress)["done"] for b in scheduler.beats for p in b.progress if p.run == step.run]
    assert said
    assert said == sorted(said)


async def test_sync_work_waits_for_a_process_and_its_clock_with_it(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start(sync=True)
    steps = [lease("sync_sleep", {"seconds": 0.2}, attempt_timeout=0.35) for _ in range(3)]
    await scheduler.hand(executor.id, *steps)
    for step in steps:
        assert (await scheduler.outcome(step)).failure is None


async def test_a_pool_that_cannot_import_its_modules_tries_again_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "_LONGEST_BACKOFF", 0.05)
    pool = pools.Pool(1, ["no_such_module"])
    pool.start()
    try:
        while pool._deaths < 2:
            await asyncio.sleep(0.01)
    finally:
        await pool.close()
    assert pool.pids == ()
