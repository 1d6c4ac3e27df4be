"""Events of owners with subscriptions reach the outbox in their own commit, each once; others cost nothing."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from wfe_engine import commands as cmd
from wfe_scheduler.subscribers import Subscribers
from wfe_store import statements as sql
from wfe_store.part import Part
from wfe_store.pool import Database
from wfe_store.webhooks import GOOD_SECONDS, SURE_SECONDS

from .conftest import OWNER


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def subscribed(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("INSERT INTO owners (id, name) VALUES (%s, 'acme')", (OWNER,))
        await connection.execute(
            "INSERT INTO webhooks (id, owner_id, name, url, event_types, created_by)"
            " VALUES (gen_random_uuid(), %s, '', 'https://example.com', '{*}', %s)",
            (OWNER, OWNER),
        )


async def ranges(rig: Any, run: uuid.UUID) -> list[int]:
    rows = await rig.rows("SELECT first_seq, last_seq FROM webhook_outbox WHERE run_id = %s ORDER BY id", run)
    return [seq for first, last in rows for seq in range(first, last + 1)]


async def carry_out(rig: Any) -> uuid.UUID:
    run, started = rig.start()
    await started
    await rig.report(run, 1)
    await rig.do(run, cmd.Pause())
    await rig.do(run, cmd.Resume())
    await rig.do(run, cmd.Cancel())
    return run


async def test_every_event_is_in_the_outbox_once_and_in_order(
    make_rig: Any, make_chain: Any, database: Database, subscribed: None
) -> None:
    subscribers = Subscribers(database)
    await subscribers.run_once()
    rig = make_rig(make_chain("call", "approval"))
    rig.cycle._told = subscribers.includes
    for run in await asyncio.gather(*(carry_out(rig) for _ in range(20))):
        state = await rig.check(run)
        assert await ranges(rig, run) == list(range(1, state.seq + 1))


async def test_two_schedulers_at_one_run_write_each_event_once(
    make_rig: Any, make_chain: Any, database: Database, subscribed: None
) -> None:
    subscribers = Subscribers(database)
    await subscribers.run_once()
    one, other = make_rig(make_chain("approval")), make_rig(make_chain("approval"))
    for rig in (one, other):
        rig.cycle._told = subscribers.includes
    for _ in range(10):
        run, started = one.start()
        await started
        both = (one.do(run, cmd.Pause()), other.do(run, cmd.Cancel()))
        await asyncio.gather(*both, return_exceptions=True)
        state = await one.check(run)
        assert await ranges(one, run) == list(range(1, state.seq + 1))


async def test_owners_without_subscriptions_send_no_statement(
    make_rig: Any, make_chain: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribers = Subscribers(database)
    await subscribers.run_once()
    rig = make_rig(make_chain("call", "approval"))
    rig.cycle._told = subscribers.includes
    # Were it sent, the commit would fail.
    columns = "owner_id uuid, run_id uuid, first_seq int, last_seq int"
    monkeypatch.setattr(sql, "OUTBOX", Part(columns, "new_outbox AS (SELECT no_such_function(owner_id) FROM {d})"))
    run = await carry_out(rig)
    assert await ranges(rig, run) == []


async def test_who_lost_sight_of_the_subscriptions_asks_the_store(
    make_rig: Any, make_chain: Any, database: Database
) -> None:
    clock = Clock()
    subscribers = Subscribers(database, clock)
    rig = make_rig(make_chain("call", "approval"))
    rig.cycle._told = subscribers.includes
    assert subscribers.includes(OWNER)  # nothing was read yet
    await subscribers.run_once()
    assert not subscribers.includes(OWNER)
    assert await ranges(rig, await carry_out(rig)) == []
    clock.now += GOOD_SECONDS + 0.01
    assert subscribers.includes(OWNER)
    # Asked for an owner without subscriptions, the store writes nothing.
    assert await ranges(rig, await carry_out(rig)) == []
    async with database.connection() as connection:
        await connection.execute("INSERT INTO owners (id, name) VALUES (%s, 'acme')", (OWNER,))
        await connection.execute(
            "INSERT INTO webhooks (id, owner_id, name, url, event_types, created_by)"
            " VALUES (gen_random_uuid(), %s, '', 'https://example.com', '{*}', %s)",
            (OWNER, OWNER),
        )
    run = await carry_out(rig)
    assert await ranges(rig, run) == list(range(1, (await rig.check(run)).seq + 1))
    assert GOOD_SECONDS < SURE_SECONDS
