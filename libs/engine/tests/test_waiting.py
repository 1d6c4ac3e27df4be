"""Steps that wait: their timers when what they stand in is retried, and answers that say that it failed."""

from __future__ import annotations

import pytest
from wfe_engine import commands as cmd
from wfe_engine.plan import Block, Literal, Node, Plan, Retry

CALLBACK = {"callback": "paid"}


def node(index: int, kind: str, prefix: str = "", **more: object) -> Node:
    name = f"s{index}"
    given = Literal({"for": 5} if kind == "wait" else {})
    return Node(id=name, index=index, path=f"{prefix}{name}", kind=kind, params=given, retry=Retry(max_attempts=1),
                **more)  # fmt: skip


def block(*nodes: Node, **more: object) -> Block:
    return Block(nodes, tuple(range(len(nodes))), result=len(nodes) - 1, **more)


def trying(make_run_of):
    """A try whose body is a call and whose finally is a wait of 5 s."""
    body = block(node(0, "call", "s0/body/"), name="body", role="body")
    final = block(node(0, "wait", "s0/finally/"), name="finally", role="finally")
    return make_run_of(Plan("p", (), block(node(0, "try", blocks=(body, final))))).start()


def waits(run) -> dict[int, float]:
    """Its timers, which are those of its waiting steps."""
    due = {step.no: step.due for _, _, step in run.state.steps() if step.status == "waiting"}
    assert run.rows.timers == due
    return due


def ticks(run, no: int, due: float) -> None:
    run.now = max(run.now, due)
    run.do(cmd.TimerDue(no=no, due=due))


def test_a_wait_in_a_finally_that_was_stopped_goes_on_when_its_run_is_retried(make_run_of):
    run = trying(make_run_of)
    run.report("s0/body/s0")
    ((no, first),) = waits(run).items()
    run.do(cmd.Cancel(hard=True))
    assert waits(run) == {}
    run.now += 3
    run.do(cmd.Retry())
    ((again, due),) = waits(run).items()
    assert (again, due) == (no, run.now + 5)
    ticks(run, no, first)  # the old timer, swept before the cancel and told now
    assert run.status == "running"
    assert waits(run) == {no: due}
    ticks(run, no, due)
    ticks(run, no, due)  # told twice
    assert run.status == "completed"
    assert waits(run) == {}
    completed = [event.step for event, _ in run.log if event.TYPE == "step.completed"]
    assert completed.count("s0/finally/s0") == 1


def test_a_wait_in_a_finally_is_begun_anew_when_what_failed_before_it_is_retried(make_run_of):
    run = trying(make_run_of)
    run.fail("s0/body/s0")
    ((early, first),) = waits(run).items()
    run.do(cmd.Cancel(hard=True))
    assert waits(run) == {}
    run.do(cmd.Retry())
    assert waits(run) == {}  # the body is run again, and what comes after it comes after it again
    ticks(run, early, first)
    assert run.paths("ready") == ["s0/body/s0"]
    run.report("s0/body/s0")
    ((no, due),) = waits(run).items()
    ticks(run, early, first)
    assert waits(run) == {no: due}
    ticks(run, no, due)
    assert run.status == "completed"
    assert waits(run) == {}


def test_a_wait_in_a_finally_has_its_timer_once_when_its_run_is_paused_and_retried(make_run_of):
    run = trying(make_run_of)
    run.report("s0/body/s0")
    run.do(cmd.Pause())
    assert run.rows.timers == {}
    run.do(cmd.Cancel(hard=True))
    run.do(cmd.Retry())
    ((no, due),) = waits(run).items()
    ticks(run, no, due)
    assert run.status == "completed"
    assert waits(run) == {}


def answered(run, failed: bool) -> None:
    run.do(cmd.Signal(signal=run.new_id(), name="callback:paid", payload=b'{"code":"NO"}', failed=failed))


@pytest.mark.parametrize("early", [True, False])
def test_an_answer_that_says_it_failed_is_taken_and_a_retried_step_waits_for_another(make_run, make_step, lib, early):
    wait = make_step("w", "wait_for", params=lib.Literal(CALLBACK))
    run = make_run(make_step("a"), wait).start()
    if early:
        answered(run, failed=True)
    run.report("a")
    if not early:
        answered(run, failed=True)
    assert run.status == "failed"
    assert run.types[-1] == "run.failed"  # a watch of the run ends there
    assert not run.state.mail
    run.do(cmd.Retry())
    assert run.paths("waiting") == ["w"]
    answered(run, failed=False)
    assert run.status == "completed"
