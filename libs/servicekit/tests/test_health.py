"""Readiness: pings at the same time, with timeouts and hysteresis."""

from __future__ import annotations

import asyncio

import pytest
from wfe_engine.errors import Unavailable
from wfe_servicekit.health import Readiness


class Part:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hangs = False

    async def ping(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


async def test_ready_goes_after_failures_in_a_row_and_comes_back_after_one_success() -> None:
    part = Part()
    readiness = Readiness(failures_allowed=3)
    readiness.add("store", part.ping)
    assert not readiness.ready
    await readiness.check()
    assert readiness.ready
    part.error = ConnectionError()
    seen = []
    for _ in range(4):
        await readiness.check()
        seen.append(readiness.ready)
    assert seen == [True, True, False, False]
    part.error = None
    await readiness.check()
    assert readiness.require() == {"store": "ok"}
    # The count begins anew.
    part.error = ConnectionError()
    await readiness.check()
    await readiness.check()
    assert readiness.ready
    part.error = None
    await readiness.check()
    part.error = ConnectionError()
    await readiness.check()
    await readiness.check()
    assert readiness.ready


async def test_a_part_that_was_never_well_is_not_ready_at_once() -> None:
    part = Part()
    part.error = ConnectionError("password=hunter2 at 10.0.0.1")
    readiness = Readiness()
    readiness.add("store", part.ping)
    assert readiness.parts() == {"store": "not asked yet"}
    await readiness.check()
    assert readiness.parts() == {"store": "ConnectionError"}
    with pytest.raises(Unavailable) as caught:
        readiness.require()
    assert caught.value.metadata == {"store": "ConnectionError"}
    assert "hunter2" not in str(caught.value)


async def test_a_part_that_hangs_does_not_keep_the_others() -> None:
    slow, fast = Part(), Part()
    slow.hangs = True
    readiness = Readiness()
    readiness.add("store", slow.ping, timeout=0.02)
    readiness.add("bus", fast.ping)
    await asyncio.wait_for(readiness.check(), 5)
    assert readiness.parts() == {"store": "no answer within 0.02 s", "bus": "ok"}


async def test_closing_is_for_good() -> None:
    readiness = Readiness()
    readiness.add("store", Part().ping)
    await readiness.start()
    assert readiness.ready
    await readiness.closing()
    await readiness.check()
    assert not readiness.ready
    with pytest.raises(Unavailable, match="service"):
        readiness.require()
    await readiness.stop()


async def test_without_parts_a_process_is_ready() -> None:
    readiness = Readiness()
    await readiness.check()
    assert readiness.ready
    assert readiness.require() == {}
