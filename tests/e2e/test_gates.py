"""Gates: who may not decide, or what is no longer to be decided, gets the right error, and nothing changes."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from e2e_runs import decide, event_of, path_of, refused, types, until
from e2e_store import Store
from grpc import StatusCode
from wfe_stack.rest import Refused, Rest

GATE = """
name: e2e-gate
steps:
  - {id: gate, approval: {title: "Go on?", payload: {sum: 12}, approvers: {groups: [editors]}}}
  - {id: after, set: {done: true}}
"""
#: (who, what is wrong, status, code, reason)
REFUSALS = (
    ("ada", "another run's gate", 404, StatusCode.NOT_FOUND, "NOT_FOUND"),
    ("ada", "no gate at all", 404, StatusCode.NOT_FOUND, "NOT_FOUND"),
    ("ada", "another payload", 409, StatusCode.FAILED_PRECONDITION, "STALE_PAYLOAD"),
    ("max", "he started it", 403, StatusCode.PERMISSION_DENIED, "SELF_APPROVAL"),
    ("olga", "in no group that may", 403, StatusCode.PERMISSION_DENIED, "NOT_AN_APPROVER"),
    ("sam", "no role that may", 403, StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"),
    ("stranger", "another owner", 404, StatusCode.NOT_FOUND, "NOT_FOUND"),
    ("nobody", "no key", 401, StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
)


@pytest.fixture(scope="module")
def spared() -> list[dict]:
    """Two runs of max that nobody has decided; refusals leave them as they are."""
    return []


@pytest.fixture
async def two_runs(rest_as, start, spared) -> list[dict]:
    while len(spared) < 2:
        spared.append(await start(GATE, by=rest_as("max")))
    return spared


@pytest.mark.parametrize("what", ["approve", "reject"])
@pytest.mark.parametrize(("who", "wrong", "status", "code", "reason"), REFUSALS)
async def test_who_may_not_decide(sam: Rest, rest_as, store: Store, two_runs, what, who, wrong, status, code, reason):
    run, other = two_runs
    shown, stored = await sam.get(path_of(run["id"])), await store.everything(run["id"])
    assert shown["status"] == "waiting_approval"
    gate, body = run["approvals"][0]["id"], {}
    match wrong:
        case "another run's gate":
            gate = other["approvals"][0]["id"]
        case "no gate at all":
            gate = str(uuid.uuid4())
        case "another payload":
            body = {"expected_digest": "0" * 64}
    refusal = await refused(rest_as(who).post(path_of(run["id"], "approvals", gate, what), body))
    assert (refusal.status, refusal.body["code"], refusal.reason) == (status, code.value[0], reason)
    assert await sam.get(path_of(run["id"])) == shown
    assert await store.everything(run["id"]) == stored


async def test_what_is_decided_stays_decided(sam: Rest, ada: Rest, rest_as, store: Store, start):
    run = await start(GATE)
    gate = run["approvals"][0]
    decided = await decide(ada, run, "approve", comment="fine", expected_digest=gate["digest"])
    done = await until(sam, run["id"], "completed")
    stored = await store.everything(run["id"])
    # The same again, as after a lost answer, is answered as it was; anything else is too late.
    assert await decide(ada, run, "approve", comment="fine") == decided
    for who, what in (("ada", "reject"), ("eve", "approve"), ("eve", "reject")):
        refusal = await refused(decide(rest_as(who), run, what))
        assert (refusal.status, refusal.reason) == (409, "GATE_CLOSED")
        assert refusal.metadata["decision"] == "approve"
        assert refusal.metadata["decided_by"] == decided["decided_by"]
    assert await store.everything(run["id"]) == stored
    assert done["approvals"][0]["comment"] == "fine"
    assert event_of(done, "approval.approved")["actor"] == f"principal:{decided['decided_by']}"


async def test_two_who_decide_at_once_make_one_decision(sam: Rest, rest_as, start):
    for _ in range(5):
        run = await start(GATE)
        answers = await asyncio.gather(
            decide(rest_as("ada"), run, "approve"), decide(rest_as("eve"), run, "reject"), return_exceptions=True
        )
        won = [answer["status"] for answer in answers if isinstance(answer, dict)]
        lost = [(answer.status, answer.reason) for answer in answers if isinstance(answer, Refused)]
        assert len(won) == 1
        assert lost == [(409, "GATE_CLOSED")]
        ended = await sam.wait_ended(run["id"])
        assert ended["status"] == ("completed" if won == ["approved"] else "failed")
        assert sum(kind.startswith("approval.") for kind in types(ended)) == 2


async def test_a_withdrawn_gate_is_closed(sam: Rest, ada: Rest, store: Store, start):
    run = await start(GATE)
    await sam.post(path_of(run["id"], "cancel"))
    stored = await store.everything(run["id"])
    refusal = await refused(decide(ada, run, "approve"))
    assert (refusal.status, refusal.reason, refusal.metadata["status"]) == (409, "GATE_CLOSED", "withdrawn")
    assert await store.everything(run["id"]) == stored


async def test_rejection_fails_the_run_with_its_reason(sam: Rest, ada: Rest, start):
    run = await start(GATE)
    await decide(ada, run, "reject", comment="too much")
    failed = await until(sam, run["id"], "failed")
    assert (failed["reason"], failed["error"]["code"]) == ("approval_rejected", "APPROVAL_REJECTED")
    assert failed["error"]["step"] == "gate"
    assert event_of(failed, "approval.rejected")["data"]["comment"] == "too much"


async def test_the_inbox_shows_each_what_he_may_decide(ada: Rest, rest_as, start):
    run = await start(GATE, by=rest_as("max"))
    gate = run["approvals"][0]["id"]
    for who, may in (("ada", True), ("eve", True), ("max", False), ("olga", False), ("stranger", False)):
        listed = await rest_as(who).get("/api/v1/approvals", mine=True, workflow_id=run["id"])
        assert ([each["id"] for each in listed["approvals"]] == [gate]) is may, who
    await decide(ada, run, "approve")
    assert (await ada.get("/api/v1/approvals", mine=True, workflow_id=run["id"]))["approvals"] == []
    assert (await ada.get(f"/api/v1/approvals/{gate}"))["status"] == "approved"


@pytest.mark.parametrize(
    ("then", "status", "reason", "code"),
    [
        ("approve", "completed", "", None),
        ("reject", "failed", "approval_rejected", "APPROVAL_REJECTED"),
        ("fail", "failed", "approval_expired", "APPROVAL_EXPIRED"),
    ],
)
async def test_expiry_takes_the_default(sam: Rest, ada: Rest, start, then, status, reason, code):
    expiring = GATE.replace("e2e-gate", f"e2e-expiry-{then}").replace(
        "approvers:", f"expires: {{after: 200ms, then: {then}}}, approvers:"
    )
    run = await start(expiring)
    ended = await sam.wait_ended(run["id"])
    assert (ended["status"], ended["reason"], ended.get("error", {}).get("code")) == (status, reason, code)
    assert ended["approvals"][0]["status"] == "expired"
    expired = event_of(ended, "approval.expired")
    assert (expired["actor"], expired["data"]["outcome"]) == ("timer", then)
    refusal = await refused(decide(ada, ended, "approve"))
    assert (refusal.status, refusal.reason, refusal.metadata["status"]) == (409, "GATE_CLOSED", "expired")
