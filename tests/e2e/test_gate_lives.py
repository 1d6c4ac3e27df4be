"""Gates over the whole engine: what runs is what was approved, wherever the gate stands, and the log tells it all."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from wfe_stack.rest import Refused, Rest
from wfe_stack.testing_rows import folded_and_stored
from wfe_store.pool import Database

NAMES = itertools.count(1)


@pytest.fixture
def run_of(sam: Rest, publish) -> Callable[..., Awaitable[str]]:
    """Publishes steps as a template and starts a run of it; its id."""

    async def start(steps: str, **given: Any) -> str:
        names = "".join(f"  {name}: {{}}\n" for name in given)
        source = f"name: gates-{next(NAMES)}\n" + (f"variables:\n{names}" if names else "") + f"steps:\n{steps}"
        run = await sam.post("/api/v1/workflows", {"template_id": await publish(source), "input": given})
        return str(run["id"])

    return start


async def run_when(sam: Rest, run: str, test: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            found = await sam.get(f"/api/v1/workflows/{run}")
            if test(found):
                return found
            await asyncio.sleep(0.02)


async def gates_of(sam: Rest, run: str, count: int = 1, **which: Any) -> list[dict[str, Any]]:
    """The open gates of a run, once there are so many."""

    def open_ones(found: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            gate
            for gate in found["approvals"]
            if gate["status"] == "open" and all(gate[key] == value for key, value in which.items())
        ]

    return open_ones(await run_when(sam, run, lambda found: len(open_ones(found)) == count))


async def ended(sam: Rest, run: str) -> dict[str, Any]:
    return await run_when(sam, run, lambda found: found["status"] in ("completed", "failed", "cancelled"))


def types(run: dict[str, Any]) -> list[str]:
    return [event["type"] for event in run["events"] if event["type"].startswith("approval.")]


async def decide(who: Rest, gate: dict[str, Any], decision: str = "approve", **more: Any) -> dict[str, Any]:
    return await who.post(f"/api/v1/approvals/{gate['id']}/decide", {"decision": decision, **more})


async def assert_log_gives_state(stack, run: str) -> None:
    folded, stored = await folded_and_stored(stack.database_url, run)
    assert (folded.seq, folded.status, folded.visit) == (stored.seq, stored.status, stored.visit)
    assert {k: s.done for k, s in folded.scopes.items()} == {k: s.done for k, s in stored.scopes.items()}


BOUND = """
  - {id: draft, call: {handler: echo, input: {text: "${{ revision.reason }}", n: "${{ vars.n }}"}}}
  - id: review
    approval:
      title: Send it?
      policy: [{from: {group: legal}, count: 2}, {from: {group: money}}]
      revise: {step: draft, max_rounds: 1}
      reject: {outcomes: ["branch:manual", fail], reason: required, options: [dear]}
      form: {schema: {type: object, required: [ticket], properties: {ticket: {type: string}}},
             editable: [/input/n], limits: {/input/n: "<= original"}}
      remind: [1s]
  - {id: send, call: {handler: echo, input: {text: "${{ steps.draft.output.text }}", n: "${{ vars.n }}"}},
     approved_by: review}
  - {id: after, set: {branch: "${{ steps.review.output.branch }}", sent: "${{ steps.send.status }}"}}
"""


async def test_what_is_approved_edited_and_sent_back_is_what_runs(stack, sam, people, run_of):
    one, two = await people("legal", "money"), await people("legal")
    three = await people("money", "legal")
    run = await run_of(BOUND, n=100)
    (gate,) = await gates_of(sam, run)
    seen = await one.get(f"/api/v1/approvals/{gate['id']}")
    assert seen["payload"] == {"handler": "echo", "input": {"text": "", "n": 100}}
    assert (seen["approves"], seen["can_decide"], seen["nobody_can"]) == ("send", True, False)
    assert (seen["quorum"]["need"], seen["quorum"]["have"]) == (3, 0)
    assert seen["form"]["editable"] == ["/input/n"]

    await decide(one, gate, "revise", comment="say please")
    again = (await gates_of(sam, run))[0]
    assert again["replaces"] == gate["id"]
    seen = await one.get(f"/api/v1/approvals/{again['id']}")
    assert seen["diff"] == [{"op": "replace", "path": "/input/text", "value": "say please"}]
    with pytest.raises(Refused) as refusal:
        await decide(one, again, "revise", comment="again")
    assert (refusal.value.status, refusal.value.reason) == (409, "REVISE_LIMIT")

    with pytest.raises(Refused) as refusal:
        await decide(one, again)
    assert [v.field for v in refusal.value.violations] == ["form"]
    ticket = {"form": {"ticket": "T1"}}
    with pytest.raises(Refused) as refusal:
        await decide(one, again, **ticket, edits=[{"path": "/input/text", "value": "x"}])
    assert [v.field for v in refusal.value.violations] == ["edits[0].path"]
    first = await decide(one, again, **ticket, expected_digest=again["digest"])
    assert (first["status"], first["quorum"]["have"]) == ("open", 1)
    assert await decide(one, again, **ticket) == first, "the same vote again gives the same answer"
    # Within the limit, so that what one has approved still counts.
    second = await decide(two, again, **ticket, edits=[{"path": "/input/n", "value": 60}])
    assert (second["status"], second["quorum"]["have"]) == ("open", 2)
    assert second["digest"] != again["digest"]
    with pytest.raises(Refused) as refusal:
        await decide(three, again, **ticket, expected_digest=again["digest"])
    assert refusal.value.reason == "STALE_PAYLOAD"
    done = await decide(three, again, **ticket, expected_digest=second["digest"])
    assert done["status"] == "approved"
    assert done["patch"] == [{"op": "replace", "path": "/input/n", "value": 60}]

    finished = await ended(sam, run)
    assert finished["status"] == "completed"
    steps = {(step["path"], step["visit"]): step for step in finished["steps"]}
    assert steps["send", 2]["output"] == {"text": "say please", "n": 60}
    assert steps["draft", 1]["status"] == "rolled_back"
    assert [t for t in types(finished) if t != "approval.reminded"] == [
        "approval.requested", "approval.revise_requested", "approval.requested", "approval.voted", "approval.voted",
        "approval.approved",
    ]  # fmt: skip
    closing = next(e for e in finished["events"] if e["type"] == "approval.approved")
    assert [vote["name"] for vote in closing["data"]["votes"]] == [one.name, two.name, three.name]
    voted = next(e for e in finished["events"] if e["type"] == "approval.voted")
    assert voted["actor"] == f"principal:{(await one.get('/api/v1/self'))['id']}"
    await assert_log_gives_state(stack, run)


async def test_a_rejection_may_lead_into_a_branch_and_what_was_not_approved_is_skipped(stack, sam, people, run_of):
    one = await people("legal", "money")
    run = await run_of(BOUND, n=1)
    (gate,) = await gates_of(sam, run)
    with pytest.raises(Refused) as refusal:
        await decide(one, gate, "reject")
    assert [v.field for v in refusal.value.violations] == ["comment"]
    with pytest.raises(Refused):
        await decide(one, gate, "reject", comment="no", reason_code="cheap")
    await decide(one, gate, "reject", comment="no", reason_code="dear")
    finished = await ended(sam, run)
    assert finished["status"] == "completed"
    outputs = {step["path"]: step.get("output") for step in finished["steps"]}
    assert outputs["after"] == {"branch": "manual", "sent": "skipped"}
    await assert_log_gives_state(stack, run)


GATE = "approval: {title: t, approvers: {roles: [approver]}}"
NESTED = f"""
  - id: all
    parallel:
      branches:
        left: [{{id: l, {GATE}}}, {{id: lw, set: {{x: 1}}}}]
        right:
          - id: each
            foreach:
              items: [1, 2]
              steps: [{{id: e, {GATE}}}, {{id: s, call: {{handler: echo, input: "${{{{ item }}}}"}}, approved_by: e}}]
        safe:
          - id: try
            try:
              steps: [{{id: t, {GATE}}}]
              catch: [{{codes: [APPROVAL_REJECTED], steps: [{{id: c, set: {{caught: true}}}}]}}]
        around:
          - id: again
            loop:
              until: "${{{{ steps.o.output.comment == 'stop' }}}}"
              max: 3
              steps: [{{id: o, {GATE}}}]
"""


async def test_gates_stand_in_branches_items_rounds_and_tries_several_at_once(stack, sam, ada, run_of):
    run = await run_of(NESTED)
    gates = await gates_of(sam, run, 5)
    assert {(gate["step"], gate["iteration"]) for gate in gates} == {
        ("all/left/l", ""), ("all/right/each/e", "0"), ("all/right/each/e", "1"), ("all/safe/try/body/t", ""),
        ("all/around/again/o", "0"),
    }  # fmt: skip
    assert (await sam.get(f"/api/v1/workflows/{run}"))["status"] == "waiting_approval"
    by_step = {(gate["step"], gate["iteration"]): gate for gate in gates}
    item = await ada.get(f"/api/v1/approvals/{by_step['all/right/each/e', '1']['id']}")
    assert item["payload"] == {"handler": "echo", "input": 2}
    for gate in gates:
        rejects = "try" in gate["step"]
        await decide(ada, gate, "reject" if rejects else "approve")
    (second,) = await gates_of(sam, run, 1, iteration="1")
    await decide(ada, second, comment="stop")
    finished = await ended(sam, run)
    assert finished["status"] == "completed"
    found = [(step["path"], step["iteration"], step["output"]) for step in finished["steps"] if step["kind"] == "call"]
    assert sorted(found) == [("all/right/each/s", "0", 1), ("all/right/each/s", "1", 2)]
    assert ("all/safe/try/catch/c", "completed") in [(s["path"], s["status"]) for s in finished["steps"]]
    await assert_log_gives_state(stack, run)


async def test_a_draft_inside_of_an_item_is_sent_back_alone(stack, sam, ada, run_of):
    run = await run_of("""
  - id: each
    foreach:
      items: [a, b]
      steps:
        - {id: draft, call: {handler: echo, input: {item: "${{ item }}", why: "${{ revision.reason }}"}}}
        - id: more
          parallel: {branches: {one: [{id: inner, call: {handler: echo, input: "${{ revision.round }}"}}]}}
        - {id: g, approval: {title: t, approvers: {roles: [approver]}, revise: {step: draft}}}
""")
    gates = {gate["iteration"]: gate for gate in await gates_of(sam, run, 2)}
    await decide(ada, gates["0"])
    await decide(ada, gates["1"], "revise", comment="shorter")
    (again,) = await gates_of(sam, run, 1, iteration="1")
    assert again["id"] != gates["1"]["id"]
    await decide(ada, again)
    finished = await ended(sam, run)
    rows = [(s["path"], s["iteration"], s["visit"], s["status"]) for s in finished["steps"] if s["kind"] == "call"]
    assert sorted(rows) == [
        ("each/draft", "0", 1, "completed"), ("each/draft", "1", 1, "rolled_back"), ("each/draft", "1", 2, "completed"),
        ("each/more/one/inner", "0", 1, "completed"), ("each/more/one/inner", "1", 1, "rolled_back"),
        ("each/more/one/inner", "1", 2, "completed"),
    ]  # fmt: skip
    outputs = [s["output"] for s in finished["steps"] if s["kind"] == "call" and s["visit"] == 2]
    assert outputs == [{"item": "b", "why": "shorter"}, 1]
    await assert_log_gives_state(stack, run)


async def test_time_opens_reminds_hands_on_and_takes_the_default(stack, sam, people, run_of):
    lead = await people("leads")
    run = await run_of("""
  - id: g
    approval: {title: t, approvers: {groups: [nobody-here]}, opens_after: 500ms, remind: [300ms],
               escalate: [{after: 600ms, replace: {group: leads}}], expires: {after: 1h, then: branch:late}}
  - {id: k, approval: {title: t, approvers: {groups: [leads]}, expires: {after: 400ms, then: branch:late}}}
  - {id: after, set: {late: "${{ steps.k.output.branch }}", expired: "${{ steps.k.output.expired }}"}}
""")
    scheduled = await run_when(sam, run, lambda found: bool(found["approvals"]))
    gate = scheduled["approvals"][0]
    assert gate["status"] == "scheduled"
    with pytest.raises(Refused) as refusal:
        await decide(lead, gate)
    assert refusal.value.status in (403, 409)
    async with asyncio.timeout(30):
        while not (await lead.get(f"/api/v1/approvals/{gate['id']}"))["can_decide"]:
            await asyncio.sleep(0.05)
    assert [g["id"] for g in (await lead.get("/api/v1/approvals", mine=True, workflow_id=run))["approvals"]] == [
        gate["id"]
    ]
    await decide(lead, gate)
    finished = await ended(sam, run)
    assert types(finished) == [
        "approval.requested", "approval.opened", "approval.reminded", "approval.escalated", "approval.approved",
        "approval.requested", "approval.expired",
    ]  # fmt: skip
    assert finished["steps"][-1]["output"] == {"late": "late", "expired": True}
    timers = [e["actor"] for e in finished["events"] if e["type"] in ("approval.opened", "approval.escalated")]
    assert timers == ["timer", "timer"]
    await assert_log_gives_state(stack, run)


async def test_links_batches_claims_and_delegates_over_rest(stack, sam, root, people, run_of):
    one, two = await people("crew"), await people("crew")
    low = "approval: {title: t, approvers: {groups: [crew]}, risk: low}"
    run = await run_of(f"  - {{id: a, {low}}}\n  - {{id: b, needs: [], {low}}}\n  - {{id: c, needs: [], {low}}}\n")
    gates = {gate["step"]: gate for gate in await gates_of(sam, run, 3)}
    with pytest.raises(Refused) as refusal:
        await sam.post(f"/api/v1/approvals/{gates['a']['id']}/links", {"to": one.name})
    assert refusal.value.status == 403
    link = await root.post(f"/api/v1/approvals/{gates['a']['id']}/links", {"to": one.name})
    nobody = Rest(stack.url, None)
    try:
        before = await one.get(f"/api/v1/approvals/{gates['a']['id']}")
        for _ in range(20):
            assert (await nobody.get(link["path"]))["can_decide"] is True
        assert (await one.get(f"/api/v1/approvals/{gates['a']['id']}")) == before, "looking changes nothing"
        done = await nobody.post(link["path"], {"decision": "approve"})
        assert (done["status"], done["decided_via"]) == ("approved", "link")
        assert (await nobody.post(link["path"], {"decision": "approve"}))["status"] == "approved"
        with pytest.raises(Refused) as refusal:
            await nobody.post(link["path"], {"decision": "reject"})
        assert refusal.value.reason == "LINK_USED"
        for path in (link["path"] + "x", link["path"] + "/approve"):
            with pytest.raises(Refused) as refusal:
                await nobody.get(path)
            assert refusal.value.status == 404
    finally:
        await nobody.close()

    claimed = await one.post(f"/api/v1/approvals/{gates['b']['id']}/claim")
    assert claimed["claimed_by"]
    with pytest.raises(Refused) as refusal:
        await decide(two, gates["b"])
    assert refusal.value.reason == "GATE_CLAIMED"
    await one.post(f"/api/v1/approvals/{gates['b']['id']}/release")
    await one.post(f"/api/v1/approvals/{gates['c']['id']}/delegate", {"to": two.name, "reason": "away"})
    items = [{"approval_id": gates[step]["id"], "digest": gates[step]["digest"]} for step in ("b", "c")]
    results = (await two.post("/api/v1/approvals/decide", {"items": items, "decision": "approve"}))["results"]
    assert [(r["status"], r["reason"]) for r in results] == [("approved", ""), ("", "OTHER_STEP")]
    await decide(two, gates["c"], on_behalf_of=one.name)
    finished = await ended(sam, run)
    assert finished["status"] == "completed"
    for word in ("link_issued", "link_used", "claimed", "released", "delegated"):
        assert f"approval.{word}" in types(finished)
    token = link["path"].rpartition("/")[2]
    await assert_log_gives_state(stack, run)
    for log in (stack.settings.folder / "logs").iterdir():
        assert token not in log.read_text(errors="replace"), log
    database = Database(stack.database_url, name="test", size=1)
    await database.open()
    try:
        async with database.connection() as connection:
            cursor = await connection.execute("SELECT 1 FROM gate_links t WHERE t::text LIKE %s", (f"%{token}%",))
            assert await cursor.fetchone() is None
    finally:
        await database.close()
    assert token not in json.dumps(finished)


async def test_cancel_withdraws_retry_asks_anew_and_pause_holds(stack, sam, ada, run_of):
    run = await run_of("  - {id: g, approval: {title: t, approvers: {roles: [approver]}, expires: {after: 1s}}}\n")
    (gate,) = await gates_of(sam, run)
    path = f"/api/v1/workflows/{run}"
    await sam.post(f"{path}/pause")
    paused = await ada.get(f"/api/v1/approvals/{gate['id']}")
    assert paused["status"] == "open"
    await asyncio.sleep(1.5)  # longer than the gate may wait: it must not expire meanwhile
    assert (await ada.get(f"/api/v1/approvals/{gate['id']}"))["status"] == "open"
    await sam.post(f"{path}/cancel")
    with pytest.raises(Refused) as refusal:
        await decide(ada, gate)
    assert (refusal.value.status, refusal.value.reason) == (409, "GATE_CLOSED")
    await sam.post(f"{path}/retry")
    (again,) = await gates_of(sam, run)
    assert again["replaces"] == gate["id"]
    await decide(ada, again)
    finished = await ended(sam, run)
    assert [a["status"] for a in finished["approvals"]] == ["superseded", "approved"]
    await assert_log_gives_state(stack, run)


async def test_a_run_that_goes_back_behind_a_revision_has_what_was_done_again(stack, sam, ada, run_of):
    run = await run_of("""
  - {id: draft, call: {handler: echo, input: {why: "${{ revision.reason }}"}}}
  - {id: g, approval: {title: "${{ steps.draft.output.why }}?", approvers: {roles: [approver]}, revise: {}}}
  - {id: after, set: {why: "${{ steps.draft.output.why }}"}}
""")
    (gate,) = await gates_of(sam, run)
    first = (await sam.get(f"/api/v1/workflows/{run}/snapshots"))["snapshots"][-1]
    await decide(ada, gate, "revise", comment="shorter")
    (second,) = await gates_of(sam, run, 1, round=1)
    assert second["title"] == "shorter?"
    fork = (await sam.post(f"/api/v1/workflows/{run}/fork", {"snapshot_id": first["id"]}))["id"]
    await sam.post(f"/api/v1/workflows/{run}/rollback", {"snapshot_id": first["id"]})
    for one in (run, fork):
        (again,) = await gates_of(sam, one, 1)
        assert (again["title"], again["round"]) == ("?", 0)
        await decide(ada, again)
        finished = await ended(sam, one)
        assert finished["steps"][-1]["output"] == {"why": ""}
        await assert_log_gives_state(stack, one)
    assert (await sam.get(f"/api/v1/workflows/{run}"))["approvals"][1]["status"] == "superseded"
