"""Expiry, the untold, pings, and a bus that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from nats.aio.client import Client
from wfe.api.v1 import approval_service_pb2 as pb
from wfe_approvals.bus import Bus
from wfe_approvals.config import ApprovalsSettings
from wfe_approvals.usecases import expire_gates as expiry
from wfe_approvals.usecases.expire_gates import expire_gates
from wfe_approvals.usecases.tell_untold import tell_untold
from wfe_bus import subjects
from wfe_bus.connection import settle
from wfe_bus.messages import RunChanged, decoder
from wfe_servicekit.testing import until
from wfe_store.gates import Gates

decode = decoder(RunChanged).decode


@pytest.fixture
async def own_bus(settings: ApprovalsSettings) -> AsyncIterator[Bus]:
    bus = Bus(settings)
    running = asyncio.create_task(bus.run())
    await until(lambda: bus._client is not None)
    yield bus
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_expired_gates_are_told(world: Any, own_bus: Bus, bus: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "BATCH", 2)
    told = await bus.subscribe(subjects.RUN)
    await settle(bus)
    run_id = await world.run()
    due = {(await world.gate(run_id, expires_in=timedelta(seconds=-1))).bytes for _ in range(3)}
    gates = Gates(world.database)
    assert await expire_gates(gates, own_bus) is True
    assert await expire_gates(gates, own_bus) is False
    messages = [decode((await told.next_msg(timeout=5)).data) for _ in range(3)]
    assert {message.gate for message in messages} == due
    assert {message.version for message in messages} == {2, 3}


async def test_the_untold_are_told_until_they_are_taken_in(world: Any, own_bus: Bus, bus: Client) -> None:
    told = await bus.subscribe(subjects.RUN)
    await settle(bus)
    run_id = await world.run()
    gate_id = await world.gate(run_id)
    gates = Gates(world.database)
    async with world.database.connection() as connection:
        await connection.execute(
            "UPDATE gates SET status = 'approved', outcome = 'approve', decided_at = clock_timestamp() - interval '5s'"
        )
    for _ in range(2):
        assert await tell_untold(gates, own_bus) == 1
        assert decode((await told.next_msg(timeout=5)).data).gate == gate_id.bytes
    async with world.database.connection() as connection:
        await connection.execute("UPDATE gates SET told_at = clock_timestamp()")
    assert await tell_untold(gates, own_bus) == 0


async def test_both_loops_run_in_the_service(start: Any, bus: Client) -> None:
    told = await bus.subscribe(subjects.RUN)
    await settle(bus)
    world = await start(expiry_seconds=0.06, untold_seconds=0.06)
    run_id = await world.run()
    gate_id = await world.gate(run_id, expires_in=timedelta(seconds=-1))
    first = decode((await told.next_msg(timeout=5)).data)
    again = decode((await told.next_msg(timeout=5)).data)
    assert first == again == RunChanged(run=run_id.bytes, gate=gate_id.bytes, version=2)


async def test_the_service_answers_pings(world: Any, bus: Client) -> None:
    async with asyncio.timeout(5):
        while world.server.readiness.parts() != {"store": "ok", "bus": "ok"}:
            await world.server.readiness.check()
    assert world.server.readiness.ready
    assert (await bus.request(subjects.ping("approvals"), b"", timeout=5)).data == b"ok"


async def test_without_a_bus_decisions_are_taken_all_the_same(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await start(nats_url="nats://127.0.0.1:1")
    run_id = await world.run()
    gate_id = await world.gate(run_id)
    done = await world.approvals.ApproveWorkflow(
        pb.ApproveWorkflowRequest(id=str(run_id), approval_id=str(gate_id)), metadata=await world.as_("ada")
    )
    assert done.status == "approved"
    assert not world.server.readiness.ready
    untold = await Gates(world.database).untold(older_than=timedelta(0))
    assert [decision.gate_id for decision in untold] == [gate_id]
