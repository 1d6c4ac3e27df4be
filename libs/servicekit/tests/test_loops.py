"""Periodic loops and clocks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from wfe_servicekit.clock import Clock, FakeClock, SampledClock, SystemClock
from wfe_servicekit.loops import PeriodicLoop
from wfe_servicekit.testing import until

FOREVER = 3_600.0


async def test_a_loop_runs_at_once_and_then_at_its_interval() -> None:
    loop = PeriodicLoop(lambda: asyncio.sleep(0), 0.01, "test")
    loop.start()
    loop.start()
    await until(lambda: loop.runs >= 4)
    await loop.stop()
    runs = loop.runs
    loop.nudge()
    await asyncio.sleep(0)
    assert loop.runs == runs


async def test_a_nudge_ends_the_pause_and_many_nudges_are_one() -> None:
    loop = PeriodicLoop(lambda: asyncio.sleep(0), FOREVER, "test")
    loop.start()
    await until(lambda: loop.runs == 1)
    for _ in range(50):
        loop.nudge()
    await until(lambda: loop.runs == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert loop.runs == 2
    await loop.stop()


async def test_a_nudge_during_a_call_leads_to_one_more() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def once() -> None:
        begun.set()
        await go.wait()

    loop = PeriodicLoop(once, FOREVER, "test")
    loop.start()
    await begun.wait()
    loop.nudge()
    loop.nudge()
    go.set()
    await until(lambda: loop.runs == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert loop.runs == 2
    await loop.stop()


async def test_errors_are_counted_and_survived() -> None:
    calls = 0

    async def once() -> None:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise RuntimeError("no")

    loop = PeriodicLoop(once, 0.001, "test")
    loop.start()
    await until(lambda: calls > 5)
    assert loop.errors == 3
    await loop.stop()


async def test_pauses_grow_with_errors_in_a_row_and_have_jitter() -> None:
    loop = PeriodicLoop(lambda: asyncio.sleep(0), 1.0, "test", jitter=0.1)
    pauses = {loop._pause() for _ in range(100)}
    assert len(pauses) > 50
    assert 0.9 <= min(pauses) <= max(pauses) <= 1.1
    for errors, least in ((1, 0.9), (2, 1.8), (4, 7.2), (50, 27)):
        loop._errors_in_a_row = errors
        assert least <= loop._pause() <= 33


async def test_more_to_do_means_no_pause() -> None:
    left = [True] * 100

    async def once() -> bool:
        return left.pop() if left else False

    loop = PeriodicLoop(once, FOREVER, "test")
    loop.start()
    await until(lambda: loop.runs == 101)
    await loop.stop()


async def test_a_count_is_not_more_to_do() -> None:
    loop = PeriodicLoop(lambda: asyncio.sleep(0, 7), FOREVER, "test")
    loop.start()
    for _ in range(20):
        await asyncio.sleep(0)
    assert loop.runs == 1
    await loop.stop()


async def test_stopping_waits_for_the_call_and_cancels_one_that_hangs() -> None:
    begun, go, ended = asyncio.Event(), asyncio.Event(), []

    async def once() -> None:
        begun.set()
        try:
            await go.wait()
        finally:
            ended.append(go.is_set())

    loop = PeriodicLoop(once, FOREVER, "test")
    for finishes in (True, False):
        begun.clear()
        go.clear()
        loop.start()
        await begun.wait()
        stopping = asyncio.ensure_future(loop.stop(5 if finishes else 0.01))
        await asyncio.sleep(0)
        if finishes:
            go.set()
        await stopping
        assert ended.pop() is finishes
    await loop.stop()


def test_clocks_are_aware_and_in_utc() -> None:
    clocks: list[Clock] = [SystemClock(), FakeClock()]
    for clock in clocks:
        assert clock.now().tzinfo is UTC
        assert clock.monotonic() <= clock.monotonic()


def test_a_fake_clock_moves_only_forward_and_when_told() -> None:
    clock = FakeClock()
    before, seconds = clock.now(), clock.monotonic()
    assert clock.now() == before
    clock.advance(1.5)
    clock.advance(timedelta(minutes=1))
    assert clock.now() - before == timedelta(seconds=61.5)
    assert clock.monotonic() - seconds == 61.5
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


async def test_a_sampled_clock_carries_the_other_one_on_and_never_goes_back() -> None:
    there = datetime(2040, 1, 1, tzinfo=UTC)

    async def sample() -> datetime:
        return there

    clock = SampledClock(sample)
    with pytest.raises(RuntimeError):
        clock.now()
    off = await clock.sync()
    assert timedelta(0) <= off < timedelta(seconds=1)
    first = clock.now()
    assert there <= first < there + timedelta(seconds=1)
    there -= timedelta(hours=1)
    await clock.sync()
    assert clock.now() == clock.now() >= first
    there += timedelta(hours=2)
    await clock.sync()
    assert clock.now() >= there
    assert clock.monotonic() > 0
