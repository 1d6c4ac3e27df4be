"""From the outbox to the receiver under races and crashes: nothing is lost, nothing is told twice, order is kept."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections import Counter
from contextlib import asynccontextmanager
from types import SimpleNamespace
from uuid import UUID

import pytest
from aiohttp import web
from wfe_approvals.webhooks.wanted import Wanted
from wfe_stack.testing_receivers import Receivers
from wfe_store.deliveries import Deliveries, Outcome, Room
from wfe_store.pool import fetch_all, fetch_one
from wfe_store.webhook_feed import Feed
from wfe_store.webhooks import CLOCK_SECONDS, SURE_SECONDS, Webhooks

from .conftest import World
from .webhook_calls import happen, subscribe

ROOM = Room(rooms={}, known=100, new=100)


@pytest.fixture
async def quiet(start) -> World:
    """The service, whose loops do nothing by themselves for as long as a test takes."""
    return await start(webhook_poll_seconds=60)


async def count(world: World, statement: str) -> int:
    async with world.database.connection() as connection:
        row = await fetch_one(connection, statement)
    assert row is not None
    return row[0]


async def test_many_processes_make_each_delivery_once(quiet: World) -> None:
    world = quiet
    for number in range(3):
        await subscribe(world, f"https://receiver{number}.example.com/")
    for _ in range(40):
        await happen(world, "run.created", "run.started")
    feeds = [Feed(world.database) for _ in range(4)]

    async def work(feed: Feed) -> None:
        while await count(world, "SELECT count(*) FROM webhook_outbox"):
            await feed.turn(Wanted().address, limit=random.randint(1, 9))

    await asyncio.gather(*map(work, feeds))
    assert await count(world, "SELECT count(*) FROM webhook_messages") == 80
    assert await count(world, "SELECT count(*) FROM webhook_deliveries") == 240
    assert await count(world, "SELECT count(DISTINCT (webhook_id, message_id)) FROM webhook_deliveries") == 240


async def test_a_crash_before_the_commit_loses_nothing_and_repeats_nothing(quiet: World) -> None:
    world = quiet
    await subscribe(world, "https://receiver.example.com/")
    await happen(world)

    def crash(*_: object):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        await Feed(world.database).turn(crash, limit=10)
    assert await count(world, "SELECT count(*) FROM webhook_outbox") == 1
    assert await Feed(world.database).turn(Wanted().address, limit=10) == 1
    assert await Feed(world.database).turn(Wanted().address, limit=10) == 0
    assert await count(world, "SELECT count(*) FROM webhook_deliveries") == 1


async def test_events_before_the_subscription_counts_are_not_told(quiet: World) -> None:
    world = quiet
    made = await subscribe(world, "https://receiver.example.com/")
    async with world.database.connection() as connection:
        await connection.execute("UPDATE webhooks SET active_from = clock_timestamp() + interval '1 hour'")
    await happen(world)
    await Feed(world.database).turn(Wanted().address, limit=10)
    assert await count(world, "SELECT count(*) FROM webhook_deliveries") == 0
    assert made.HasField("active_from")


async def test_a_subscription_counts_only_once_its_commit_can_be_seen(quiet: World) -> None:
    world = quiet
    began = dt.datetime.now(dt.UTC)
    first = await subscribe(world, "https://receiver.example.com/")
    # The owner's first: schedulers may not have known of the owner. Answered only when they do.
    assert first.active_from.ToDatetime(dt.UTC) >= began + dt.timedelta(seconds=SURE_SECONDS)
    behind = dt.timedelta(seconds=CLOCK_SECONDS - 0.01)
    assert dt.datetime.now(dt.UTC) >= first.active_from.ToDatetime(dt.UTC) + behind
    asked = dt.datetime.now(dt.UTC)
    second = await subscribe(world, "https://receiver.example.com/")
    # What happens next counts also where the clock is behind.
    assert second.active_from.ToDatetime(dt.UTC) < asked + dt.timedelta(seconds=1)
    assert dt.datetime.now(dt.UTC) >= second.active_from.ToDatetime(dt.UTC) + behind
    # One whose maker died before it could set the moment.
    async with world.database.connection() as connection:
        await connection.execute("UPDATE webhooks SET active_from = NULL")
    await Webhooks(world.database).activate_all()
    assert await count(world, "SELECT count(*) FROM webhooks WHERE active_from > clock_timestamp()") == 2


async def test_of_many_senders_one_takes_a_delivery(quiet: World) -> None:
    world = quiet
    made = await subscribe(world, "https://receiver.example.com/")
    for _ in range(50):
        await happen(world)
    await Feed(world.database).turn(Wanted().address, limit=200)
    stores = [Deliveries(world.database) for _ in range(6)]
    room = Room(rooms={UUID(made.id): 20}, known=100, new=0)
    taken = await asyncio.gather(*(store.take(room, lease=60) for store in stores for _ in range(2)))
    ids = Counter(job.id for jobs in taken for job in jobs)
    assert set(ids.values()) == {1}
    assert len(ids) == 50


async def test_an_outcome_of_an_older_claim_changes_nothing(quiet: World) -> None:
    world = quiet
    await subscribe(world, "https://receiver.example.com/")
    await happen(world)
    await Feed(world.database).turn(Wanted().address, limit=200)
    store = Deliveries(world.database)
    (lost,) = await store.take(ROOM, lease=0.05)
    assert await store.take(ROOM, lease=60) == []
    await asyncio.sleep(0.1)
    (job,) = await store.take(ROOM, lease=60)
    assert (job.id, job.claim, job.message_id) == (lost.id, lost.claim + 1, lost.message_id)
    assert await store.end([Outcome(lost, "failed", entry="{}")]) == set()
    assert await store.end([Outcome(job, "delivered", began=1.0, entry="{}")]) == {job.id}
    assert await store.end([Outcome(job, "failed", entry="{}")]) == set()
    assert await count(world, "SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered'") == 1


async def test_two_services_tell_each_event_once(start, receivers: Receivers) -> None:
    world = await start()
    await start()
    made = await subscribe(world, f"{receivers.url}/a")
    for _ in range(60):
        await happen(world, "run.created", "run.started", "run.completed")
    calls = await receivers.wait("/a", 180)
    await asyncio.sleep(0.3)
    assert Counter(call.headers["webhook-id"] for call in receivers.at("/a")).most_common(1)[0][1] == 1
    assert len(calls) == 180
    async with asyncio.timeout(10):
        while await count(world, "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"):
            await asyncio.sleep(0.05)
    assert made.ordered is False


async def test_events_of_a_run_go_in_order_when_asked_also_over_failures(start, receivers: Receivers) -> None:
    schedule = (0, *[0.05] * 30)
    world = await start(webhook_schedule=schedule)
    await start(webhook_schedule=schedule)  # a service with fewer attempts would give up for both
    failures = random.Random(7)
    taken: list[tuple[str, int]] = []

    async def shaky(got):
        await asyncio.sleep(failures.random() * 0.02)
        if failures.random() < 0.3:
            return web.Response(status=500)
        taken.append((got.event["subject"], got.event["data"]["seq"]))
        return web.Response(status=204)

    receivers.behave("/a", shaky)
    await subscribe(world, f"{receivers.url}/a", ordered=True)
    kinds = ["run.created", "run.started", "step.ready", "step.completed", "run.completed"]
    runs = [await happen(world, *kinds[:2]) for _ in range(8)]
    for run in runs:
        await happen(world, *kinds[2:], run_id=run, first_seq=3)
    async with asyncio.timeout(40):
        while len(taken) < 40:
            await asyncio.sleep(0.05)
    for run in runs:
        assert [seq for subject, seq in taken if subject.endswith(str(run))] == [1, 2, 3, 4, 5]


async def test_an_event_that_is_given_up_lets_the_next_go(start, receivers: Receivers) -> None:
    world = await start(webhook_schedule=(0,))
    await subscribe(world, f"{receivers.url}/a", ordered=True)
    receivers.answer("/a", 500)
    await happen(world, "run.created", "run.started", "run.completed")
    calls = await receivers.wait("/a", 3)
    assert [call.event["data"]["seq"] for call in calls] == [1, 2, 3]


async def test_what_is_held_for_nothing_is_let_go(quiet: World) -> None:
    world = quiet
    await subscribe(world, "https://receiver.example.com/", ordered=True)
    await happen(world, "run.created", "run.started", "run.completed")
    await Feed(world.database).turn(Wanted().address, limit=10)
    store, feed = Deliveries(world.database), Feed(world.database)
    (job,) = await store.take(ROOM, lease=60)
    assert await store.take(ROOM, lease=60) == []
    await store.end([Outcome(job, "delivered", entry="{}")])
    # Its sender ends here, before it could let the next go.
    await feed.release_forgotten()
    (after,) = await store.take(ROOM, lease=60)
    assert after.message_id.endswith("_2")
    await feed.release_forgotten()
    assert await store.take(ROOM, lease=60) == []


async def test_old_deliveries_are_removed(quiet: World) -> None:
    world = quiet
    await subscribe(world, "https://receiver.example.com/")
    for _ in range(3):
        await happen(world)
    await Feed(world.database).turn(Wanted().address, limit=10)
    async with world.database.connection() as connection:
        for table in ("webhook_deliveries", "webhook_messages"):
            await connection.execute(
                f"UPDATE {table} SET created_at = created_at - interval '40 days' WHERE id IN"
                f" (SELECT id FROM {table} LIMIT 2)"
            )
    assert await Deliveries(world.database).prune(dt.timedelta(days=30), limit=100) == 4
    assert await count(world, "SELECT count(*) FROM webhook_deliveries") == 1


async def test_nothing_of_a_rolled_back_commit_is_told(quiet: World) -> None:
    world = quiet
    await subscribe(world, "https://receiver.example.com/")

    async def work(connection):
        await connection.execute(
            "INSERT INTO webhook_outbox (owner_id, run_id, first_seq, last_seq) VALUES (%s, gen_random_uuid(), 1, 1)",
            (world.owners["acme"],),
        )
        raise RuntimeError("refused")

    with pytest.raises(RuntimeError):
        await world.database.transaction(work)
    assert await Feed(world.database).turn(Wanted().address, limit=10) == 0
    # An entry whose run is gone, e.g. with its partition, is passed over.
    async with world.database.connection() as connection:
        await connection.execute(
            "INSERT INTO webhook_outbox (owner_id, run_id, first_seq, last_seq) VALUES (%s, gen_random_uuid(), 1, 1)",
            (world.owners["acme"],),
        )
    assert await Feed(world.database).turn(Wanted().address, limit=10) == 1
    async with world.database.connection() as connection:
        assert await fetch_all(connection, "SELECT 1 FROM webhook_outbox") == []


async def test_taking_and_ending_wait_for_no_flush_and_nothing_else_is_hurried(quiet: World) -> None:
    await subscribe(quiet, "https://example.com/a")
    await happen(quiet)
    store, feed = Deliveries(quiet.database), Feed(quiet.database)
    seen: list[tuple[str, str]] = []

    @asynccontextmanager
    async def watched():
        """A connection whose setting is looked at when the transaction is about to end, and after."""
        async with connection.transaction():
            yield connection
            seen.append((await setting(), ""))
        seen[-1] = (seen[-1][0], await setting())

    async def setting() -> str:
        return (await fetch_all(connection, "SHOW synchronous_commit"))[0][0]

    async def watched_transaction(work):
        async with watched() as found:
            return await work(found)

    async with quiet.database.connection() as connection:
        await connection.execute("SET synchronous_commit = on")  # as it is where the server's settings are no test's
        database = SimpleNamespace(connection=watched, transaction=watched_transaction)
        feed._database = store._database = database
        assert await feed.turn(Wanted().address, limit=10) == 1
        (job,) = await store.take(ROOM, lease=60)
        assert await store.end([Outcome(job, "delivered", began=1.0, entry="{}")]) == {job.id}
        await connection.execute("RESET synchronous_commit")
    assert seen == [("off", "on")] * 3
