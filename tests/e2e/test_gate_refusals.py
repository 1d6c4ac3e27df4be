"""What a gate refuses and why, and who stands in for whom, over the whole engine."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid

from e2e_runs import path_of, refused, types, until
from wfe_stack.rest import Rest
from wfe_stack.testing_model import calls, model_server, says
from wfe_stack.waiting import wait_for

NAMES = itertools.count(1)


def asks(policy: str) -> str:
    return f"name: refuses-{next(NAMES)}\nsteps: [{{id: g, approval: {{title: t, {policy}}}}}]\n"


async def gate_of(sam: Rest, start, policy: str) -> dict:
    run = (await start(asks(policy)))["id"]
    return (await until(sam, run, lambda found: found["approvals"]))["approvals"][0]


def decision(gate: dict, what: str = "decide") -> str:
    return f"/api/v1/approvals/{gate['id']}/{what}"


async def test_a_gate_that_opens_later_is_not_decided_before(sam: Rest, ada: Rest, start):
    gate = await gate_of(sam, start, "approvers: {roles: [approver]}, opens_after: 1h, expires: {after: 2h}")
    assert gate["status"] == "scheduled"
    for call in (
        ada.post(decision(gate), {"decision": "approve"}),
        ada.post(path_of(gate["workflow_id"], "approvals", gate["id"], "reject")),
    ):
        refusal = await refused(call)
        assert (refusal.status, refusal.reason) == (409, "GATE_SCHEDULED")
    asked = {"workflow_id": gate["workflow_id"]}
    assert (await ada.get("/api/v1/approvals", **asked))["approvals"] == [], "the inbox has what is open"
    assert len((await ada.get("/api/v1/approvals", status="scheduled", **asked))["approvals"]) == 1
    await sam.post(path_of(gate["workflow_id"], "cancel"))
    assert (await ada.get(f"/api/v1/approvals/{gate['id']}"))["status"] == "withdrawn"


async def test_what_a_policy_does_not_have_cannot_be_asked_for(sam: Rest, ada: Rest, people, start):
    gate = await gate_of(sam, start, "approvers: {roles: [approver]}")
    until_then = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    for call, status, reason in (
        (ada.post(decision(gate), {"decision": "revise", "comment": "again"}), 409, "REVISE_NOT_ALLOWED"),
        (ada.post(decision(gate), {"decision": "approve", "on_behalf_of": "olga"}), 403, "NOT_DELEGATED"),
        (ada.post(decision(gate), {"decision": "approve", "form": {"a": 1}}), 400, "INVALID_INPUT"),
        (
            ada.post(decision(gate), {"decision": "approve", "edits": [{"path": "/a", "value": 1}]}),
            400,
            "INVALID_INPUT",
        ),
        (ada.post(decision(gate), {"decision": "reject", "outcome": "branch:x"}), 400, "INVALID_INPUT"),
        (ada.post(decision(gate), {"decision": "reject", "reason_code": "dear"}), 400, "INVALID_INPUT"),
        (ada.post(decision(gate, "extend"), {"until": until_then, "reason": "r"}), 409, "NO_DEADLINE"),
        (ada.post(decision(gate, "release")), 409, "NOT_CLAIMED"),
        (ada.post(decision(gate, "withdraw-vote"), {}), 409, "NOT_VOTED"),
        (ada.post(decision(gate, "delegate"), {"to": "nobody-at-all"}), 400, "INVALID_INPUT"),
    ):
        refusal = await refused(call)
        assert (refusal.status, refusal.reason) == (status, reason)
    seen = await ada.get(f"/api/v1/approvals/{gate['id']}")
    assert (seen["status"], seen["version"], seen["votes"]) == ("open", gate["version"], []), "nothing has changed"
    await ada.post(decision(gate), {"decision": "approve"})


async def test_a_gate_nobody_can_approve_says_so_at_once(sam: Rest, ada: Rest, root: Rest, people, start):
    group = f"empty-{uuid.uuid4().hex[:8]}"
    await root.post("/api/v1/groups", {"name": group})
    gate = await gate_of(sam, start, f"approvers: {{groups: [{group}]}}")
    assert (await ada.get(f"/api/v1/approvals/{gate['id']}"))["nobody_can"] is True
    someone = await people(group)
    assert (await ada.get(f"/api/v1/approvals/{gate['id']}"))["nobody_can"] is False
    await someone.post(decision(gate), {"decision": "approve"})


async def test_a_standing_delegate_decides_with_the_others_standing_while_it_lasts(sam: Rest, people, start):
    group = f"del-{uuid.uuid4().hex[:8]}"
    boss, deputy = await people(group), await people()
    policy = f"approvers: {{groups: [{group}]}}, delegation: anyone"
    gate = await gate_of(sam, start, policy)
    assert (await refused(deputy.post(decision(gate), {"decision": "approve"}))).reason == "NOT_AN_APPROVER"
    ends = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    made = await boss.post("/api/v1/delegations", {"delegate": deputy.name, "ends_at": ends, "reason": "holiday"})
    mine = (await deputy.get("/api/v1/approvals", mine=True))["approvals"]
    assert gate["id"] in [one["id"] for one in mine]
    done = await deputy.post(decision(gate), {"decision": "approve", "comment": "for him"})
    (vote,) = done["votes"]
    assert (done["status"], vote["name"], vote["on_behalf_of"]) == ("approved", deputy.name, boss.name)
    finished = await sam.wait_ended(gate["workflow_id"])
    (told,) = [event["data"] for event in finished["events"] if event["type"] == "approval.approved"]
    assert (told["votes"][0]["name"], told["votes"][0]["on_behalf_of"]) == (deputy.name, boss.name)
    await boss.delete(f"/api/v1/delegations/{made['id']}")
    second = await gate_of(sam, start, policy)
    assert (await refused(deputy.post(decision(second), {"decision": "approve"}))).reason == "NOT_AN_APPROVER"
    await boss.post(decision(second), {"decision": "reject"})


EVERYWHERE = """name: everywhere-{n}
variables: {{endpoint: {{}}}}
steps:
  - id: sides
    parallel:
      branches:
        left: [{{id: a, approval: {{title: t, approvers: {{roles: [approver]}}}}}}]
        right:
          - id: items
            foreach:
              items: [1, 2]
              concurrency: 2
              steps: [{{id: b, approval: {{title: t, approvers: {{roles: [approver]}}}}}}]
  - id: guard
    needs: []
    try:
      steps: [{{id: c, approval: {{title: t, approvers: {{roles: [approver]}}}}}}]
      catch: [{{steps: [{{id: d, set: {{n: 1}}}}]}}]
  - {{id: child, needs: [], workflow: {{template: "{child}"}}}}
  - id: agent
    needs: []
    agent:
      endpoint: "${{{{ vars.endpoint }}}}"
      model: small
      prompt: Pay.
      tools: [{{call: {{handler: echo, description: Pays., parameters: {{type: object}}}}, approval: required}}]
      approval: {{approvers: {{roles: [approver]}}}}
"""


async def test_a_retry_supersedes_open_gates_wherever_they_stand(sam: Rest, ada: Rest, store, publish, start):
    child = f"asked-{next(NAMES)}"
    await publish(f"name: {child}\nsteps: [{{id: g, approval: {{title: t, approvers: {{roles: [approver]}}}}}}]\n")
    async with model_server(calls(("echo", {"amount": 5})), says("done")) as model:
        run = (await start(EVERYWHERE.format(n=next(NAMES), child=child), endpoint=model.url))["id"]

        def opened(count: int):
            return lambda found: sum(gate["status"] == "open" for gate in found["approvals"]) == count

        waiting = await until(sam, run, opened(5))

        async def inner() -> list:
            found = next((e["data"]["child"] for e in waiting["events"] if e["type"] == "step.waiting"), None)
            return [] if found is None else (await sam.get(path_of(found)))["approvals"]

        (of_child,) = await wait_for(inner, what="the child's gate")
        old = {gate["id"]: (gate["step"], gate["iteration"]) for gate in waiting["approvals"]}
        await sam.post(path_of(run, "cancel"))
        await until(sam, of_child["workflow_id"], "cancelled")
        withdrawn = await sam.get(path_of(run))
        assert {gate["status"] for gate in withdrawn["approvals"]} == {"withdrawn"}
        await sam.post(path_of(run, "retry"))
        again = await until(sam, run, opened(5))
        gates = {gate["id"]: gate for gate in again["approvals"]}
        for id_, place in old.items():
            new = gates[gates[id_]["replaced_by"]]
            assert (gates[id_]["status"], new["status"], new["replaces"]) == ("superseded", "open", id_)
            assert (new["step"], new["iteration"]) == place
        assert types(again).count("approval.superseded") == 5
        child_again = await until(sam, of_child["workflow_id"], opened(1))
        assert [gate["status"] for gate in child_again["approvals"]] == ["superseded", "open"]
        for gate in [*gates.values(), *child_again["approvals"]]:
            if gate["status"] == "open":
                await ada.post(decision(gate), {"decision": "approve"})
            else:
                assert (await refused(ada.post(decision(gate), {"decision": "approve"}))).reason == "GATE_CLOSED"
        done = await sam.wait_ended(run)
    assert done["status"] == "completed", done.get("error")
    assert await store.state(run) == await store.folded(run)
