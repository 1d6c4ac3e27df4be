"""Where gates stand and what they hold: child runs, who is named by expressions, and nothing held while they wait."""

from __future__ import annotations

import asyncio
import itertools

from e2e_runs import path_of, refused, until
from wfe_stack.rest import Refused, Rest
from wfe_stack.testing_model import calls, model_server, says
from wfe_stack.waiting import wait_for

NAMES = itertools.count(1)


async def test_whoever_an_expression_names_decides(sam: Rest, people, start):
    source = (
        f"name: gate-named-{next(NAMES)}\n"
        """variables: {group: {}, name: {}}
steps:
  - id: g
    approval:
      title: t
      policy: [{from: {group: "${{ vars.group }}"}}, {from: {user: "${{ vars.name }}"}}]
"""
    )
    one, two = await people("wing-a"), await people("wing-b")
    run = await start(source, group="wing-a", name=two.name)
    waiting = await until(sam, run["id"], "waiting_approval")
    gate = waiting["approvals"][0]["id"]
    stranger = await people("wing-b")
    assert [(await who.get(f"/api/v1/approvals/{gate}"))["can_decide"] for who in (one, two, stranger)] == [
        True, True, False
    ]  # fmt: skip
    for who, status in ((one, "open"), (two, "approved")):
        assert (await who.post(f"/api/v1/approvals/{gate}/decide", {"decision": "approve"}))["status"] == status
    assert (await sam.wait_ended(run["id"]))["status"] == "completed"


async def test_a_gate_in_a_child_run_is_decided_there_and_goes_with_its_parent(sam: Rest, ada: Rest, publish, start):
    child = f"gate-child-{next(NAMES)}"
    await publish(f"""name: {child}
steps:
  - {{id: g, approval: {{title: t, approvers: {{roles: [approver]}}, reject: {{outcomes: [fail]}}}}}}
output: "${{{{ steps.g.output.comment }}}}"
""")
    source = "name: gate-parent-{n}\nsteps: [{{id: ask, workflow: {{template: " + child + "}}}}]\n"

    async def asked() -> tuple[str, dict]:
        run = (await start(source.format(n=next(NAMES)) + 'output: "${{ steps.ask.output }}"\n'))["id"]
        waiting = await until(sam, run, lambda found: any(s["status"] == "waiting" for s in found["steps"]))
        (inner,) = [e["data"]["child"] for e in waiting["events"] if e["type"] == "step.waiting"]

        async def open_gates() -> list:  # the other run begins a moment after the step that waits for it
            return (await ada.get("/api/v1/approvals", workflow_id=inner))["approvals"]

        await wait_for(open_gates, what="a gate of the child")
        return run, await until(sam, inner, "waiting_approval")

    run, inner = await asked()
    gate = inner["approvals"][0]["id"]
    assert gate in [
        one["id"] for one in (await ada.get("/api/v1/approvals", mine=True, workflow_id=inner["id"]))["approvals"]
    ]
    refusal = (await ada.get(f"/api/v1/approvals/{gate}"))["can_decide"]
    assert refusal is True
    await ada.post(f"/api/v1/approvals/{gate}/decide", {"decision": "approve", "comment": "fine"})
    done = await sam.wait_ended(run)
    assert (done["status"], done["output"]) == ("completed", "fine")
    run, inner = await asked()
    await sam.post(path_of(run, "cancel"))
    gone = await until(sam, inner["id"], "cancelled")
    assert gone["approvals"][0]["status"] == "withdrawn"


async def test_a_gate_that_waits_holds_nothing(sam: Rest, ada: Rest, store, start):
    run = await start(f"""name: gate-idle-{next(NAMES)}
steps:
  - {{id: before, call: {{handler: echo}}}}
  - {{id: g, approval: {{title: t, approvers: {{roles: [approver]}}}}}}
  - {{id: after, call: {{handler: echo}}}}
""")
    waiting = await until(sam, run["id"], "waiting_approval")
    assert waiting["runner"] == "hibernating"
    for table in ("dispatch", "timers"):
        assert await store.rows(f"SELECT 1 FROM {table} WHERE run_id = %s", run["id"]) == []
    gate = waiting["approvals"][0]["id"]
    await ada.post(f"/api/v1/approvals/{gate}/decide", {"decision": "approve"})
    assert (await sam.wait_ended(run["id"]))["status"] == "completed"


async def test_a_gate_asked_again_after_a_rollback_replaces_the_one_before(sam: Rest, ada: Rest, start):
    run = await start(f"""name: gate-again-{next(NAMES)}
steps:
  - {{id: here, checkpoint: {{name: start}}}}
  - {{id: work, call: {{handler: echo}}}}
  - {{id: g, approval: {{title: t, approvers: {{roles: [approver]}}}}}}
""")
    waiting = await until(sam, run["id"], "waiting_approval")
    snapshots = (await sam.get(path_of(run["id"], "snapshots")))["snapshots"]
    start_of_it = next(one["id"] for one in snapshots if one["name"] == "start")
    first = waiting["approvals"][0]["id"]
    await sam.post(path_of(run["id"], "rollback"), {"snapshot_id": start_of_it})
    asked = await until(
        sam, run["id"], lambda found: [g["status"] for g in found["approvals"]] == ["superseded", "open"]
    )
    second = asked["approvals"][1]
    assert second["replaces"] == first
    requested = [event["data"] for event in asked["events"] if event["type"] == "approval.requested"]
    assert [one.get("replaces", "") for one in requested] == ["", first], "the log says the same"
    await ada.post(f"/api/v1/approvals/{second['id']}/decide", {"decision": "reject", "comment": "no"})
    await sam.wait_ended(run["id"])
    await sam.post(path_of(run["id"], "rollback"), {"snapshot_id": start_of_it})
    third = (await until(sam, run["id"], "waiting_approval"))["approvals"][2]
    assert third["replaces"] == second["id"], "one that was decided is followed as well"


async def test_a_retry_supersedes_the_gate_it_asks_anew_whoever_still_decides_the_old_one(
    sam: Rest, ada: Rest, store, start
):
    source = "name: gate-retried-{n}\nsteps: [{{id: g, approval: {{title: t, approvers: {{roles: [approver]}}}}}}]\n"
    for _ in range(10):
        run = (await start(source.format(n=next(NAMES))))["id"]
        first = (await until(sam, run, "waiting_approval"))["approvals"][0]["id"]
        await sam.post(path_of(run, "cancel"))
        assert (await sam.get(path_of(run)))["approvals"][0]["status"] == "withdrawn"
        late = [refused(ada.post(path_of(run, "approvals", first, what))) for what in ("approve", "reject") * 3]
        refusals, _ = await asyncio.gather(asyncio.gather(*late), sam.post(path_of(run, "retry")))
        assert {(one.status, one.reason) for one in refusals} == {(409, "GATE_CLOSED")}
        asked = await until(sam, run, "waiting_approval")
        old, new = asked["approvals"]
        assert (old["status"], old["replaced_by"]) == ("superseded", new["id"])
        assert (new["status"], new["replaces"], new["replaced_by"]) == ("open", first, "")
        seen = await ada.get(f"/api/v1/approvals/{first}")
        assert (seen["status"], seen["replaced_by"], seen["why_not_reason"]) == ("superseded", new["id"], "GATE_CLOSED")
        assert new["id"] in seen["why_not"], "whoever has the old one in hand learns where it is asked now"
        told = [(e["type"], e["data"]["approval"]) for e in asked["events"] if e["type"].startswith("approval.")]
        assert told == [
            ("approval.requested", first), ("approval.withdrawn", first), ("approval.superseded", first),
            ("approval.requested", new["id"]),
        ]  # fmt: skip
        assert await store.state(run) == await store.folded(run)
        assert await store.rows("SELECT 1 FROM gate_votes WHERE run_id = %s", run) == []
        await ada.post(path_of(run, "approvals", new["id"], "approve"))
        assert (await sam.wait_ended(run))["status"] == "completed"


async def test_deciding_cancelling_and_retrying_at_once_tell_one_story(sam: Rest, ada: Rest, store, start):
    source = "name: gate-raced-{n}\nsteps: [{{id: g, approval: {{title: t, approvers: {{roles: [approver]}}}}}}]\n"

    async def told(call) -> str:
        try:
            await call
        except Refused as refusal:
            return f"{refusal.status} {refusal.reason}"
        return "done"

    for _ in range(20):
        run = (await start(source.format(n=next(NAMES))))["id"]
        first = (await until(sam, run, "waiting_approval"))["approvals"][0]["id"]
        decided, cancelled, retried = await asyncio.gather(
            told(ada.post(path_of(run, "approvals", first, "reject"))),
            told(sam.post(path_of(run, "cancel"))),
            told(sam.post(path_of(run, "retry"))),
        )
        found = await until(sam, run, lambda one: one["status"] in ("failed", "cancelled", "waiting_approval"))
        gate = found["approvals"][0]
        ends = [e["type"] for e in found["events"] if e["data"].get("approval") == first][1:]
        assert {decided, cancelled, retried} <= {"done", "409 GATE_CLOSED", "409 RUN_STATE"}
        if decided == "done":
            assert (gate["status"], ends) == ("rejected", ["approval.rejected"])
        else:
            assert cancelled == "done"
            assert ends == ["approval.withdrawn", "approval.superseded"][: 1 + (retried == "done")]
            assert gate["status"] == ends[-1].partition(".")[2]
        assert [one["replaces"] for one in found["approvals"][1:]] == [first] * (retried == "done")
        assert await store.state(run) == await store.folded(run)
        if found["status"] == "waiting_approval":
            await sam.post(path_of(run, "cancel"))


AGENT = """name: gate-agent-{n}
variables: {{endpoint: {{}}}}
steps:
  - id: support
    agent:
      endpoint: "${{{{ vars.endpoint }}}}"
      model: small
      prompt: Refund them.
      tools: [{{call: {{handler: echo, description: Pays back., parameters: {{type: object}}}}, approval: required}}]
      approval: {{approvers: {{roles: [approver]}}}}
output: "${{{{ steps.support.output.message.content }}}}"
"""


async def test_every_gated_call_of_an_agents_tool_is_asked_for_with_its_arguments(sam: Rest, ada: Rest, start):
    wanted = calls(("echo", {"amount": 5}), ("echo", {"amount": 500}))
    async with model_server(wanted, says("done")) as model:
        run = await start(AGENT.format(n=next(NAMES)), endpoint=model.url)
        asked = await until(sam, run["id"], lambda found: [g["status"] for g in found["approvals"]] == ["open"] * 2)
        shown = {}
        for gate in asked["approvals"]:
            shown[gate["id"]] = (await ada.get(f"/api/v1/approvals/{gate['id']}"))["payload"]["input"]["amount"]
        assert sorted(shown.values()) == [5, 500], "each is a gate of its own"
        for gate, amount in shown.items():
            decision = {"decision": "approve" if amount == 5 else "reject", "comment": "too much"}
            await ada.post(f"/api/v1/approvals/{gate}/decide", decision)
        done = await sam.wait_ended(run["id"])
        assert (done["status"], done.get("output")) == ("completed", "done"), done.get("error")
        told = [m["content"] for m in model.requests[-1]["messages"] if m["role"] == "tool"]
    assert "5" in told[0]
    assert "too much" in told[1] or "APPROVAL_REJECTED" in told[1], "the model learns that it may not"
    ran = [step for step in done["steps"] if step["kind"] == "call" and step["status"] == "completed"]
    assert [step["output"] for step in ran if step["output"]] == [{"amount": 5}], ran


async def test_a_run_that_takes_back_what_was_done_again_is_then_as_it_was(sam: Rest, ada: Rest, store, start):
    run = await start(f"""name: gate-undone-{next(NAMES)}
compensate: [rollback]
steps:
  - id: draft
    call: {{handler: echo, input: {{why: "${{{{ revision.reason }}}}"}}}}
    compensate: {{call: {{handler: echo, input: {{}}}}}}
  - {{id: g, approval: {{title: "${{{{ steps.draft.output.why }}}}?", approvers: {{roles: [approver]}}, revise: {{}}}}}}
""")
    first = (await until(sam, run["id"], "waiting_approval"))["approvals"][0]
    before = (await sam.get(path_of(run["id"], "snapshots")))["snapshots"][-1]["id"]
    await ada.post(f"/api/v1/approvals/{first['id']}/decide", {"decision": "revise", "comment": "shorter"})
    again = await until(sam, run["id"], lambda found: [g["status"] for g in found["approvals"]] == ["revise", "open"])
    second = again["approvals"][1]
    assert (first["title"], second["title"]) == ("?", "shorter?")
    await sam.post(path_of(run["id"], "rollback"), {"snapshot_id": before})
    back = await until(sam, run["id"], lambda found: len(found["approvals"]) == 3)
    kinds = [event["type"] for event in back["events"]]
    assert "run.compensating" in kinds, "what was done the second time is taken back first"
    third = back["approvals"][2]
    assert (third["title"], third["round"], third["replaces"]) == ("?", 0, second["id"])
    assert await store.state(run["id"]) == await store.folded(run["id"])
    await ada.post(f"/api/v1/approvals/{third['id']}/decide", {"decision": "approve"})
    assert (await sam.wait_ended(run["id"]))["status"] == "completed"
