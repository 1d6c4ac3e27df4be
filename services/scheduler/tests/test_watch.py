"""Nudges: who is woken by what."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID, uuid4

import pytest
from wfe_scheduler import watch
from wfe_scheduler.watch import Watchers


async def test_who_waits_for_an_end_is_not_woken_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FALLBACK_SECONDS", 60.0)
    watchers, run = Watchers(lambda _: None), uuid4()
    with watchers.watch(run) as every, watchers.watch(run, ends=True) as end:
        waiting = asyncio.ensure_future(end.wait(60))
        await asyncio.sleep(0)
        watchers.nudge(run, ended=False)
        assert await every.wait(60)
        assert not waiting.done()
        watchers.nudge(run, ended=True)
        assert await waiting
        assert end.ended
        assert every.ended
    assert watchers.local_runs() == []


async def test_a_nudge_before_the_wait_counts_once() -> None:
    watchers, run = Watchers(lambda _: None), uuid4()
    with watchers.watch(run) as nudges:
        watchers.nudge(run, ended=False)
        assert await nudges.wait(60)
        began = time.monotonic()
        assert not await nudges.wait(0.05)
        assert time.monotonic() - began >= 0.04


async def test_a_lost_nudge_costs_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FALLBACK_SECONDS", 0.01)
    with Watchers(lambda _: None).watch(uuid4()) as nudges:
        assert await nudges.wait(60)


async def test_runs_watched_in_one_turn_are_announced_together() -> None:
    said: list[list[UUID]] = []
    watchers, runs = Watchers(said.append), [uuid4() for _ in range(3)]
    with watchers.watch(runs[0]), watchers.watch(runs[0]), watchers.watch(runs[1]), watchers.watch(runs[2]):
        await asyncio.sleep(0)
    assert said == [runs]
