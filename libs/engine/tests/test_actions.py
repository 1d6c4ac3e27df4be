"""Every action in every state: the table of docs/actions.md, as the core decides it."""

from __future__ import annotations

import pytest
from wfe_engine import commands as cmd
from wfe_engine.errors import StateConflict

ACTIONS = {
    "pause": cmd.Pause(),
    "resume": cmd.Resume(),
    "cancel": cmd.Cancel(),
    "terminate": cmd.Cancel(hard=True),
    "retry": cmd.Retry(),
    "snapshot": cmd.TakeSnapshot(snapshot="s"),
    "rollback": cmd.Rollback(snapshot="s", seq=1, scopes={}),
}
#: What each action gives in each state: the state after it; None when it is refused.
TABLE = {
    "running": {"pause": "paused", "resume": None, "cancel": "cancelled", "terminate": "cancelled", "retry": None,
                "snapshot": "running", "rollback": "running"},
    "waiting_approval": {"pause": "paused", "resume": None, "cancel": "cancelled", "terminate": "cancelled",
                         "retry": None, "snapshot": "waiting_approval", "rollback": "waiting_approval"},
    "paused": {"pause": None, "resume": "running", "cancel": "cancelled", "terminate": "cancelled", "retry": None,
               "snapshot": "paused", "rollback": "paused"},
    "completed": {"pause": None, "resume": None, "cancel": None, "terminate": None, "retry": None,
                  "snapshot": "completed", "rollback": "running"},
    "failed": {"pause": None, "resume": None, "cancel": None, "terminate": None, "retry": "running",
               "snapshot": "failed", "rollback": "running"},
    "cancelled": {"pause": None, "resume": None, "cancel": None, "terminate": None, "retry": "running",
                  "snapshot": "cancelled", "rollback": "running"},
}  # fmt: skip


def in_state(make_run, make_step, state):
    first = make_step("g", "approval") if state == "waiting_approval" else make_step("a")
    run = make_run(first).start()
    if state == "paused":
        run.do(cmd.Pause())
    elif state == "completed":
        run.report("a")
    elif state == "failed":
        run.fail("a")
    elif state == "cancelled":
        run.do(cmd.Cancel())
    assert run.status == state
    return run


@pytest.mark.parametrize(("state", "action"), [(s, a) for s, row in TABLE.items() for a in row])
def test_every_action_in_every_state(make_run, make_step, state, action):
    run = in_state(make_run, make_step, state)
    expected = TABLE[state][action]
    before = run.state
    if expected is None:
        with pytest.raises(StateConflict) as refusal:
            run.do(ACTIONS[action])
        assert refusal.value.metadata["status"] == state
        assert run.state == before
    else:
        run.do(ACTIONS[action])
        assert run.status == expected
