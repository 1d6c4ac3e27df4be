"""The life of a process: what is opened is closed in reverse, signals end it in order, failures end it too."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from wfe_servicekit.lifecycle import Stack, live
from wfe_servicekit.loops import PeriodicLoop
from wfe_servicekit.settings import ConfigFault


class FakeServer:
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.readiness = self

    async def closing(self) -> None:
        self.log.append("not ready")

    async def stop(self, grace: float | None = None) -> None:
        self.log.append(f"stopped within {grace}")


async def test_the_end_is_readiness_then_server_then_the_rest_in_reverse() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def resource(name: str) -> AsyncIterator[str]:
        log.append(f"open {name}")
        yield name
        log.append(f"close {name}")

    async def main(stack: Stack) -> None:
        assert await stack.enter(resource("store")) == "store"
        await stack.enter(resource("bus"))
        stack.push(lambda: log.append("sync closer"))
        loop = stack.loop(PeriodicLoop(lambda: asyncio.sleep(0), 3_600, "sweeper"))
        stack.push(lambda: log.append(f"loop still runs: {loop._task is not None}"))
        stack.serve(FakeServer(log), grace=3)
        stack.stop()

    assert await live(main, handle_signals=False) == 0
    assert log == [
        "open store", "open bus", "not ready", "stopped within 3", "loop still runs: True", "sync closer",
        "close bus", "close store",
    ]  # fmt: skip


async def test_a_closer_that_fails_does_not_keep_the_others() -> None:
    log: list[str] = []

    def bad() -> None:
        raise RuntimeError("no")

    async def main(stack: Stack) -> None:
        stack.push(lambda: log.append("first"))
        stack.push(bad)
        stack.push(lambda: log.append("last"))
        stack.stop()

    assert await live(main, handle_signals=False) == 0
    assert log == ["last", "first"]


async def test_a_start_that_fails_closes_what_was_opened() -> None:
    log: list[str] = []

    async def main(stack: Stack) -> None:
        stack.push(lambda: log.append("closed"))
        raise RuntimeError("no")

    assert await live(main, handle_signals=False) == 1
    assert log == ["closed"]


async def test_a_fault_of_the_configuration_goes_through_after_closing() -> None:
    log: list[str] = []

    async def main(stack: Stack) -> None:
        stack.push(lambda: log.append("closed"))
        raise ConfigFault("WFE_X: is wrong")

    with pytest.raises(ConfigFault):
        await live(main, handle_signals=False)
    assert log == ["closed"]


async def test_a_task_the_process_needs_ends_it_when_it_fails() -> None:
    async def dies() -> None:
        raise RuntimeError("gone")

    async def ends_well() -> None:
        return

    async def main(stack: Stack) -> None:
        stack.spawn(ends_well(), "fine")
        stack.spawn(asyncio.Event().wait(), "endless")
        stack.spawn(dies(), "consumer")

    assert await asyncio.wait_for(live(main, handle_signals=False), 5) == 1


async def test_a_stop_during_the_start_cancels_it() -> None:
    log: list[str] = []

    async def main(stack: Stack) -> None:
        stack.push(lambda: log.append("closed"))
        stack.stop()
        await asyncio.Event().wait()

    assert await asyncio.wait_for(live(main, handle_signals=False), 5) == 0
    assert log == ["closed"]


PROGRAM = """
import asyncio, sys
from wfe_servicekit.lifecycle import Stack, run
from wfe_servicekit.settings import ConfigFault

async def main(stack: Stack) -> None:
    import uvloop
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    stack.push(lambda: print("closed", flush=True))
    if sys.argv[1] == "hang":
        stack.push(hang)
    if sys.argv[1] == "fault":
        raise ConfigFault("WFE_A: is wrong", "WFE_B: too")
    if sys.argv[1] == "slow":
        print("up", flush=True)
        await asyncio.Event().wait()
    print("up", flush=True)

async def hang() -> None:
    print("hanging", flush=True)
    await asyncio.Event().wait()

run(main)
"""


@contextmanager
def process(tmp_path: Path, how: str) -> Iterator[Any]:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    child = subprocess.Popen(
        [sys.executable, str(file), how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def read_until(child: Any, word: str) -> None:
    for line in child.stdout:
        if word in line:
            return
    raise AssertionError(f"no {word}: {child.stderr.read()}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("how", ["serve", "slow"])
def test_a_signal_ends_the_process_in_order(tmp_path: Path, number: signal.Signals, how: str) -> None:
    with process(tmp_path, how) as child:
        read_until(child, "up")
        child.send_signal(number)
        out, err = child.communicate(timeout=10)
        assert (child.returncode, err) == (0, "")
        assert "closed" in out


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with process(tmp_path, "hang") as child:
        read_until(child, "up")
        child.send_signal(signal.SIGTERM)
        read_until(child, "hanging")
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=10)
        assert child.returncode == 128 + signal.SIGTERM
        assert "closed" not in out


def test_a_fault_of_the_configuration_is_printed_and_is_status_2(tmp_path: Path) -> None:
    with process(tmp_path, "fault") as child:
        out, err = child.communicate(timeout=10)
        assert child.returncode == 2
        assert err.splitlines() == ["configuration: WFE_A: is wrong", "configuration: WFE_B: too"]
        assert "closed" in out
