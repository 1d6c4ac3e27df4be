"""The engine as a whole: what a part's death costs, and what it leaves behind."""

from __future__ import annotations

import pytest
from wfe_stack.faults import PartFault, StackFault
from wfe_stack.rest import ENDED
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_stack.waiting import wait_for

SLOW = """
name: slow-chain
steps:
  - {id: first, call: {handler: sleep, input: {seconds: 0.3}}}
  - {id: second, call: {handler: sleep, input: {seconds: 0.3}}}
  - {id: third, call: {handler: sleep, input: {seconds: 0.3}}}
"""


async def test_every_part_is_a_process(stack):
    assert set(stack.pids) == {"postgres", "nats", "gateway", "scheduler", "approvals", "executor"}


async def test_a_run_completes(sam, sample):
    run = await sam.start({"template_id": await sample("hello"), "input": {"name": "you"}})
    assert run["status"] == "pending"
    ended = await sam.wait_ended(run["id"])
    assert ended["status"] == "completed"
    assert ended["output"] == {"greeting": "Hello, you!"}


@pytest.mark.parametrize("part", ["executor", "scheduler", "nats", "gateway", "approvals", "postgres"])
async def test_a_run_survives_the_death_of_any_part(stack, sam, publish, part):
    run = await sam.start({"template_id": await publish(SLOW), "input": {}})

    async def working():
        found = await sam.get(f"/api/v1/workflows/{run['id']}")
        return found["status"] == "running"

    await wait_for(working)
    await stack.kill(part)
    assert part not in stack.pids
    await stack.restart(part)
    ended = await sam.wait_ended(run["id"], 60)
    assert ended["status"] == "completed"
    assert [step["status"] for step in ended["steps"]] == ["completed"] * 3


async def test_a_gate_survives_a_restart_of_everything(stack, sam, ada, sample):
    run = await sam.start({"template_id": await sample("publish-article"), "input": {"text": "Some words."}})

    async def gate():
        found = await sam.get(f"/api/v1/workflows/{run['id']}")
        return found["status"] == "waiting_approval" and found["approvals"][0]

    opened = await wait_for(gate)
    for part in ("executor", "approvals", "scheduler", "nats", "postgres"):
        await stack.terminate(part)
    for part in ("postgres", "nats", "scheduler", "approvals", "executor"):
        await _start(stack, part)
    await stack.ready()
    await ada.post(f"/api/v1/workflows/{run['id']}/approvals/{opened['id']}/approve")
    ended = await sam.wait_ended(run["id"])
    assert ended["status"] in ENDED
    assert ended["status"] == "completed"


async def _start(stack, part):
    """Start a part while others are still down, so without waiting for the whole engine."""
    try:
        await stack.restart(part, ready=False)
    except PartFault as fault:
        raise AssertionError(f"{part} did not start: {fault}") from fault


async def test_a_part_nobody_knows_is_named_with_those_there_are(stack):
    with pytest.raises(StackFault, match=r"there is no part 'database'; there are postgres, .*executor"):
        await stack.kill("database")


async def test_a_second_stack_in_the_folder_is_refused(stack):
    with pytest.raises(StackFault, match="another stack runs in"):
        await Stack(StackSettings(folder=stack.settings.folder)).start()
    assert "scheduler" in stack.pids


async def test_a_part_that_cannot_start_stops_everything_with_its_last_line(tmp_path, postgres_server):
    from wfe_stack.postgres import create_database

    settings = StackSettings(
        folder=tmp_path / "data",
        database_url=create_database(postgres_server, "wfe_broken"),
        environment={"WFE_LEASE_SECONDS": "soon"},
    )
    stack = Stack(settings)
    with pytest.raises(PartFault, match=r"^scheduler ended with exit code 2: configuration: WFE_LEASE_SECONDS"):
        await stack.start()
    assert stack.pids == {}
