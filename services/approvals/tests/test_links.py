"""One-time links, bypassing, batches and counts over gRPC."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from wfe.api.v1 import approval_service_pb2 as pb
from wfe_servicekit.testing import refused
from wfe_store.pool import fetch_all, fetch_one

from .link_calls import everything, issue, sql

CODE = grpc.StatusCode


async def test_a_thousand_looks_change_nothing_and_one_decision_is_taken(world: Any, links: Any) -> None:
    gate = await world.gate(await world.run(), risk="low", payload='{"n":1}')
    token = await issue(world, gate)
    before = await everything(world)
    seen = await asyncio.gather(*(links.GetLink(pb.GetLinkRequest(token=token)) for _ in range(1000)))
    assert {(one.status, one.can_decide, one.title) for one in seen} == {("open", True, "Publish?")}
    assert await everything(world) == before
    calls = [links.DecideByLink(pb.DecideByLinkRequest(token=token, decision="approve")) for _ in range(5)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert {one.status for one in done if not isinstance(one, Exception)} == {"approved"}
    again = await links.DecideByLink(pb.DecideByLinkRequest(token=token, decision="approve"))
    assert (again.status, again.decided_by, again.decided_via) == (
        "approved", str(world.people["acme", "ada"]), "link"
    )  # fmt: skip
    fault = await refused(links.DecideByLink(pb.DecideByLinkRequest(token=token, decision="reject")))
    assert (fault.code, fault.info.reason) == (CODE.FAILED_PRECONDITION, "LINK_USED")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE gate_links SET expires_at = clock_timestamp()", "LINK_EXPIRED"),
        ("UPDATE gates SET digest = 'd2', version = version + 1", "LINK_STALE"),
        ("UPDATE gates SET status = 'withdrawn'", "GATE_CLOSED"),
        ("UPDATE gate_links SET used_at = clock_timestamp(), used_for = 'reject'", "LINK_USED"),
    ],
)
async def test_a_dead_link_neither_shows_nor_decides(world: Any, links: Any, change: str, reason: str) -> None:
    gate = await world.gate(await world.run(), risk="low")
    token = await issue(world, gate)
    await sql(world, change)
    for call in (
        links.GetLink(pb.GetLinkRequest(token=token)),
        links.DecideByLink(pb.DecideByLinkRequest(token=token, decision="approve")),
    ):
        fault = await refused(call)
        assert (fault.code, fault.info.reason) == (CODE.FAILED_PRECONDITION, reason)
    async with world.database.connection() as connection:
        assert await fetch_one(connection, "SELECT 1 FROM gate_votes") is None


async def test_unknown_tokens_and_people_who_are_gone_are_missing(world: Any, links: Any) -> None:
    gate = await world.gate(await world.run(), risk="low")
    token = await issue(world, gate)
    await sql(world, "UPDATE principals SET disabled_at = clock_timestamp() WHERE name = 'ada'")
    for one in (token, token + "x", "", "wfl_"):
        assert (await refused(links.GetLink(pb.GetLinkRequest(token=one)))).code == CODE.NOT_FOUND


async def test_a_link_alone_decides_low_risk_only_and_its_refusal_is_noted(world: Any, links: Any) -> None:
    gate = await world.gate(await world.run(), risk="medium")
    token = await issue(world, gate)
    seen = await links.GetLink(pb.GetLinkRequest(token=token))
    assert (seen.can_decide, seen.why_not_reason) == (False, "LINK_NEEDS_SESSION")
    fault = await refused(links.DecideByLink(pb.DecideByLinkRequest(token=token, decision="approve")))
    assert (fault.code, fault.info.reason) == (CODE.PERMISSION_DENIED, "LINK_NEEDS_SESSION")
    async with world.database.connection() as connection:
        notes = await fetch_all(connection, "SELECT type FROM gate_notes ORDER BY n")
    assert notes == [("link_issued",), ("link_refused",)]


async def test_links_are_for_oneself_unless_an_admin_makes_them_and_for_who_can_decide(world: Any) -> None:
    gate = await world.gate(await world.run(), policy={"groups": ["editors"]}, risk="low")
    await issue(world, gate, by="ada", to="")
    request = pb.IssueLinkRequest(approval_id=str(gate), to="ada")
    fault = await refused(world.approvals.IssueLink(request, metadata=await world.as_("bob")))
    assert (fault.code, fault.info.reason) == (CODE.PERMISSION_DENIED, "ROLE_REQUIRED")
    for name in ("bob", "nobody"):
        request = pb.IssueLinkRequest(approval_id=str(gate), to=name)
        fault = await refused(world.approvals.IssueLink(request, metadata=await world.as_("root")))
        assert [v.field for v in fault.details["BadRequest"].field_violations] == ["to"]
    rival = await refused(
        world.approvals.IssueLink(pb.IssueLinkRequest(approval_id=str(gate)), metadata=await world.as_("ada", "rival"))
    )
    assert rival.code == CODE.NOT_FOUND


async def test_only_breakglass_bypasses_and_says_why(world: Any) -> None:
    gate = await world.gate(await world.run(), policy={"groups": ["editors"]})
    request = pb.BypassApprovalRequest(approval_id=str(gate), reason="the site is down")
    for name in ("ada", "root"):
        fault = await refused(world.approvals.BypassApproval(request, metadata=await world.as_(name)))
        assert (fault.code, fault.info.reason) == (CODE.PERMISSION_DENIED, "ROLE_REQUIRED")
    await sql(world, "UPDATE principals SET roles = '{breakglass}' WHERE name = 'vic'")
    vic = await world.as_("vic")
    fault = await refused(
        world.approvals.BypassApproval(pb.BypassApprovalRequest(approval_id=str(gate)), metadata=vic)
    )  # fmt: skip
    assert [v.field for v in fault.details["BadRequest"].field_violations] == ["reason"]
    done = await world.approvals.BypassApproval(request, metadata=vic)
    assert (done.status, done.decided_via) == ("approved", "bypass")


async def test_the_starter_does_not_bypass_his_own_run(world: Any) -> None:
    await sql(world, "UPDATE principals SET roles = '{breakglass}' WHERE name = 'starter'")
    gate = await world.gate(await world.run())
    fault = await refused(
        world.approvals.BypassApproval(
            pb.BypassApprovalRequest(approval_id=str(gate), reason="me"), metadata=await world.as_("starter")
        )
    )
    assert fault.info.reason == "SELF_APPROVAL"


async def test_a_batch_answers_for_each(world: Any) -> None:
    run = await world.run()
    fine = [await world.gate(run) for _ in range(3)]
    high = await world.gate(run, risk="high")
    own = await world.gate(run, policy={"users": ["bob"]})
    items = [pb.BatchItem(approval_id=str(gate), digest="d1") for gate in (*fine, high, own, uuid.uuid4())]
    items.append(pb.BatchItem(approval_id=str(fine[0]), digest="seen before"))
    ada = await world.as_("ada")
    answer = await world.approvals.DecideApprovals(
        pb.DecideApprovalsRequest(items=items, decision="approve", comment="all of them"), metadata=ada
    )
    assert [(r.status, r.reason) for r in answer.results][:6] == [
        *[("approved", "")] * 3, ("", "HIGH_RISK"), ("", "NOT_AN_APPROVER"), ("", "NOT_FOUND"),
    ]  # fmt: skip
    many = [pb.BatchItem(approval_id=str(uuid.uuid4()), digest="d1") for _ in range(101)]
    fault = await refused(
        world.approvals.DecideApprovals(pb.DecideApprovalsRequest(items=many, decision="revise"), metadata=ada)
    )
    assert [v.field for v in fault.details["BadRequest"].field_violations] == ["items", "decision"]


async def test_counts_and_filters(world: Any) -> None:
    run = await world.run()
    await world.gate(run, policy={"groups": ["editors"]}, risk="high")
    low = await world.gate(run, risk="low")
    ada, bob = await world.as_("ada"), await world.as_("bob")
    await world.approvals.ClaimApproval(pb.ClaimApprovalRequest(approval_id=str(low)), metadata=bob)
    counts = [await world.approvals.CountApprovals(pb.CountApprovalsRequest(), metadata=who) for who in (ada, bob)]
    assert [(c.open, c.mine, c.claimed, c.high_risk) for c in counts] == [(2, 2, 0, 1), (2, 1, 1, 1)]
    for query, found in (
        ({"risk": "low"}, 1),
        ({"claimed": True}, 1),
        ({"template": "publish"}, 2),
        ({"template": "x"}, 0),
    ):
        page = await world.approvals.ListApprovals(pb.ListApprovalsRequest(**query), metadata=bob)
        assert page.total == found, query


async def test_delegations_are_made_listed_and_ended(world: Any) -> None:
    ada, root = await world.as_("ada"), await world.as_("root")
    request = pb.CreateDelegationRequest(delegate="bob", reason="holiday")
    fault = await refused(world.approvals.CreateDelegation(request, metadata=ada))
    assert [v.field for v in fault.details["BadRequest"].field_violations] == ["ends_at"]
    request.ends_at.GetCurrentTime()
    request.ends_at.seconds += 3600
    made = await world.approvals.CreateDelegation(request, metadata=ada)
    assert (made.delegator, made.delegate) == ("ada", "bob")
    other = pb.CreateDelegationRequest(delegate="bob", delegator="vic", ends_at=request.ends_at)
    fault = await refused(world.approvals.CreateDelegation(other, metadata=ada))
    assert fault.code == CODE.PERMISSION_DENIED
    for who, count in ((ada, 1), (root, 1), (await world.as_("vic"), None)):
        call = world.approvals.ListDelegations(pb.ListDelegationsRequest(), metadata=who)
        if count is None:
            assert (await refused(call)).code == CODE.PERMISSION_DENIED
        else:
            assert (await call).total == count
    await world.approvals.RevokeDelegation(pb.RevokeDelegationRequest(id=made.id), metadata=ada)
    assert (await world.approvals.ListDelegations(pb.ListDelegationsRequest(), metadata=ada)).total == 0
    kept = await world.approvals.ListDelegations(pb.ListDelegationsRequest(all=True), metadata=ada)
    assert kept.delegations[0].HasField("revoked_at")
