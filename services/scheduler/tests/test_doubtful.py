"""Commits whose answer is lost, and gates that are decided behind a run's back."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from wfe_engine import commands as cmd
from wfe_engine.plan import Block, Literal, Node, Plan, Retry
from wfe_scheduler import cycle
from wfe_scheduler.ids import new_run_id
from wfe_store.commit import Lost, Unknown
from wfe_store.commit import commit as real


@pytest.fixture
def answers(monkeypatch):
    """What becomes of the next commits: lost before they happen, or after."""
    waiting: list[str] = []

    async def commit(wire, batch):
        what = waiting.pop(0) if waiting else ""
        if what == "refused":
            raise Lost("somebody else was there first")
        if what == "before":
            await wire.close()
            raise Unknown
        stopped = await real(wire, batch)
        if what == "after":
            await wire.close()
            raise Unknown
        return stopped

    monkeypatch.setattr(cycle.store, "commit", commit)
    return waiting


async def events(rig, run: uuid.UUID, type_: str) -> int:
    ((count,),) = await rig.rows("SELECT count(*) FROM events WHERE run_id = %s AND type = %s", run, type_)
    return count


@pytest.mark.parametrize(
    "lost", [["after"], ["before"], ["before", "after"], ["refused", "after"], ["before", "before"]]
)
async def test_a_command_whose_answer_is_lost_happens_once(make_rig, make_chain, answers, lost):
    rig = make_rig(make_chain("call"))
    run, started = rig.start()
    await started
    answers += lost
    await rig.do(run, cmd.TakeSnapshot(snapshot=str(new_run_id())))
    assert await events(rig, run, "snapshot.created") == 1
    await rig.check(run)


async def test_that_others_decided_since_does_not_hide_that_it_happened(make_rig, make_chain, answers, monkeypatch):
    rig, other = make_rig(make_chain("call")), make_rig(make_chain("call"))
    run, started = rig.start()
    await started
    decided = asyncio.Event()
    load = rig.load

    async def late(runs):
        await decided.wait()
        return await load(runs)

    monkeypatch.setattr(rig.cycle, "_load", late)
    answers.append("after")
    asked = rig.do(run, cmd.TakeSnapshot(snapshot=str(new_run_id())))
    while await events(rig, run, "snapshot.created") == 0:
        await asyncio.sleep(0.01)
    await other.do(run, cmd.Pause())
    decided.set()
    await asked
    assert await events(rig, run, "snapshot.created") == 1


async def test_the_same_decision_of_another_is_not_taken_for_ones_own(make_rig, make_chain, answers):
    rig, other = make_rig(make_chain("call")), make_rig(make_chain("call"))
    run, started = rig.start()
    await started
    await other.do(run, cmd.Cancel())
    answers.append("before")
    with pytest.raises(Exception, match="cannot be cancelled"):
        await rig.do(run, cmd.Cancel())
    assert await events(rig, run, "run.cancelled") == 1


async def test_two_gates_rejected_at_once_do_not_hold_each_other_up(make_rig):
    nodes = tuple(
        Node(id=f"g{i}", index=i, path=f"g{i}", kind="approval", params=Literal({"title": "Go?"}), retry=Retry())
        for i in range(2)
    )
    rig = make_rig(Plan("p", (), Block(nodes, (0, 1))))
    run, started = rig.start()
    await started
    # As the approvals service decides both, before the run has taken in either.
    await rig.rows("UPDATE runs SET version = version + 2 WHERE id = %s RETURNING 1", run)
    gates = await rig.rows(
        "UPDATE gates SET status = 'rejected', outcome = 'reject', decided_at = now() WHERE run_id = %s RETURNING id",
        run,
    )
    for (gate,) in gates:
        await rig.gates.tell(gate)
    await rig.cycle.drain()
    assert (await rig.check(run)).status == "failed"
    assert (
        await rig.rows("SELECT status, told_at IS NULL FROM gates WHERE run_id = %s", run) == [("rejected", False)] * 2
    )


@pytest.mark.parametrize("size", [10, 300_000])
async def test_a_large_value_made_by_hand_is_known_again_when_the_answer_is_lost(make_rig, make_chain, answers, size):
    rig = make_rig(make_chain("call"))
    run, started = rig.start()
    await started
    answers.append("after")
    await rig.do(run, cmd.SettleStep(no=1, output=b'"' + b"x" * size + b'"'))
    assert await events(rig, run, "step.edited") == 1
    assert (await rig.check(run)).status == "completed"
