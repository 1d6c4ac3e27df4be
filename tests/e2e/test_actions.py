"""Every action in every state, over REST: the table of docs/actions.md, cell by cell."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest
from e2e_runs import decide, path_of, refused, until
from e2e_store import Store
from grpc import StatusCode
from wfe_stack.rest import Rest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "actions.md"

#: A run that can be brought into every state without an executor.
ANY_STATE = """
name: e2e-any-state
variables:
  more: {type: boolean, default: false}
steps:
  - {id: done, set: {one: 1}}
  - {id: mark, checkpoint: mark}
  - {id: gate, needs: [mark], approval: {title: "Go on?", approvers: {groups: [editors]}}}
  - {id: more, needs: [mark], if: "${{ vars.more }}", wait: {for: 1h}}
  - {id: last, needs: [gate, more], set: {two: 2}}
"""


def table() -> dict[tuple[str, str], str]:
    """What the page says of (action, state)."""
    rows = [
        [cell.strip() for cell in line.strip("| \n").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    header, _, *body = rows
    return {(row[0], state): text for row in body for state, text in zip(header[1:], row[1:], strict=True)}


TABLE = table()
STATES = ("pending", "running", "waiting_approval", "paused", "completed", "failed", "cancelled")
ACTIONS = ("pause", "resume", "cancel", "terminate", "retry", "approve", "reject", "snapshot", "rollback", "fork")


def test_the_page_has_every_cell():
    assert set(TABLE) == {(action, state) for action in ACTIONS for state in STATES}


@pytest.fixture(scope="module")
def spared() -> dict[str, str]:
    """Runs by state that only refused actions have met: they are as they were."""
    return {}


@pytest.fixture
def in_state(sam: Rest, rest_as, start, spared):
    """A run in a state; one that may have been refused something, when nothing is to happen to it."""

    async def bring(state: str, *, untouched: bool) -> dict:
        if untouched and state in spared:
            return await sam.get(path_of(spared[state]))
        run = await start(ANY_STATE, more=state == "running")
        if state in ("completed", "failed"):
            await decide(rest_as("eve"), run, "approve" if state == "completed" else "reject")
        elif state == "paused":
            await sam.post(path_of(run["id"], "pause"))
        elif state == "cancelled":
            await sam.post(path_of(run["id"], "cancel"))
        if state != "pending":  # that one is over before it can be read
            run = await until(sam, run["id"], state)
        if untouched:
            spared[state] = run["id"]
        return run

    return bring


@pytest.fixture
def act(sam: Rest, ada: Rest):
    """An action on a run, by who may do it."""

    async def do(action: str, run: dict, *, named: bool) -> dict:
        """
        Args:
            named: Whether gate and snapshot can be known; a run that is pending shows none.
        """
        gate = run["approvals"][-1]["id"] if named else str(uuid.uuid4())
        if action in ("approve", "reject"):
            return await ada.post(path_of(run["id"], "approvals", gate, action))
        if action == "snapshot":
            return await sam.post(path_of(run["id"], "snapshots"), {"name": "now"})
        if action in ("rollback", "fork"):
            kept = (await sam.get(path_of(run["id"], "snapshots")))["snapshots"][0]
            return await sam.post(path_of(run["id"], action), {"snapshot_id": kept["id"] if named else gate})
        return await sam.post(path_of(run["id"], action), {"reason": "the table"})

    return do


@pytest.mark.parametrize(("action", "state"), [cell for cell in TABLE if re.fullmatch("4..", TABLE[cell])])
async def test_what_is_refused_changes_nothing(sam: Rest, store: Store, in_state, act, action, state):
    run = await in_state(state, untouched=True)
    shown, stored = await sam.get(path_of(run["id"])), await store.everything(run["id"])
    refusal = await refused(act(action, run, named=state != "pending"))
    reason = "GATE_CLOSED" if action in ("approve", "reject") else "RUN_STATE"
    code = StatusCode.FAILED_PRECONDITION
    if TABLE[action, state] == "404":
        reason, code = "NOT_FOUND", StatusCode.NOT_FOUND
    assert (refusal.status, refusal.reason) == (int(TABLE[action, state]), reason)
    assert refusal.body["code"] == code.value[0]
    if reason == "RUN_STATE":
        assert refusal.metadata["status"] == shown["status"]
    assert await sam.get(path_of(run["id"])) == shown
    assert await store.everything(run["id"]) == stored


@pytest.mark.parametrize(("action", "state"), [cell for cell in TABLE if not re.fullmatch("4..", TABLE[cell])])
async def test_what_is_allowed_does_what_the_table_says(sam: Rest, in_state, act, action, state):
    run = await in_state(state, untouched=False)
    answer = await act(action, run, named=state != "pending")
    after = await sam.get(path_of(run["id"]))
    match TABLE[action, state]:
        case "a new run":
            assert (answer["status"], answer["trigger_type"]) == ("pending", "fork")
            assert answer["forked_from"]["workflow_id"] == run["id"] != answer["id"]
            assert after == run
        case "as it is":
            assert answer["kind"] == "demand"
            assert (after["status"], after["events_total"]) == (run["status"], run["events_total"] + 1)
            assert after["events"][-1]["type"] == "snapshot.created"
        case "goes on":
            assert answer["status"] == "approved"
            # The other branch of the running one still waits.
            await until(sam, run["id"], "running" if state == "running" else "completed")
        case "recorded, stays paused":
            assert answer["status"] == "approved"
            taken = await until(sam, run["id"], lambda found: found["events"][-1]["type"] == "step.completed")
            assert taken["status"] == "paused"
        case "failed":
            assert answer["status"] == "rejected"
            assert (await until(sam, run["id"], "failed"))["reason"] == "approval_rejected"
        case text:
            assert answer["status"] in re.split(" or ", text)
            assert set(re.split(" or ", text)) <= set(STATES)
            assert answer["events_total"] > run["events_total"]


async def test_a_run_is_pending_only_in_the_answer_to_its_start(sam: Rest, publish):
    run = await sam.start({"template_id": await publish(ANY_STATE)})
    assert run["status"] == "pending"
    assert (await sam.get(path_of(run["id"])))["status"] == "waiting_approval"
