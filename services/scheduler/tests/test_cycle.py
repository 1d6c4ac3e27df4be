"""The commit cycle on a real Postgres: batches, losers, broken connections."""

from __future__ import annotations

import asyncio

import pytest
from wfe_engine import commands as cmd
from wfe_engine.errors import NotFound, StateConflict
from wfe_engine.plan import Retry
from wfe_engine.state import Fault
from wfe_scheduler.ids import new_run_id
from wfe_scheduler.work import Stale
from wfe_store.commit import Lost


async def test_a_chain_runs_to_its_end_and_every_row_is_sound(make_rig, make_chain):
    rig = make_rig(make_chain("call", "call", "set", "call"))
    run, started = rig.start()
    await started
    for no in (1, 2, 4):
        await rig.report(run, no)
    state = await rig.check(run)
    assert state.status == "completed"
    assert await rig.rows("SELECT count(*) FROM dispatch") == [(0,)]
    steps = await rig.rows("SELECT no, status, attempts, executor FROM steps WHERE run_id = %s ORDER BY no", run)
    assert steps == [
        (1, "completed", 1, "x1"),
        (2, "completed", 1, "x1"),
        (3, "completed", 0, ""),
        (4, "completed", 1, "x1"),
    ]


async def test_what_arrives_together_is_committed_together(make_rig, make_chain):
    rig = make_rig(make_chain("call"))
    started = [rig.start() for _ in range(100)]
    await asyncio.gather(*(future for _, future in started))
    assert max(rig.batches) > 40
    await asyncio.gather(*(rig.report(run, 1) for run, _ in started))
    assert await rig.rows("SELECT status, count(*) FROM runs GROUP BY 1") == [("completed", 100)]
    for run, _ in started[:5]:
        await rig.check(run)


async def test_a_report_under_a_stale_fence_changes_nothing_and_costs_the_others_nothing(make_rig, make_chain):
    rig = make_rig(make_chain("call", "call"))
    runs = [rig.start() for _ in range(10)]
    await asyncio.gather(*(future for _, future in runs))
    stale_run = runs[4][0]
    await rig.rows("UPDATE dispatch SET fence = fence + 1 WHERE run_id = %s RETURNING 1", stale_run)
    results = await asyncio.gather(*(rig.report(run, 1) for run, _ in runs), return_exceptions=True)
    assert [type(r) for r in results] == [type(None)] * 4 + [Stale] + [type(None)] * 5
    assert (await rig.check(stale_run)).seq == 3
    for run, _ in runs:
        await rig.check(run)


async def test_the_same_report_twice_counts_once(make_rig, make_chain):
    rig = make_rig(make_chain("call", "call"))
    run, started = rig.start()
    await started
    results = await asyncio.gather(rig.report(run, 1), rig.report(run, 1), return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["NoneType", "Stale"]
    assert (await rig.check(run)).next_no == 3


async def test_two_schedulers_never_both_decide(make_rig, make_chain):
    one, two = make_rig(make_chain("call", "call")), make_rig(make_chain("call", "call"))
    run, started = one.start()
    await started
    results = await asyncio.gather(
        one.do(run, cmd.Pause()), two.do(run, cmd.Pause()), one.do(run, cmd.Pause()), return_exceptions=True
    )
    assert [type(r) for r in results].count(StateConflict) == 2
    assert (await one.check(run)).paused_at is not None
    # What one decided the other sees, though it remembers an older version.
    await two.do(run, cmd.Resume())
    await one.do(run, cmd.Cancel())
    assert (await one.check(run)).status == "cancelled"


async def test_many_runs_decided_by_two_schedulers_at_once_end_sound(make_rig, make_chain):
    rigs = [make_rig(make_chain("call", "call")) for _ in range(2)]
    runs = [rigs[0].start() for _ in range(30)]
    await asyncio.gather(*(future for _, future in runs))
    actions = []
    for index, (run, _) in enumerate(runs):
        actions.append(rigs[0].report(run, 1))
        actions.append(rigs[1].do(run, cmd.Pause() if index % 2 else cmd.TakeSnapshot(snapshot=str(new_run_id()))))
    results = await asyncio.gather(*actions, return_exceptions=True)
    assert not [r for r in results if isinstance(r, Exception)]
    for run, _ in runs:
        state = await rigs[0].check(run)
        assert state.scopes[""].done == "1"


async def test_another_owners_run_and_a_missing_one_are_refused_alike(make_rig, make_chain):
    rig = make_rig(make_chain("call"))
    run, started = rig.start()
    await started
    import uuid

    other = rig.submit((run, cmd.Cancel()), owner=uuid.UUID(int=99))
    missing_id = new_run_id()
    missing = rig.do(missing_id, cmd.Cancel())
    with pytest.raises(NotFound) as one:
        await other
    with pytest.raises(NotFound) as two:
        await missing
    assert one.value.message.replace(str(run), "X") == two.value.message.replace(str(missing_id), "X")


async def test_cancel_names_the_leases_to_stop_and_refuses_late_results(make_rig, make_chain):
    rig = make_rig(make_chain("call", "call"))
    run, started = rig.start()
    await started
    await rig.do(run, cmd.Cancel())
    assert [(s.run, s.no, s.executor, s.reason) for s in rig.stopped] == [(run, 1, "x1", "cancelled")]
    with pytest.raises(Stale):
        await rig.report(run, 1)
    assert await rig.rows("SELECT status, output FROM steps WHERE run_id = %s", run) == [("cancelled", None)]


async def test_fences_rise_over_retries_and_rollbacks(make_rig, make_chain):
    rig = make_rig(make_chain("checkpoint", "call", retry=Retry(max_attempts=1)))
    run, started = rig.start()
    await started
    seen = [rig.leases[(run, 2)]]
    await rig.report(run, 2, fault=Fault(code="X", message="no"))
    rig.room = False
    await rig.do(run, cmd.Retry())
    ((fence,),) = await rig.rows("SELECT fence FROM dispatch WHERE run_id = %s", run)
    seen.append(fence)
    ((snapshot, seq, text),) = await rig.rows("SELECT id, seq, state FROM snapshots WHERE run_id = %s", run)
    from wfe_engine.state import decode_state

    await rig.do(run, cmd.Rollback(snapshot=str(snapshot), seq=seq, scopes=decode_state(text).scopes))
    ((fence,),) = await rig.rows("SELECT fence FROM dispatch WHERE run_id = %s", run)
    seen.append(fence)
    assert seen == sorted(set(seen))
    await rig.check(run)
    assert [r[0] for r in await rig.rows("SELECT status FROM steps WHERE run_id = %s ORDER BY no", run)] == [
        "completed",
        "rolled_back",
    ]


async def test_retry_uses_the_recorded_input(make_rig, make_chain):
    rig = make_rig(make_chain("call"))
    run, started = rig.start()
    await started
    ((request,),) = await rig.rows("SELECT request FROM dispatch WHERE run_id = %s", run)
    await rig.report(run, 1, fault=Fault(code="X", message="no"))
    await rig.do(run, cmd.Retry())
    assert await rig.rows("SELECT request, attempt FROM dispatch WHERE run_id = %s", run) == [(request, 1)]


async def test_pause_holds_dispatch_and_gates_and_resume_shifts_them(make_rig, make_chain):
    rig = make_rig(make_chain("approval"))
    run, started = rig.start()
    await started
    await rig.do(run, cmd.Pause())
    assert (await rig.rows("SELECT held_at IS NOT NULL FROM gates WHERE run_id = %s", run)) == [(True,)]
    await rig.do(run, cmd.Resume())
    assert (await rig.rows("SELECT held_at IS NULL FROM gates WHERE run_id = %s", run)) == [(True,)]
    await rig.check(run)


async def test_a_gate_decided_meanwhile_beats_the_withdrawal(make_rig, make_chain):
    rig = make_rig(make_chain("approval", "call"))
    run, started = rig.start()
    await started
    ((gate,),) = await rig.rows("SELECT id FROM gates WHERE run_id = %s", run)
    # As the approvals service decides: the run's version first, then the gate.
    await rig.rows("UPDATE runs SET version = version + 1 WHERE id = %s RETURNING 1", run)
    await rig.rows(
        "UPDATE gates SET status = 'approved', outcome = 'approve', decided_at = now() WHERE id = %s RETURNING 1", gate
    )
    await rig.do(run, cmd.Cancel())  # takes the decision in first, then cancels what follows from it
    types = [row[0] for row in await rig.rows("SELECT type FROM events WHERE run_id = %s ORDER BY seq", run)]
    assert types[-4:] == ["step.completed", "step.ready", "step.cancelled", "run.cancelled"]
    assert "approval.approved" in types
    assert (await rig.check(run)).status == "cancelled"
    assert (await rig.rows("SELECT status FROM gates WHERE id = %s", gate)) == [("approved",)]


async def test_a_taken_key_refuses_the_second_start_only(make_rig, make_chain):
    rig = make_rig(make_chain("call"))
    starts = [rig.start("k"), rig.start("k"), rig.start("other")]
    results = await asyncio.gather(*(future for _, future in starts), return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["Lost", "NoneType", "NoneType"]
    assert any(isinstance(r, Lost) for r in results)
    assert await rig.rows("SELECT count(*) FROM runs") == [(2,)]


async def test_a_broken_connection_in_the_commit_is_looked_into_not_guessed(make_rig, make_chain):
    rig = make_rig(make_chain("call", "call", "call"))
    runs = [rig.start() for _ in range(20)]
    await asyncio.gather(*(future for _, future in runs))

    async def kill() -> None:
        for _ in range(20):
            await rig.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test-cycle'"
                " AND datname = current_database() AND state = 'active'"
            )
            await asyncio.sleep(0)

    killer = asyncio.ensure_future(kill())
    for no in (1, 2, 3):
        for run, _ in runs:
            while (run, no) not in rig.leases:
                # Its lease was lost with the connection: take it from the store as a heartbeat would have it freed.
                ((fence,),) = await rig.rows("SELECT fence FROM dispatch WHERE run_id = %s AND no = %s", run, no)
                rig.leases[(run, no)] = fence
        await asyncio.gather(*(rig.report(run, no) for run, _ in runs))
    await killer
    for run, _ in runs:
        assert (await rig.check(run)).status == "completed"
