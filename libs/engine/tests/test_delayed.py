"""A run that waits for its start: pending, and nothing of it happens before its moment."""

from __future__ import annotations

import pytest
from wfe_engine import commands as cmd
from wfe_engine.errors import StateConflict
from wfe_engine.state import decode_state, encode_state

HOUR = 3600.0


@pytest.fixture
def delayed(make_run, make_step):
    """A run of one step, accepted now, to start in an hour; its total clock is two hours."""
    run = make_run(make_step("a"), total=2 * HOUR)
    run.do(cmd.Start(template="t", template_version=1, trigger="api", input={}, start_at=run.now + HOUR))
    return run


def timer(run):
    """The moment the run's own timer was last set for."""
    return [d.effects.timers[0] for d in run.decisions if 0 in d.effects.timers][-1]


def wait(run, seconds):
    run.now += seconds
    return run.do(cmd.TimerDue(no=0, due=run.now))


def test_it_is_pending_until_its_moment_and_its_total_clock_begins_then(delayed):
    accepted = delayed.now
    assert (delayed.status, delayed.types, delayed.state.deadline) == ("pending", ["run.created"], None)
    assert timer(delayed) == accepted + HOUR
    wait(delayed, HOUR / 2)
    assert (delayed.status, timer(delayed)) == ("pending", accepted + HOUR), "a timer that comes early changes nothing"
    wait(delayed, HOUR / 2)
    assert (delayed.status, delayed.paths("ready")) == ("running", ["a"])
    assert delayed.state.deadline == timer(delayed) == accepted + 3 * HOUR
    wait(delayed, 2 * HOUR)
    assert delayed.state.fault.code == "RUN_TIMEOUT"


def test_a_moment_that_has_passed_is_now(make_run, make_step):
    run = make_run(make_step("a"))
    run.do(cmd.Start(template="t", template_version=1, trigger="api", input={}, start_at=run.now - 1))
    assert (run.status, run.state.start_at) == ("running", None)


def test_a_pause_makes_the_start_later(delayed):
    accepted = delayed.now
    delayed.do(cmd.Pause())
    assert (delayed.status, timer(delayed)) == ("paused", None)
    wait(delayed, 2 * HOUR)
    assert delayed.status == "paused"
    delayed.do(cmd.Resume())
    assert (delayed.status, delayed.paths("ready"), timer(delayed)) == ("pending", [], accepted + 3 * HOUR)
    wait(delayed, HOUR)
    assert delayed.status == "running"


@pytest.mark.parametrize("hard", [False, True])
def test_it_can_be_cancelled_and_a_retry_starts_it_at_once(delayed, hard):
    delayed.do(cmd.Cancel(hard=hard))
    assert (delayed.status, timer(delayed)) == ("cancelled", None)
    wait(delayed, HOUR)
    assert delayed.status == "cancelled"
    delayed.do(cmd.Retry())
    assert (delayed.status, delayed.paths("ready"), delayed.state.start_at) == ("running", ["a"], None)


def test_what_comes_early_does_not_start_it(make_run, make_step, lib):
    params = lib.Literal({"signals": ["go"]})
    run = make_run(make_step("w", kind="wait_for", params=params))
    run.do(cmd.Start(template="t", template_version=1, trigger="api", input={}, start_at=run.now + HOUR))
    run.do(cmd.Signal(signal=run.new_id(), name="go", payload=b"1"))
    run.do(cmd.Advance())
    assert (run.status, len(run.state.mail)) == ("pending", 1)
    wait(run, HOUR)
    assert run.status == "completed", "the early signal was kept"


def test_it_cannot_go_back_before_it_has_begun_but_later_to_that_point(delayed):
    delayed.do(cmd.TakeSnapshot(name="before", snapshot=delayed.new_id()))
    kept = delayed.decisions[-1].effects.snapshots[0]
    back = cmd.Rollback(snapshot=kept.id, seq=kept.seq, scopes=decode_state(kept.state).scopes)
    with pytest.raises(StateConflict):
        delayed.do(back)
    wait(delayed, HOUR)
    delayed.report("a")
    delayed.do(back)
    assert (delayed.status, delayed.paths("ready"), delayed.state.start_at) == ("running", ["a"], None)


def test_the_stored_state_of_others_says_nothing_of_it(make_run, make_step):
    assert b"start_at" not in encode_state(make_run(make_step("a")).start().state)
