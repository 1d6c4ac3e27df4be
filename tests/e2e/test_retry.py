"""Retry: from what stopped the run, with a fresh budget; what was completed never runs again."""

from __future__ import annotations

from e2e_runs import decide, event_of, path_of, statuses, step_of, types, until
from wfe_stack.rest import Rest
from wfe_stack.waiting import wait_for

CHAIN = """
name: e2e-retry-chain
variables: {witness: {type: string}}
defaults: {retry: {max_attempts: 2, backoff: fixed, initial: 50ms, jitter: none}}
steps:
  - {id: first, http: {method: POST, url: "${{ vars.witness }}/first", json: {n: 1}}}
  - {id: beside, needs: [], http: {url: "${{ vars.witness }}/beside"}}
  - id: shaky
    needs: [first]
    http: {method: POST, url: "${{ vars.witness }}/shaky", json: {call: "${{ steps.first.output.body.call }}"}}
  - {id: last, needs: [shaky, beside], http: {url: "${{ vars.witness }}/last"}}
output: {calls: "${{ steps.shaky.output.body.call }}", attempts: "${{ steps.shaky.attempts }}"}
"""


def counts(witness) -> dict[str, int]:
    return {path: len(witness[path].calls) for path in ("first", "beside", "shaky", "last")}


async def test_a_failed_run_goes_on_from_its_failed_step_with_a_fresh_budget(sam: Rest, start, witness):
    witness["shaky"].answer(500, times=3)
    run = await start(CHAIN, witness=witness.url)
    failed = await until(sam, run["id"], "failed")
    assert (step_of(failed, "shaky")["attempts"], counts(witness)["shaky"]) == (2, 2)
    assert statuses(failed) | {"beside": "completed"} == {
        "first": "completed", "beside": "completed", "shaky": "failed"
    }  # fmt: skip

    retried = await sam.post(path_of(run["id"], "retry"), {"reason": "the other side is back"})
    assert (retried["status"], retried["epoch"], "error" in retried) == ("running", 2, False)
    done = await sam.wait_ended(run["id"])
    # Of the two attempts it has again, the first fails like those before.
    assert (done["status"], done["output"]) == ("completed", {"calls": 4, "attempts": 2})
    assert counts(witness) == {"first": 1, "beside": 1, "shaky": 4, "last": 1}
    assert step_of(done, "shaky")["attempts"] == 2
    assert [step["path"] for step in done["steps"]].count("shaky") == 1
    # The input is the recorded one, the key one of the new epoch: the same over its attempts, another than before.
    assert [call.body for call in witness["shaky"].calls] == [{"call": 1}] * 4
    before, after = witness["shaky"].keys[:2], witness["shaky"].keys[2:]
    assert len(set(before)) == len(set(after)) == 1
    assert before[0] != after[0]
    assert event_of(done, "run.retried")["reason"] == "the other side is back"


async def test_a_cancelled_run_goes_on_where_it_was(sam: Rest, start, witness):
    witness["shaky"].hold()
    run = await start(CHAIN, witness=witness.url)
    await wait_for(lambda: counts(witness) == {"first": 1, "beside": 1, "shaky": 1, "last": 0})
    await until(sam, run["id"], lambda found: statuses(found)["beside"] == "completed")
    await sam.post(path_of(run["id"], "cancel"))
    witness["shaky"].release()
    await sam.post(path_of(run["id"], "retry"))
    done = await sam.wait_ended(run["id"])
    assert done["status"] == "completed"
    assert counts(witness) == {"first": 1, "beside": 1, "shaky": 2, "last": 1}
    assert step_of(done, "shaky")["attempts"] == 1
    assert types(done).count("step.completed") == 4


async def test_a_run_can_be_retried_until_it_is_well(sam: Rest, start, witness):
    witness["shaky"].answer(400, times=3)
    run = await start(CHAIN, witness=witness.url)
    for epoch in (2, 3, 4):
        await until(sam, run["id"], "failed")
        assert (await sam.post(path_of(run["id"], "retry")))["epoch"] == epoch
    done = await sam.wait_ended(run["id"])
    assert (done["status"], done["epoch"]) == ("completed", 4)
    assert counts(witness) == {"first": 1, "beside": 1, "shaky": 4, "last": 1}
    assert len(set(witness["shaky"].keys)) == 4


async def test_a_rejected_run_asks_anew_and_does_not_repeat_what_came_before(sam: Rest, ada: Rest, start, witness):
    run = await start(
        """
name: e2e-retry-rejected
variables: {witness: {type: string}}
steps:
  - {id: before, http: {url: "${{ vars.witness }}/first"}}
  - id: gate
    approval: {title: "Go on?", payload: {n: "${{ steps.before.output.body.call }}"}, approvers: {groups: [editors]}}
  - {id: after, http: {url: "${{ vars.witness }}/last"}}
""",
        witness=witness.url,
    )
    waiting = await until(sam, run["id"], "waiting_approval")
    assert (await decide(ada, waiting, "reject", comment="not yet"))["status"] == "rejected"
    failed = await until(sam, run["id"], "failed")
    assert (failed["reason"], failed["error"]["code"]) == ("approval_rejected", "APPROVAL_REJECTED")
    assert failed["error"]["message"] == "the approval was rejected: not yet"

    again = await sam.post(path_of(run["id"], "retry"))
    assert again["status"] == "waiting_approval"
    old, new = again["approvals"]
    assert (old["status"], new["status"], new["replaces"]) == ("rejected", "open", old["id"])
    assert new["payload"] == old["payload"] == {"n": 1}
    await decide(ada, again, "approve")
    done = await sam.wait_ended(run["id"])
    assert done["status"] == "completed"
    assert counts(witness) == {"first": 1, "beside": 0, "shaky": 0, "last": 1}
