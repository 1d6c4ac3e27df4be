"""The executor as a process of its own, with signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from executor_fakes import HANDLERS, FakeScheduler, Nats, alive, lease
from wfe_executor.app import load_handlers
from wfe_executor.config import Settings
from wfe_executor.health import Health
from wfe_servicekit.settings import load


@pytest.fixture
async def spawn(bus: Nats) -> AsyncIterator[Any]:
    """Starts executor processes: await spawn(drain_seconds=3). None of them outlives the test."""
    made: list[asyncio.subprocess.Process] = []

    async def spawn_one(**settings: Any) -> asyncio.subprocess.Process:
        facts: dict[str, Any] = {
            "nats_url": bus.url, "nats_user": "executor", "nats_password": "secret", "handlers": HANDLERS,
            "executor_name": "a host.example", "executor_processes": 1, "heartbeat_seconds": 0.2, "drain_seconds": 1,
            "egress_allow": "127.0.0.0/8",
        }  # fmt: skip
        env = {name: value for name, value in os.environ.items() if not name.startswith("WFE_")}
        env |= {f"WFE_{name.upper()}": str(value) for name, value in (facts | settings).items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "wfe_executor.main", env=env,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        made.append(process)
        return process

    yield spawn_one
    for process in made:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def started(scheduler: FakeScheduler) -> str:
    claim = await scheduler.until(lambda: scheduler.claims and scheduler.claims[0], 20)
    return str(claim.executor)


async def test_sigterm_finishes_what_it_can_and_gives_back_the_rest(
    spawn: Any, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    process = await spawn()
    executor = await started(scheduler)
    assert executor.startswith("a-host-example-")
    file = tmp_path / "pid"
    quick, slow = lease("sleep", {"seconds": 0.6}), lease("sleep", {"seconds": 60})
    sync = lease("sync", {"do": "sleep", "seconds": 60, "file": str(file)})
    stubborn = lease("stubborn", "never")
    late = lease("echo", 1)
    await scheduler.hand(executor, quick, slow, sync, stubborn)
    await scheduler.until(lambda: file.exists() and file.read_text(), 20)
    process.send_signal(signal.SIGTERM)
    await scheduler.until(lambda: scheduler.beats[-1].stopping)
    assert scheduler.claims[-1].room == 0
    await scheduler.hand(executor, late)
    assert (await scheduler.outcome(late)).released
    assert (await scheduler.outcome(quick)).output == b'{"seconds":0.6}'
    for step in (slow, sync, stubborn):
        outcome = await scheduler.outcome(step)
        assert (outcome.released, outcome.failure, outcome.output) == (True, None, None)
    _, errors = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, errors) == (0, b"")
    assert not alive(int(file.read_text()))
    assert all(report.room == 0 for report in scheduler.reports[-3:])


async def test_a_second_signal_ends_it_at_once(spawn: Any, scheduler: FakeScheduler, tmp_path: Path) -> None:
    process = await spawn(drain_seconds=60)
    executor = await started(scheduler)
    file = tmp_path / "pid"
    await scheduler.hand(executor, lease("sync", {"do": "sleep", "seconds": 60, "file": str(file)}))
    await scheduler.until(lambda: file.exists() and file.read_text(), 20)
    process.send_signal(signal.SIGTERM)
    await scheduler.until(lambda: scheduler.beats[-1].stopping)
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.communicate(), 5)
    assert process.returncode == 1
    await scheduler.until(lambda: not alive(int(file.read_text())))


async def test_killed_executors_leave_no_workers(spawn: Any, scheduler: FakeScheduler, tmp_path: Path) -> None:
    process = await spawn()
    executor = await started(scheduler)
    file = tmp_path / "pid"
    await scheduler.hand(executor, lease("sync", {"do": "sleep", "seconds": 60, "file": str(file)}))
    await scheduler.until(lambda: file.exists() and file.read_text(), 20)
    process.kill()
    await scheduler.until(lambda: not alive(int(file.read_text())))
    await process.communicate()


async def test_it_waits_for_the_bus_and_still_ends_on_a_signal(
    spawn: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Nats(tmp_path_factory.mktemp("late"))
    server.start()
    server.stop()  # the port is known, and nobody listens
    process = await spawn(nats_url=server.url)
    assert process.stdout is not None
    while b"bus connection" not in await asyncio.wait_for(process.stdout.readline(), 20):
        continue
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0


async def test_health() -> None:
    answers = [True]
    health = Health(0, lambda: answers[0], "127.0.0.1")
    port = await health.start()

    def get() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return int(error.code)

    assert await asyncio.to_thread(get) == 200
    answers[0] = False
    assert await asyncio.to_thread(get) == 503
    await health.close()


def test_every_fault_of_the_settings_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {
        "NATS_URL": "http://x", "EXECUTOR_SLOTS": "0", "EXECUTOR_QUEUES": ",", "HANDLERS": "a-b",
        "EGRESS_ALLOW": "10.0.0.0/99",
    }  # fmt: skip
    for name, value in bad.items():
        monkeypatch.setenv(f"WFE_{name}", value)
    with pytest.raises(SystemExit) as caught:
        load(Settings)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split(":")[1].strip() for line in lines) == sorted(f"WFE_{name}" for name in bad)


def test_handler_modules_that_cannot_be_imported_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_handlers(["no_such_module", "executor_handlers", "also_missing"])
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "WFE_HANDLERS (no_such_module)" in errors
    assert "WFE_HANDLERS (also_missing)" in errors
    assert len(errors.splitlines()) == 2
