"""What commands bring about in a run, one rule at a time."""

from __future__ import annotations

import pytest
from wfe_engine import commands as cmd
from wfe_engine.plan import Block, Literal, MapOf, Node, Path, Retry, Text
from wfe_engine.state import Fault


def test_a_list_of_steps_runs_in_order_and_completes(make_run, make_step):
    run = make_run(make_step("a"), make_step("b")).start()
    assert run.status == "running"
    assert run.paths("ready") == ["a"]
    run.report("a")
    assert run.paths("ready") == ["b"]
    run.report("b")
    assert run.status == "completed"
    assert run.types[-2:] == ["step.completed", "run.completed"]


def test_a_graph_enters_what_is_free_and_joins(make_run, make_step):
    run = make_run(
        make_step("a"), make_step("b", needs=()), make_step("join", needs=("a", "b")), make_step("c", needs=("a",))
    ).start()
    assert run.paths("ready") == ["a", "b"]
    run.report("a")
    assert run.paths("ready") == ["b", "c"]
    run.report("b")
    assert run.paths("ready") == ["c", "join"]


def test_outputs_flow_into_later_steps_and_into_the_output(make_run, make_step):
    params = MapOf(
        (
            ("input", Path("steps", ("a", "output", "text"), "…")),
            ("note", Text(("got ", Path("vars", ("x",), "vars.x")))),
        )
    )
    run = make_run(
        make_step("a"),
        make_step("b", params=params),
        variables={"x": 7},
        output=Path("steps", ("b", "output"), "…"),
    ).start()
    decision = run.report("a", b'{"text":"hello"}')
    assert decision.effects.dispatches[0].request == b'{"input":"hello","note":"got 7"}'
    assert run.report("b", b"[1,2]").effects.output == b"[1,2]"


def test_a_step_whose_condition_is_false_is_skipped_and_what_needs_it_goes_on(make_run, make_step):
    run = make_run(make_step("a", condition=Literal(False)), make_step("b")).start()
    assert run.paths("ready") == ["b"]
    assert "step.skipped" in run.types


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_condition_that_is_not_a_boolean_fails_the_step(make_run, make_step, value):
    run = make_run(make_step("a", condition=Literal(value))).start()
    assert run.status == "failed"
    assert run.state.fault.code == "EXPRESSION_ERROR"


def test_an_expression_that_cannot_be_evaluated_fails_the_run_and_names_itself(make_run, make_step):
    run = make_run(
        make_step("a"),
        make_step("b", params=MapOf((("x", Path("steps", ("a", "output", "nope"), "steps.a.output.nope")),))),
    ).start()
    run.report("a", b'{"text":"hello"}')
    assert run.status == "failed"
    assert run.state.fault.step == "b"
    assert "steps.a.output.nope" in run.state.fault.message


def test_set_and_checkpoint_are_done_within_one_decision(make_run, make_step):
    run = make_run(
        make_step("s", "set", params=Literal({"n": 1})),
        make_step("c", "checkpoint", params=Literal({"name": "here"})),
        make_step("b", params=MapOf((("n", Path("steps", ("s", "output", "n"), "…")),))),
    )
    decision = run.start().decisions[0]
    assert decision.effects.dispatches[0].request == b'{"n":1}'
    assert [(s.kind, s.name) for s in decision.effects.snapshots] == [("checkpoint", "here")]


def test_a_failed_attempt_is_retried_after_its_backoff_and_counts(make_run, make_step):
    run = make_run(make_step("a", retry=Retry(max_attempts=3, initial=2.0, jitter="none"))).start()
    again = run.fail("a").effects.again[0]
    assert (again.attempt, again.available_at) == (2, run.now + 2.0)
    again = run.fail("a").effects.again[0]
    assert (again.attempt, again.available_at) == (3, run.now + 4.0)
    run.fail("a")
    assert run.status == "failed"
    assert run.state.fault.code == "HANDLER_ERROR"


def test_retry_after_is_obeyed(make_run, make_step):
    run = make_run(make_step("a", retry=Retry(max_attempts=2, initial=1.0, max=5.0, jitter="none"))).start()
    assert run.fail("a", retry_after=30.0).effects.again[0].available_at == run.now + 30.0


@pytest.mark.parametrize(
    ("policy", "code", "retryable"),
    [
        (Retry(max_attempts=5), "X", False),
        (Retry(max_attempts=5, on=("Y",)), "X", True),
        (Retry(max_attempts=5, never=("X",)), "X", True),
    ],
)
def test_what_may_not_be_retried_fails_at_once(make_run, make_step, policy, code, retryable):
    run = make_run(make_step("a", retry=policy)).start()
    run.fail("a", code, retryable=retryable)
    assert run.status == "failed"


def test_a_failure_cancels_what_is_in_flight_and_tells_executors_to_stop(make_run, make_step):
    run = make_run(make_step("a"), make_step("b", needs=())).start()
    decision = run.fail("a")
    assert run.status == "failed"
    stopped = [f for f in decision.effects.finished if f.stop]
    assert [(f.status, f.stop, f.fence) for f in stopped] == [("cancelled", "failed", None)]


def test_a_wait_ends_at_its_moment_not_before(make_run, make_step):
    run = make_run(make_step("w", "wait"), make_step("b")).start()
    no = run.live("w").no
    assert run.decisions[0].effects.timers == {no: 1005.0}
    run.now = 1004.0
    assert run.do(cmd.TimerDue(no=no, due=1005.0)).effects.timers == {no: 1005.0}
    run.now = 1005.0
    run.do(cmd.TimerDue(no=no, due=1005.0))
    assert run.paths("ready") == ["b"]


def test_a_timer_nothing_waits_for_is_taken_away(make_run, make_step):
    run = make_run(make_step("a")).start()
    decision = run.do(cmd.TimerDue(no=77, due=1.0))
    assert not decision.events
    assert decision.effects.timers == {77: None}


def test_the_total_clock_of_a_run_fails_it(make_run, make_step):
    run = make_run(make_step("a"), total=10.0).start()
    assert run.decisions[0].effects.timers == {0: 1010.0}
    run.now = 1010.0
    run.do(cmd.TimerDue(no=0, due=1010.0))
    assert (run.status, run.state.reason) == ("failed", "run_timeout")


@pytest.mark.parametrize("code", ["QUEUE_TIMEOUT", "TOTAL_TIMEOUT", "LEASES_LOST"])
def test_a_clock_that_runs_out_fails_the_step_without_another_attempt(make_run, make_step, code):
    run = make_run(make_step("a", retry=Retry(max_attempts=5))).start()
    run.do(cmd.ClockRanOut(no=1, fence=9, fault=Fault(code=code, message="…")))
    assert run.status == "failed"
    assert run.state.fault.code == code
    assert run.decisions[-1].effects.finished[0].fence == 9


def test_pause_keeps_results_of_steps_in_flight_and_enters_nothing(make_run, make_step):
    run = make_run(make_step("a"), make_step("b")).start()
    assert run.do(cmd.Pause()).effects.hold
    assert run.status == "paused"
    run.report("a")
    assert run.done("a")
    assert run.status == "paused"
    assert run.paths("ready") == []
    run.now += 60
    assert run.do(cmd.Resume()).effects.release == 60
    assert run.paths("ready") == ["b"]


def test_pause_freezes_waits_and_backoffs(make_run, make_step):
    run = make_run(
        make_step("w", "wait"), make_step("a", needs=(), retry=Retry(max_attempts=2, initial=8, jitter="none"))
    )
    run.start()
    run.now = 1001.0
    assert run.do(cmd.Pause()).effects.timers == {run.live("w").no: None}
    run.now = 1003.0
    assert run.fail("a").effects.again[0].available_at == 1001.0 + 8  # as of the pause: released later
    run.now = 1101.0
    assert run.do(cmd.Resume()).effects.timers == {run.live("w").no: 1105.0}
    assert run.live("a").due == 1109.0


def test_the_last_step_done_while_paused_completes_the_run_only_on_resume(make_run, make_step):
    run = make_run(make_step("a")).start()
    run.do(cmd.Pause())
    run.report("a")
    assert run.status == "paused"
    run.do(cmd.Resume())
    assert run.status == "completed"


def test_a_gate_holds_the_run_with_a_snapshot_and_approval_lets_it_go_on(make_run, make_step):
    run = make_run(make_step("g", "approval"), make_step("b")).start()
    assert run.status == "waiting_approval"
    effects = run.decisions[0].effects
    assert [s.kind for s in effects.snapshots] == ["gate"]
    assert len(effects.gates[0].digest) == 64
    decision = run.gate("g", comment="fine")
    assert decision.effects.told == [effects.gates[0].id]
    assert run.paths("ready") == ["b"]
    seen = decision.added["/g"].value
    assert (seen["decision"], seen["comment"], seen["decided_by"]) == ("approve", "fine", "p")


def test_rejection_fails_the_run_with_its_reason(make_run, make_step):
    run = make_run(make_step("g", "approval")).start()
    run.gate("g", "reject", comment="too long")
    assert (run.status, run.state.reason) == ("failed", "approval_rejected")
    assert "too long" in run.state.fault.message


@pytest.mark.parametrize(("outcome", "reason"), [("reject", "approval_rejected"), ("fail", "approval_expired")])
def test_expiry_takes_the_default(make_run, make_step, outcome, reason):
    run = make_run(make_step("g", "approval")).start()
    run.gate("g", outcome, expired=True)
    assert run.state.reason == reason
    assert "approval.expired" in run.types


def test_a_decision_for_a_gate_nobody_waits_at_changes_nothing_but_is_taken_in(make_run, make_step):
    run = make_run(make_step("a")).start()
    decision = run.do(cmd.GateClosed(gate="g-1", outcome="approve"))
    assert not decision.events
    assert decision.effects.told == ["g-1"]


def test_waiting_approval_only_when_nothing_but_gates_is_left(make_run, make_step):
    run = make_run(make_step("g", "approval"), make_step("a", needs=())).start()
    assert run.status == "running"
    run.report("a")
    assert run.status == "waiting_approval"


def test_approving_while_paused_is_kept_and_the_run_stays_paused(make_run, make_step):
    run = make_run(make_step("g", "approval"), make_step("b")).start()
    run.do(cmd.Pause())
    run.gate("g")
    assert run.status == "paused"
    run.do(cmd.Resume())
    assert run.paths("ready") == ["b"]


def test_cancel_stops_everything_and_withdraws_gates(make_run, make_step):
    run = make_run(make_step("g", "approval"), make_step("a", needs=()), make_step("w", "wait", needs=())).start()
    effects = run.do(cmd.Cancel()).effects
    assert run.status == "cancelled"
    assert [c.status for c in effects.closed_gates] == ["withdrawn"]
    assert [f.stop for f in effects.finished] == ["cancelled"]
    assert effects.timers[run_no(run, "w")] is None


def run_no(run, path):
    return next(e.no for e, _ in run.log if getattr(e, "step", "") == path)


def test_retry_goes_on_from_the_failed_step_with_a_fresh_budget_and_its_recorded_input(make_run, make_step):
    run = make_run(
        make_step("a"),
        make_step("b", params=MapOf((("x", Path("steps", ("a", "output"), "…")),)), retry=Retry(max_attempts=2)),
    ).start()
    run.report("a")
    run.fail("b")
    run.fail("b")
    assert run.status == "failed"
    effects = run.do(cmd.Retry()).effects
    assert run.status == "running"
    assert run.state.epoch == 2
    assert [r.path for r in effects.redispatches] == ["b"]
    assert not effects.dispatches
    assert run.fail("b").effects.again  # the budget is fresh
    run.report("b")
    assert run.status == "completed"


def test_retry_of_a_cancelled_run_goes_on_where_it_was(make_run, make_step):
    run = make_run(make_step("a"), make_step("b"), make_step("w", "wait", needs=())).start()
    run.report("a")
    run.do(cmd.Cancel())
    effects = run.do(cmd.Retry()).effects
    assert run.paths("ready") == ["b"]
    assert run.paths("waiting") == ["w"]
    assert [r.path for r in effects.redispatches] == ["b"]


def test_retry_after_a_rejection_opens_a_new_gate_that_names_the_old(make_run, make_step):
    run = make_run(make_step("g", "approval")).start()
    old = run.live("g").gate
    run.gate("g", "reject")
    gate = run.do(cmd.Retry()).effects.gates[0]
    assert gate.replaces == old
    assert gate.id != old
    assert run.status == "waiting_approval"


def test_rollback_restores_the_snapshot_exactly_and_undoes_what_came_later(make_run, make_step):
    run = make_run(make_step("a"), make_step("c", "checkpoint"), make_step("b"), make_step("d")).start()
    snapshot = run.report("a").effects.snapshots[0]
    at_snapshot = run.state
    run.report("b")
    from wfe_engine.state import decode_state

    scopes = decode_state(snapshot.state).scopes
    decision = run.do(cmd.Rollback(snapshot=snapshot.id, seq=snapshot.seq, scopes=scopes))
    assert decision.effects.rolled_back == snapshot.seq
    assert [f.status for f in decision.effects.finished] == ["rolled_back"]  # d was in flight
    assert run.state.scopes[""].done == at_snapshot.scopes[""].done
    assert run.paths("ready") == ["b"]
    assert run.live("b").visit == 2
    assert run.live("b").no > 3  # a row of its own: what was done before stays on record


def test_rollback_withdraws_open_gates_and_opens_them_anew(make_run, make_step):
    run = make_run(make_step("g", "approval")).start()
    snapshot = run.decisions[0].effects.snapshots[0]
    first = run.live("g").gate
    from wfe_engine.state import decode_state

    run.do(cmd.Rollback(snapshot=snapshot.id, seq=snapshot.seq, scopes=decode_state(snapshot.state).scopes))
    assert run.live("g").gate != first
    assert run.decisions[-1].effects.closed_gates[0].id == first


def test_rollback_after_the_end_opens_a_new_epoch(make_run, make_step):
    run = make_run(make_step("c", "checkpoint"), make_step("a")).start()
    snapshot = run.decisions[0].effects.snapshots[0]
    run.report("a")
    from wfe_engine.state import decode_state

    run.do(cmd.Rollback(snapshot=snapshot.id, seq=snapshot.seq, scopes=decode_state(snapshot.state).scopes))
    assert run.status == "running"
    assert run.state.epoch == 2


def test_a_fork_begins_at_the_frontier_it_is_given(make_run, make_step):
    from wfe_engine.state import Scope
    from wfe_engine.values import Record

    run = make_run(make_step("a"), make_step("b"))
    run.values.records["/a"] = Record(status="completed", output=b"{}")
    run.do(
        cmd.Start(
            template="t", template_version=1, trigger="fork", input={}, forked_from="r0", snapshot="s0",
            scopes={"": Scope(done="1")}, next_no=2,
        )
    )  # fmt: skip
    assert run.paths("ready") == ["b"]
    assert run.live("b").no == 2


def test_periodic_snapshots_come_every_so_many_events(make_run, make_step):
    run = make_run(*[make_step(f"s{i}") for i in range(6)], env={"snapshot_every": 5}).start()
    for i in range(5):
        run.report(f"s{i}")
    kinds = [s.kind for d in run.decisions for s in d.effects.snapshots]
    assert len(kinds) >= 2
    assert set(kinds) == {"periodic"}


def test_sealed_values_stay_placeholders(make_run, make_step):
    sealed = {"$sealed": [{"var": "token"}]}
    params = MapOf((("auth", Text(("Bearer ", Path("vars", ("token",), "…")))), ("raw", Path("vars", ("token",), "…"))))
    run = make_run(make_step("a", params=params, sealed=True), variables={"token": sealed}).start()
    dispatch = run.decisions[0].effects.dispatches[0]
    assert dispatch.sealed
    assert dispatch.request == b'{"auth":{"$sealed":["Bearer ",{"var":"token"}]},"raw":{"$sealed":[{"var":"token"}]}}'


def test_a_report_for_a_step_that_is_not_live_changes_nothing(make_run, make_step):
    run = make_run(make_step("a")).start()
    run.report("a")
    assert run.do(cmd.Report(no=1, output=b"{}", executor="x", fence=1)).empty


def test_a_hard_cancel_ends_a_branch_that_only_waits_for_its_finally(make_run, make_step):
    def work(id_: str, path: str, index: int = 0) -> Node:
        return Node(id=id_, index=index, path=path, kind="call", params=Literal({}), retry=Retry(max_attempts=1))

    body = Block((work("f", "p/b/t/body/f"),), (0,), name="body", role="body", result=0)
    last = Block((work("z", "p/b/t/finally/z"),), (0,), name="finally", role="finally", result=0)
    tried = Node(id="t", index=0, path="p/b/t", kind="try", params=Literal({}), blocks=(body, last))
    branches = (
        Block((work("x", "p/a/x"),), (0,), name="a", result=0),
        Block((tried, work("u", "p/b/u", 1)), (0, 1), name="b", result=0),
    )
    run = make_run(make_step("p", "parallel", params=Literal({"on_failure": "collect"}), blocks=branches)).start()
    run.fail("p/b/t/body/f")
    run.fail("p/b/u")
    assert run.paths("ready") == ["p/a/x", "p/b/t/finally/z"]
    run.do(cmd.Cancel(hard=True))
    assert run.status == "cancelled"
    assert not run.rows.dispatch
