"""Expensive expressions are evaluated elsewhere, in bounded time, whatever they do."""

from __future__ import annotations

import asyncio
import contextlib
import time

import hostile
import pytest
from test_expressions import BINDINGS, cel
from wfe_engine.errors import ResourceExhausted, Unavailable
from wfe_language import ExpressionError, ExpressionPool, is_cheap

#: Several hundred MB of text, in steps that CEL's own budget does not count.
ENDLESS = "'" + "a" * 900 + "'" + ".replace('a', '" + "b" * 900 + "').replace('b', '" + "c" * 900 + "').size()"

HOSTILE = [
    ENDLESS,
    "['x']" + ".map(a, a + a)" * 30 + ".size()",
    "['x']" + ".map(a, [a, a])" * 14 + ".map(a, string(a.size()))",
    "vars.l" + ".map(a, vars.l.map(b, a))" * 12,
    "['" + "x" * 1000 + "'].map(a, a.matches('" + "(x+x+)+" * 100 + "y'))",
]


@pytest.fixture(scope="module")
async def pool():
    async with ExpressionPool(1) as pool:
        yield pool


async def test_it_gives_what_the_evaluator_gives(pool):
    assert await pool.evaluate(cel("vars.l.map(x, x * 1.5)"), BINDINGS) == [4.5, 1.5, 3.0]
    with pytest.raises(ExpressionError, match="no position 9") as caught:
        await pool.evaluate(cel("vars.l[9]"), BINDINGS)
    assert caught.value.expression == "vars.l[9]"


@pytest.mark.parametrize("source", HOSTILE)
async def test_what_is_hostile_is_bounded(pool, source):
    assert not is_cheap(cel(source), BINDINGS)
    began = time.monotonic()
    with contextlib.suppress(ExpressionError):
        await pool.evaluate(cel(source), BINDINGS)
    assert time.monotonic() - began < 5
    assert await pool.evaluate(cel("vars.n"), BINDINGS) == 3


async def test_the_whole_corpus_is_bounded(pool):
    for name, source in hostile.HOSTILE.items():
        expression, began = cel(source), time.monotonic()
        with contextlib.suppress(ExpressionError):
            await pool.evaluate(expression, {"vars": hostile.VALUES})
        assert time.monotonic() - began < 5, name
    assert await pool.evaluate(cel("vars.n"), BINDINGS) == 3


async def test_what_takes_too_long_is_killed_and_the_worker_replaced(pool):
    began = time.monotonic()
    with pytest.raises(ExpressionError, match="more than 100 ms"):
        await pool.evaluate(cel(ENDLESS), BINDINGS)
    assert await pool.evaluate(cel("size(vars.l)"), BINDINGS) == 3
    assert time.monotonic() - began < 10


async def test_many_wait_for_few_workers(pool):
    results = await asyncio.gather(*(pool.evaluate(cel(f"vars.n + {i}"), BINDINGS) for i in range(50)))
    assert results == [3 + i for i in range(50)]


async def test_too_many_bindings_and_too_much_waiting():
    async with ExpressionPool(1, most_waiting=1) as pool:
        with pytest.raises(ExpressionError, match="bytes of values"):
            await pool.evaluate(cel("vars.t"), {"vars": {"t": "x" * (9 * 1024 * 1024)}})
        first = asyncio.create_task(pool.evaluate(cel("vars.n"), BINDINGS))
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhausted):
            await pool.evaluate(cel("vars.n"), BINDINGS)
        assert await first == 3


async def test_values_that_do_not_go_to_a_worker_are_the_expressions_fault(pool):
    deep = 1
    for _ in range(5_000):
        deep = [deep]
    for value, said in ((10**400, "more than 64 bits"), (deep, "nested too deep")):
        with pytest.raises(ExpressionError, match=said):
            await pool.evaluate(cel("vars.l.map(x, x == vars.n)"), {"vars": {"l": [1], "n": value}})
    assert await pool.evaluate(cel("vars.l.map(x, x * 1.5)"), BINDINGS) == [4.5, 1.5, 3.0]


async def test_memory_is_bounded():
    doubled = "['" + "a" * 1000 + "']" + ".map(a, a + a)" * 20 + ".size()"
    async with ExpressionPool(1, cpu_seconds=5, memory=300 * 1024 * 1024) as pool:
        with pytest.raises(ExpressionError, match="memory"):
            await pool.evaluate(cel(doubled), BINDINGS)
        assert await pool.evaluate(cel("1 + 1"), BINDINGS) == 2


async def test_a_stopped_worker_is_not_the_expressions_fault():
    async with ExpressionPool(2, wall_seconds=0.5) as pool:
        import signal

        for worker in pool._all:
            worker.send_signal(signal.SIGSTOP)
        with pytest.raises(Unavailable):
            await pool.evaluate(cel("vars.n"), BINDINGS)
        assert await pool.evaluate(cel("vars.n"), BINDINGS) == 3


async def test_a_cancelled_caller_leaves_no_answer_behind():
    async with ExpressionPool(1) as pool:
        for _ in range(3):
            task = asyncio.create_task(pool.evaluate(cel("vars.l.map(x, x)"), BINDINGS))
            await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await pool.evaluate(cel("vars.n + 39"), BINDINGS) == 42


async def test_after_close_nothing_is_evaluated():
    pool = ExpressionPool(1)
    await pool.start()
    await pool.close()
    await pool.close()
    with pytest.raises(Unavailable):
        await pool.evaluate(cel("vars.n"), BINDINGS)
