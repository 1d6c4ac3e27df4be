"""How much may be sent to whom at once."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

import pytest
from wfe_approvals.webhooks import endpoints as module
from wfe_approvals.webhooks.endpoints import Endpoints
from wfe_store.deliveries import Job
from wfe_store.webhooks import Webhook


class Store:
    """Knows every subscription, and no keys."""

    async def load(self, ids):
        moment = datetime.now(UTC)
        return {
            one: Webhook(
                id=one, owner_id=one, name="", url="", event_types=("*",), filter="", ordered=False, version=1,
                active_from=moment, failing_since=None, paused_until=None, disabled_at=None, disabled_reason="",
                created_by=one, created_at=moment,
            )
            for one in ids
        }  # fmt: skip

    async def secrets(self, ids):
        return {}


def a_job(webhook_id: uuid.UUID) -> Job:
    return Job(uuid.uuid4(), 1, webhook_id, 1, 0, False, None, "msg_1", "{}")


@pytest.fixture
async def known():
    """Endpoints for 10 attempts in all and 4 to each, and a function that makes a receiver known."""
    endpoints = Endpoints(Store(), None, at_once=4, in_all=10)

    async def add(*, works: bool | None = None, took: float = 0.0) -> uuid.UUID:
        webhook_id = uuid.uuid4()
        await endpoints.load([a_job(webhook_id)])
        if works is not None:
            endpoint, number = endpoints.begin(a_job(webhook_id))
            endpoints.end(endpoint, number, works=works, took=took)
        return webhook_id

    return endpoints, add


async def test_who_works_gets_its_room_and_others_one(known):
    endpoints, add = known
    well, failing, slow = await add(works=True), await add(works=False), await add(works=True, took=5)
    room = endpoints.room()
    assert (room.rooms[well], room.rooms[failing]) == (4, 1)
    assert 1 <= room.rooms[slow] <= 4
    endpoints.begin(a_job(well))
    assert endpoints.room().rooms[well] == 3
    assert endpoints.room().known == 9


async def test_those_that_are_slow_fail_or_are_new_share_half(known):
    endpoints, add = known
    well = await add(works=True)
    others = [await add(works=False) for _ in range(20)] + [await add() for _ in range(20)]
    room = endpoints.room()
    assert sum(room.rooms[one] for one in others) + room.new == 5
    for one in others[:5]:
        endpoints.begin(a_job(one))
    room = endpoints.room()
    assert (sum(room.rooms[one] for one in others), room.new, room.rooms[well], room.known) == (0, 0, 4, 5)


async def test_who_is_just_being_slow_counts_as_slow(known, monkeypatch):
    endpoints, add = known
    hanging, well = await add(works=True), await add(works=True)
    for _ in range(4):
        endpoints.begin(a_job(hanging))
    monkeypatch.setattr(module, "SLOW_SECONDS", -1.0)
    assert endpoints.room().new == 1
    monkeypatch.setattr(module, "SLOW_SECONDS", 1.0)
    assert (endpoints.room().new, endpoints.room().rooms[well]) == (5, 4)


async def test_a_success_is_recorded_after_a_failure_and_now_and_then(known, monkeypatch):
    endpoints, add = known
    one = await add(works=True)
    assert endpoints.is_news(one)
    assert not endpoints.is_news(one)
    endpoint, number = endpoints.begin(a_job(one))
    endpoints.end(endpoint, number, works=False, took=0)
    assert endpoints.is_news(one)
    assert not endpoints.is_news(one)
    later = time.monotonic() + module.NOTED_SECONDS + 1
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert endpoints.is_news(one)


async def test_jobs_of_a_subscription_that_is_gone_are_not_begun(known):
    endpoints, _ = known
    assert endpoints.begin(a_job(uuid.uuid4())) is None
