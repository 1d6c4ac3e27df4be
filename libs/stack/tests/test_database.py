"""The stack's own run store."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path

import psycopg
import pytest
from wfe_stack.database import RunStore
from wfe_stack.faults import PartFault
from wfe_stack.folder import Folder
from wfe_stack.guard import Guard
from wfe_stack.testing import TEST_SETTINGS


@pytest.fixture
async def made():
    # Not pytest's folder: that one is closed to the account the server runs under when tests run as root.
    root = Path(tempfile.mkdtemp(prefix="wfe-test-"))
    folder = Folder.take(root / "data")
    guard = Guard(folder.lock)
    said: asyncio.Queue[str] = asyncio.Queue()
    store = RunStore(folder.postgres, None, TEST_SETTINGS, guard, said.put_nowait, said.put_nowait)
    yield store, said
    await store.stop()
    guard.close()
    folder.release()
    shutil.rmtree(root)


def runs(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT count(*) FROM runs").fetchone()[0]


async def test_an_own_server_is_migrated_and_comes_back_after_a_crash(made):
    store, said = made
    await store.start()
    assert runs(store.url) == 0
    url = store.url
    store.keep()
    os.kill(store.pid, signal.SIGKILL)
    assert await asyncio.wait_for(said.get(), 20) == "postgres ended; starting it again"
    assert await asyncio.wait_for(said.get(), 30) == "postgres is up again"
    assert store.url == url
    assert runs(url) == 0


async def test_a_killed_server_stays_down_until_it_is_restarted(made):
    store, said = made
    await store.start()
    store.keep()
    await store.kill()
    assert store.pid is None
    with pytest.raises(psycopg.OperationalError):
        runs(store.url)
    await store.restart()
    assert runs(store.url) == 0
    assert said.empty()


async def test_a_given_database_is_used_as_it_is(made, database_url, tmp_path):
    store = RunStore(tmp_path / "unused", database_url, {}, made[0]._guard, print, print)
    await store.start()
    assert (store.url, store.is_own, store.pid) == (database_url, False, None)
    await store.stop()
    assert runs(database_url) == 0
    assert not (tmp_path / "unused").exists()


async def test_a_database_that_cannot_be_reached_is_one_clear_line(made, tmp_path):
    url = f"postgresql://nobody@/nowhere?host={tmp_path}"
    store = RunStore(tmp_path / "unused", url, {}, made[0]._guard, print, print)
    with pytest.raises(PartFault, match=r"^the database cannot be used: [^\n]+$"):
        await store.start()
