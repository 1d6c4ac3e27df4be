"""The pool keeps its promises when calls are cancelled, transactions collide and the server goes away."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from wfe_engine.errors import NotFound, Unavailable
from wfe_stack.postgres import PostgresServer
from wfe_stack.testing import TEST_SETTINGS
from wfe_store import pool
from wfe_store.pool import Connection, Database, fetch_all, fetch_one


@pytest.fixture
async def numbers(database: Database) -> Database:
    """A table of two numbered rows, both zero."""
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE numbers (id int PRIMARY KEY, n int NOT NULL)")
        await connection.execute("INSERT INTO numbers VALUES (1, 0), (2, 0)")
    return database


async def values(database: Database) -> list[int]:
    async with database.connection() as connection:
        return [n for (n,) in await fetch_all(connection, "SELECT n FROM numbers ORDER BY id")]


async def test_json_comes_as_the_text_it_is(database: Database) -> None:
    async with database.connection() as connection:
        row = await fetch_one(connection, """SELECT '{"a": 1e2}'::json, '{"a": 12345678901234567890}'::jsonb""")
    assert row == ('{"a": 1e2}', '{"a": 12345678901234567890}')


async def test_the_session_has_the_limits_that_protect_the_store(database: Database) -> None:
    async with database.connection() as connection:
        row = await fetch_one(
            connection,
            "SELECT current_setting('statement_timeout'),"
            " current_setting('idle_in_transaction_session_timeout'),"
            " current_setting('timezone'), current_setting('application_name')",
        )
    assert row == ("30s", "10s", "UTC", "wfe-test")


async def test_a_cancelled_caller_does_not_cancel_the_transaction(numbers: Database) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE numbers SET n = 1 WHERE id = 1")
        inside.set()
        await go_on.wait()
        await connection.execute("UPDATE numbers SET n = 1 WHERE id = 2")

    caller = asyncio.create_task(numbers.transaction(work))
    await inside.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await values(numbers) == [0, 0]
    go_on.set()
    await numbers.close()  # waits for transactions in flight
    async with await psycopg.AsyncConnection.connect(numbers.url) as connection:
        rows = await (await connection.execute("SELECT n FROM numbers ORDER BY id")).fetchall()
    assert rows == [(1,), (1,)]


async def test_cancelled_at_every_await_leaves_no_open_transaction(numbers: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE numbers SET n = n + 1 WHERE id = 1")
        await connection.execute("UPDATE numbers SET n = n + 1 WHERE id = 2")

    for turns in range(40):
        caller = asyncio.create_task(numbers.transaction(work))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
    await numbers.transaction(work)
    one, two = await values(numbers)
    assert one == two
    # Those that were given up still end by themselves; one that never does would stand here for ever.
    async with asyncio.timeout(10), numbers.connection() as connection:
        while await fetch_all(
            connection,
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
        ):
            await asyncio.sleep(0)


async def test_what_the_work_raises_rolls_back(numbers: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE numbers SET n = 9")
        raise NotFound("no")

    with pytest.raises(NotFound):
        await numbers.transaction(work)
    assert await values(numbers) == [0, 0]


async def test_a_deadlock_is_run_again_and_both_commit(numbers: Database) -> None:
    meet = asyncio.Barrier(2)
    tries = {1: 0, 2: 0}

    def work(first: int, second: int):
        async def run(connection: Connection) -> None:
            tries[first] += 1
            await connection.execute("SET LOCAL deadlock_timeout = '20ms'")
            await connection.execute("UPDATE numbers SET n = n + 1 WHERE id = %s", (first,))
            if tries[1] == tries[2] == 1 or tries[first] == 1:
                await meet.wait()
            await connection.execute("UPDATE numbers SET n = n + 1 WHERE id = %s", (second,))

        return run

    await asyncio.gather(numbers.transaction(work(1, 2)), numbers.transaction(work(2, 1)))
    assert await values(numbers) == [2, 2]
    assert sum(tries.values()) == 3


async def test_contention_that_does_not_end_is_unavailable(database: Database) -> None:
    tries = 0

    async def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")

    with pytest.raises(Unavailable) as raised:
        await database.transaction(work)
    assert raised.value.reason == "STORE_CONTENDED"
    assert tries == pool.RETRIES + 1


async def test_a_connection_lost_before_the_commit_is_run_again(numbers: Database) -> None:
    tries = 0

    async def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        await connection.execute("UPDATE numbers SET n = n + 1 WHERE id = 1")
        if tries == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    await numbers.transaction(work)
    assert tries == 2
    assert await values(numbers) == [1, 0]


async def test_a_statement_that_takes_too_long_is_unavailable_and_not_run_again(database: Database) -> None:
    tries = 0

    async def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        await connection.execute("SET LOCAL statement_timeout = '10ms'")
        await connection.execute("SELECT pg_sleep(10)")

    with pytest.raises(Unavailable) as raised:
        await database.transaction(work)
    assert raised.value.reason == "STORE_SLOW"
    assert tries == 1


@pytest.fixture
def own_server() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="wfe-test-"))
    yield root / "pg"
    shutil.rmtree(root, ignore_errors=True)


async def test_a_server_that_is_down_is_unavailable_until_it_is_back(
    own_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "POOL_SECONDS", 0.5)
    server = await asyncio.to_thread(PostgresServer.start, own_server, TEST_SETTINGS)
    database = Database(server.url, name="wfe-test", size=2)
    await database.open()
    await asyncio.to_thread(server.stop)
    with pytest.raises(Unavailable):
        await database.ping()
    server = await asyncio.to_thread(PostgresServer.start, own_server, TEST_SETTINGS)
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    await database.ping()
                    break
                except Unavailable:
                    continue
    finally:
        await database.close()
        await asyncio.to_thread(server.stop)


async def test_opening_without_a_server_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "POOL_SECONDS", 0.2)
    database = Database(f"postgresql://postgres@/postgres?host={tmp_path}", name="wfe-test")
    with pytest.raises(Unavailable):
        await database.open(seconds=0.3)
