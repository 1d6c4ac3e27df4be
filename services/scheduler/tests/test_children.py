"""Child runs on a real Postgres: what their parents want of them is carried out, late and in any order."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from msgspec.structs import replace
from wfe_engine import commands as cmd
from wfe_engine.plan import Literal, Plan
from wfe_scheduler import children as children_module
from wfe_scheduler.children import Children
from wfe_scheduler.clock import StoreClock
from wfe_scheduler.plans import Published
from wfe_scheduler.traces import Traces
from wfe_store.children import overdue_wishes

CHILD = UUID(int=10)


class Plans:
    """The one template that runs start others of."""

    def __init__(self, plan: Plan) -> None:
        self.published = Published(CHILD, "child", 1, plan)

    async def of_run(self, owner: UUID, template: UUID, version: int) -> Published:
        assert template == CHILD
        return self.published


class Family:
    """A parent whose only step is a run of another template, on a rig; nothing is carried out but by `carry_out`."""

    def __init__(self, rig, plans: Plans) -> None:
        self.rig = rig
        clock = StoreClock(rig.database)
        self.children = Children(rig.database, rig.cycle, plans, clock, Traces(rig.database, clock))

    async def carry_out(self) -> None:
        """What a sweep does."""
        await self.children.run_once()
        while self.children._tasks:
            await asyncio.wait(set(self.children._tasks))
        await self.rig.cycle.drain()

    async def child(self) -> UUID | None:
        found = await self.rig.rows("SELECT id FROM runs WHERE parent_run IS NOT NULL")
        return found[0][0] if found else None


@pytest.fixture
async def family(make_rig, make_chain, monkeypatch):
    monkeypatch.setattr(children_module, "OVERDUE_SECONDS", 0.0)
    parent = make_chain("workflow")
    params = Literal({"template": str(CHILD), "version": 1, "input": {}})
    (node,) = parent.root.nodes
    parent = replace(parent, root=replace(parent.root, nodes=(replace(node, params=params),)))
    rig, plans = make_rig(parent), Plans(make_chain("call"))
    rig.others[CHILD] = plans.published
    return Family(rig, plans)


@pytest.mark.parametrize("cancel_is_carried_out", [True, False])
async def test_a_child_that_was_cancelled_before_it_began_begins_when_its_parent_is_retried(
    family, cancel_is_carried_out
):
    rig = family.rig
    run, started = rig.start()
    await started
    await rig.do(run, cmd.Cancel())
    if cancel_is_carried_out:
        await family.carry_out()
        assert await rig.rows("SELECT 1 FROM children") == []
    assert await family.child() is None
    await rig.do(run, cmd.Retry())
    assert await rig.rows("SELECT wish, done FROM children") == [("retry", False)]
    await family.carry_out()
    child = await family.child()
    assert child is not None
    assert await rig.rows("SELECT child_id, done FROM children") == [(child, True)]
    await rig.report(child, 1)
    await family.carry_out()
    assert (await rig.check(child)).status == "completed"
    assert (await rig.check(run)).status == "completed"
    assert await rig.rows("SELECT 1 FROM children") == []


async def test_a_child_that_nobody_wants_any_more_does_not_begin(family):
    rig = family.rig
    run, started = rig.start()
    await started
    async with rig.database.connection() as connection:
        (late,) = await overdue_wishes(connection, 0.0)
    await rig.do(run, cmd.Cancel())
    await family.carry_out()
    await family.children._carry_out(late)  # by a scheduler that read the wish before the cancel
    assert await family.child() is None
