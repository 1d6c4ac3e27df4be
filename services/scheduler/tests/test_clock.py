"""The store's clock as a scheduler reckons it, from answers that are quick and slow."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from wfe_scheduler import clock as module
from wfe_scheduler.clock import StoreClock
from wfe_store.pool import Database

#: What the store's clock is ahead of the monotonic one.
AHEAD = 1_000.0


class Answers:
    """A store whose answers take as long as they are told to, before it looks at its clock and after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 50.0
        self.delays: list[tuple[float, float]] = []
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    @asynccontextmanager
    async def connection(self):
        yield self

    async def execute(self, _statement: str):
        before, self._after = self.delays.pop(0)
        self.now += before
        self._moment = self.now + AHEAD
        return self

    async def fetchone(self):
        self.now += self._after
        return (self._moment,)


@pytest.fixture
def store(monkeypatch):
    return Answers(monkeypatch)


def error(clock: StoreClock, store: Answers) -> float:
    return abs(clock.now() - (store.now + AHEAD))


async def test_an_answer_that_is_picked_up_late_moves_nothing_that_is_known(store):
    clock = StoreClock(store)
    store.delays = [(0.001, 0.001), (0.001, 0.120)]
    await clock.sample()
    assert error(clock, store) <= 0.001
    await clock.sample()
    assert error(clock, store) <= 0.001


@pytest.mark.parametrize("slow", [(0.001, 0.120), (0.120, 0.001)])
async def test_the_quickest_answer_says_most(store, slow):
    clock = StoreClock(store)
    store.delays = [slow, (0.001, 0.001), slow]
    for most in (0.061, 0.002, 0.002):
        await clock.sample()
        store.now += 1  # a clock that is ahead waits until it is right
        assert error(clock, store) <= most


async def test_a_store_whose_clock_was_set_is_followed(store, monkeypatch):
    clock = StoreClock(store)
    store.delays = [(0.001, 0.001)] * 2
    await clock.sample()
    monkeypatch.setattr(f"{__name__}.AHEAD", AHEAD + 60)
    await clock.sample()
    assert error(clock, store) <= 0.002


async def test_the_real_store_is_met_within_the_time_of_an_answer(database_url):
    database = Database(database_url, name="clock", size=1)
    await database.open()
    try:
        clock = StoreClock(database)
        await clock.sample()
        async with database.connection() as connection:
            before = clock.now()
            row = await (await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")).fetchone()
            after = clock.now()
        slack = 0.05
        assert before - slack <= float(row[0]) <= after + slack
        moments = [clock.now() for _ in range(100)]
        assert all(one <= other for one, other in pairwise(moments))
        assert abs(clock.now() - time.time()) < 60
    finally:
        await database.close()
