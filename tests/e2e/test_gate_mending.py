"""What admins may do by hand at gates, and at steps that run as approved: nothing gets around the approval."""

from __future__ import annotations

import pytest
from e2e_runs import decide, step_of, until
from wfe_stack.rest import Refused, Rest

SOURCE = """name: gate-mending-{n}
steps:
  - {{id: g, approval: {{title: Go?, approvers: {{roles: [approver]}}}}}}
  - {{id: work, call: {{handler: flaky, input: {{failures: 9}}}}, approved_by: g, retry: {{max_attempts: 1}}}}
  - {{id: after, set: {{as: "${{{{ steps.work.status }}}}"}}}}
"""


async def asked(sam: Rest, publish, n: int):
    """A run that waits at a gate that approves a step."""
    run = await sam.start({"template_id": await publish(SOURCE.format(n=n)), "input": {}})
    return await until(sam, run["id"], "waiting_approval")


async def by_hand(root: Rest, run, no: int, what: str, **more):
    return await root.post(f"/api/v1/workflows/{run['id']}/steps/{no}/{what}", {"reason": "by hand", **more})


async def test_a_gate_that_approves_a_step_is_not_completed_by_hand(sam: Rest, root: Rest, ada: Rest, publish):
    waiting = await asked(sam, publish, 1)
    gate = step_of(waiting, "g")
    with pytest.raises(Refused) as refusal:
        await by_hand(root, waiting, gate["no"], "complete", output={"decision": "approve", "payload": {}})
    assert (refusal.value.status, refusal.value.reason) == (409, "STEP_IS_GATE")
    same = await sam.get(f"/api/v1/workflows/{waiting['id']}")
    assert (same["status"], same["approvals"][0]["status"]) == ("waiting_approval", "open")
    await decide(ada, waiting, "approve")
    assert (await sam.wait_ended(waiting["id"]))["status"] == "failed"


async def test_a_gate_skipped_by_hand_is_withdrawn_and_what_it_would_approve_is_skipped(sam: Rest, root: Rest, publish):
    waiting = await asked(sam, publish, 2)
    await by_hand(root, waiting, step_of(waiting, "g")["no"], "skip")
    done = await sam.wait_ended(waiting["id"])
    assert done["status"] == "completed"
    assert [step_of(done, path)["status"] for path in ("g", "work")] == ["skipped", "skipped"]
    assert step_of(done, "after")["output"] == {"as": "skipped"}
    assert done["approvals"][0]["status"] == "withdrawn"


async def test_what_was_approved_is_tried_again_only_as_it_is(sam: Rest, root: Rest, ada: Rest, publish):
    waiting = await asked(sam, publish, 3)
    await decide(ada, waiting, "approve")
    failed = await sam.wait_ended(waiting["id"])
    work = step_of(failed, "work")
    with pytest.raises(Refused) as refusal:
        await by_hand(root, failed, work["no"], "retry", input={"handler": "flaky", "input": {"failures": 0}})
    assert (refusal.value.status, refusal.value.reason) == (409, "STEP_APPROVED")
    same = await sam.get(f"/api/v1/workflows/{failed['id']}")
    assert (same["status"], step_of(same, "work")["input"]) == ("failed", work["input"])
    await by_hand(root, failed, work["no"], "skip")
    assert (await sam.wait_ended(failed["id"]))["status"] == "completed"
