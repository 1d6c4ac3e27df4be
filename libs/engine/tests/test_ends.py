"""Ends that come from outside while a run is ending already."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from wfe_engine import commands as cmd
from wfe_engine.errors import StateConflict
from wfe_engine.plan import Block, Literal, Node, Plan, Retry
from wfe_engine.state import Fault


def node(index: int, kind: str, prefix: str = "", **more: object) -> Node:
    name = f"s{index}"
    given = {"on_failure": "stop"} if kind == "parallel" else {"title": "Go?"}
    return Node(id=name, index=index, path=f"{prefix}{name}", kind=kind, params=Literal(given),
                retry=Retry(max_attempts=1), **more)  # fmt: skip


def block(*nodes: Node, **more: object) -> Block:
    return Block(nodes, tuple(range(len(nodes))), result=len(nodes) - 1, **more)


def compensating(make_run_of):
    undo = Node(id="s0", index=0, path="s0~", kind="call", params=Literal({}))
    plan = Plan("p", (), block(node(0, "set", compensate=undo), node(1, "call")), compensate_on=frozenset({"failure"}))
    run = make_run_of(plan).start()
    run.fail("s1")
    assert run.state.phase == "compensating"
    return run


def test_a_compensation_whose_clock_runs_out_is_one_that_failed(make_run_of):
    run = compensating(make_run_of)
    undo = run.live("s0~")
    fault = Fault(code="LEASES_LOST", message="its lease was lost 5 times")
    run.do(cmd.ClockRanOut(no=undo.no, fence=1, fault=fault))
    assert run.status == "failed"
    assert run.state.not_undone == ("s0",)
    assert not run.rows.dispatch


def test_a_fault_of_the_engine_ends_compensations_too(make_run_of):
    run = compensating(make_run_of)
    run.do(cmd.Break(message="the engine could not go on"))
    assert run.status == "failed"
    assert not run.rows.dispatch
    assert not [step for _, _, step in run.state.steps() if step.status == "ready"]


def test_nothing_is_entered_beside_compensations(make_run_of):
    undo = Node(id="s0", index=0, path="s0~", kind="call", params=Literal({}))
    fails = replace(node(1, "fail"), params=Literal({"code": "X", "message": "no"}))
    steps = block(node(0, "set", compensate=undo), fails, node(2, "call"))
    run = make_run_of(Plan("p", (), steps, compensate_on=frozenset({"failure"}))).start()
    assert run.state.phase == "compensating"
    assert run.paths("ready") == ["s0~"]
    run.report("s0~")
    assert run.status == "failed"
    assert not run.rows.dispatch


def test_what_was_taken_back_is_no_place_to_return_to(make_run_of):
    run = compensating(make_run_of)
    run.do(cmd.Cancel(hard=True))
    with pytest.raises(StateConflict, match="taken back"):
        run.do(cmd.TakeSnapshot(snapshot=run.new_id()))


@pytest.mark.parametrize("hard", [True, False])
def test_a_stop_is_not_what_a_catch_takes_from_a_block_that_was_failing(make_run_of, hard):
    final = block(node(0, "call", "s0/body/s0/finally/"), name="finally", role="finally")
    inner = node(
        0, "try", "s0/body/", blocks=(block(node(0, "call", "s0/body/s0/body/"), name="body", role="body"), final)
    )
    body = block(inner, node(1, "call", "s0/body/"), name="body", role="body")
    catch = block(node(0, "call", "s0/catch/"), name="catch", role="catch")
    run = make_run_of(Plan("p", (), block(node(0, "try", blocks=(body, catch))))).start()
    run.fail("s0/body/s1")  # the body fails, and waits for what is to be done at the end of the step beside
    assert run.paths("ready") == ["s0/body/s0/finally/s0"]
    run.do(cmd.Cancel(hard=hard))
    if not hard:
        run.report("s0/body/s0/finally/s0")
    assert run.status == "cancelled"
    assert not run.rows.dispatch


def test_a_branch_that_fails_after_its_finally_may_end_all_around_it(make_run_of):
    at = "s0/a/s0/"
    nested = node(0, "parallel", f"{at}b0/", blocks=(block(node(0, "call", f"{at}b0/s0/b/"), name="b"),))
    final = block(node(0, "call", f"{at}b1/s0/finally/"), name="finally", role="finally")
    body = block(node(0, "call", f"{at}b1/s0/body/"), name="body", role="body")
    failing = block(node(0, "try", f"{at}b1/", blocks=(body, final)), node(1, "call", f"{at}b1/"), name="b1")
    inner = node(0, "parallel", "s0/a/", blocks=(block(nested, name="b0"), failing))
    takes = replace(node(0, "parallel", blocks=(block(inner, name="a"),)), params=Literal({"on_failure": "collect"}))
    run = make_run_of(Plan("p", (), block(takes))).start()
    run.fail(f"{at}b1/s1")  # the branch waits for what is done at the end of the step beside
    run.report(f"{at}b1/s0/finally/s0")
    assert run.status == "completed"
    assert not run.rows.dispatch


def test_a_decision_that_voids_another_gate_says_that_it_may_have_been_decided(make_run, make_step):
    run = make_run(make_step("a", "approval"), make_step("b", "approval", needs=())).start()
    voided = run.live("b").gate
    decision = run.gate("a", "reject")
    assert [(gate.id, gate.decided) for gate in decision.effects.closed_gates] == [(voided, True)]
    again = make_run(make_step("a", "approval")).start()
    assert [gate.decided for gate in again.do(cmd.Cancel()).effects.closed_gates] == [False]
