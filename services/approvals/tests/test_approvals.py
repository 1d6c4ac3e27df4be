"""Deciding gates over gRPC: who may, once, and who is told."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import grpc
import pytest
from nats.aio.client import Client
from wfe.api.v1 import approval_service_pb2 as pb
from wfe_bus import subjects
from wfe_bus.connection import settle
from wfe_bus.messages import RunChanged, decoder
from wfe_servicekit.testing import refused

CODE = grpc.StatusCode


def approve(run_id: uuid.UUID, gate_id: uuid.UUID, **more: str) -> pb.ApproveWorkflowRequest:
    return pb.ApproveWorkflowRequest(id=str(run_id), approval_id=str(gate_id), **more)


def reject(run_id: uuid.UUID, gate_id: uuid.UUID, **more: str) -> pb.RejectWorkflowRequest:
    return pb.RejectWorkflowRequest(id=str(run_id), approval_id=str(gate_id), **more)


async def test_approving_answers_with_the_closed_gate_and_tells_the_schedulers(world: Any, bus: Client) -> None:
    told = await bus.subscribe(subjects.RUN)
    await settle(bus)
    run_id = await world.run()
    gate_id = await world.gate(run_id, payload='{"words": 12345678901234567890, "n": 7}')
    ada = await world.as_("ada")
    before = await world.approvals.GetApproval(pb.GetApprovalRequest(approval_id=str(gate_id)), metadata=ada)
    assert (before.status, before.can_decide, before.why_not, before.digest) == ("open", True, "", "d1")
    assert dict(before.payload.struct_value.fields)["words"].string_value == "12345678901234567890"
    assert dict(before.payload.struct_value.fields)["n"].number_value == 7

    done = await world.approvals.ApproveWorkflow(
        approve(run_id, gate_id, comment="fine", expected_digest=before.digest), metadata=ada
    )
    assert (done.id, done.workflow_id, done.status, done.comment) == (str(gate_id), str(run_id), "approved", "fine")
    assert done.decided_by == str(world.people["acme", "ada"])
    assert done.HasField("decided_at")
    assert (done.can_decide, done.why_not) == (False, "the gate is closed: approved")

    message = await told.next_msg(timeout=5)
    assert decoder(RunChanged).decode(message.data) == RunChanged(run=run_id.bytes, gate=gate_id.bytes, version=2)


async def test_the_same_decision_again_is_the_same_answer_and_another_one_a_conflict(world: Any) -> None:
    run_id = await world.run()
    gate_id = await world.gate(run_id)
    ada, bob = await world.as_("ada"), await world.as_("bob")
    first = await world.approvals.RejectWorkflow(reject(run_id, gate_id, comment="no"), metadata=ada)
    assert await world.approvals.RejectWorkflow(reject(run_id, gate_id), metadata=ada) == first
    for call in (
        world.approvals.ApproveWorkflow(approve(run_id, gate_id), metadata=ada),
        world.approvals.ApproveWorkflow(approve(run_id, gate_id), metadata=bob),
        world.approvals.RejectWorkflow(reject(run_id, gate_id), metadata=bob),
    ):
        fault = await refused(call)
        assert (fault.code, fault.info.reason) == (CODE.FAILED_PRECONDITION, "GATE_CLOSED")
        assert fault.info.metadata["decision"] == "reject"


async def test_who_may_not_decide_is_told_why(world: Any) -> None:
    run_id = await world.run()
    gate_id = await world.gate(run_id, policy={"groups": ["editors"]})
    for name, reason in (
        ("starter", "NOT_AN_APPROVER"),
        ("bob", "NOT_AN_APPROVER"),
        ("bot", "NOT_AN_APPROVER"),
        ("vic", "ROLE_REQUIRED"),
    ):
        who = await world.as_(name)
        fault = await refused(world.approvals.ApproveWorkflow(approve(run_id, gate_id), metadata=who))
        assert (fault.code, fault.info.reason) == (CODE.PERMISSION_DENIED, reason)
        seen = await world.approvals.GetApproval(pb.GetApprovalRequest(approval_id=str(gate_id)), metadata=who)
        assert (seen.can_decide, seen.why_not) == (False, "you are not among the approvers of this gate")
    open_to_all = await world.gate(run_id)
    starter = await world.as_("starter")
    fault = await refused(world.approvals.ApproveWorkflow(approve(run_id, open_to_all), metadata=starter))
    assert (fault.code, fault.info.reason) == (CODE.PERMISSION_DENIED, "SELF_APPROVAL")
    assert (await refused(world.approvals.ApproveWorkflow(approve(run_id, gate_id)))).code == CODE.UNAUTHENTICATED


async def test_a_missing_gate_and_another_owners_are_the_same(world: Any) -> None:
    run_id, other_run = await world.run(), await world.run()
    gate_id, missing = await world.gate(run_id), uuid.uuid4()
    ada, ada_of_rival = await world.as_("ada"), await world.as_("ada", "rival")
    faults = [
        await refused(world.approvals.ApproveWorkflow(approve(run, gate), metadata=who))
        for run, gate, who in (
            (run_id, gate_id, ada_of_rival),
            (other_run, gate_id, ada),
            (run_id, missing, ada),
            (uuid.uuid4(), gate_id, ada),
        )
    ]
    faults += [
        await refused(world.approvals.GetApproval(pb.GetApprovalRequest(approval_id=str(gate)), metadata=who))
        for gate, who in ((gate_id, ada_of_rival), (missing, ada))
    ]
    seen = {(f.code, f.info.reason, f.message.replace(str(gate_id), "…").replace(str(missing), "…")) for f in faults}
    assert seen == {(CODE.NOT_FOUND, "NOT_FOUND", "there is no gate …")}
    inbox = await world.approvals.ListApprovals(pb.ListApprovalsRequest(), metadata=ada_of_rival)
    assert inbox.total == 0


async def test_a_stale_digest_is_refused(world: Any) -> None:
    run_id = await world.run()
    gate_id = await world.gate(run_id)
    fault = await refused(
        world.approvals.ApproveWorkflow(
            approve(run_id, gate_id, expected_digest="seen before"), metadata=await world.as_("ada")
        )
    )
    assert (fault.code, fault.info.reason) == (CODE.FAILED_PRECONDITION, "STALE_PAYLOAD")


async def test_everything_wrong_is_named_at_once(world: Any) -> None:
    ada = await world.as_("ada")
    fault = await refused(
        world.approvals.ApproveWorkflow(
            pb.ApproveWorkflowRequest(id="7", approval_id="", comment="x" * 4001, expected_digest="\0"), metadata=ada
        )
    )
    assert fault.code == CODE.INVALID_ARGUMENT
    assert [v.field for v in fault.details["BadRequest"].field_violations] == [
        "id", "approval_id", "comment", "expected_digest"
    ]  # fmt: skip
    fault = await refused(
        world.approvals.ListApprovals(
            pb.ListApprovalsRequest(status="shut", workflow_id="7", limit=-1, offset=-1), metadata=ada
        )
    )
    assert [v.field for v in fault.details["BadRequest"].field_violations] == [
        "status", "workflow_id", "limit", "offset"
    ]  # fmt: skip


async def test_the_inbox_is_filtered_and_paged(world: Any) -> None:
    run_id = await world.run()
    editors = await world.gate(run_id, policy={"groups": ["editors"]}, payload="{}")
    anybody = [await world.gate(run_id) for _ in range(3)]
    ada, bob = await world.as_("ada"), await world.as_("bob")
    await world.approvals.ApproveWorkflow(approve(run_id, anybody[0]), metadata=bob)

    async def ids(who: list[tuple[str, str]], **query: object) -> list[str]:
        answer = await world.approvals.ListApprovals(pb.ListApprovalsRequest(**query), metadata=who)
        return [approval.id for approval in answer.approvals]

    every = [str(gate) for gate in (editors, *anybody)]
    assert await ids(ada) == [every[0], *every[2:]]
    assert await ids(ada, mine=True) == [every[0], *every[2:]]
    assert await ids(bob, mine=True) == every[2:]
    assert await ids(ada, status="all") == every
    assert await ids(ada, status="approved", workflow_id=str(run_id)) == [every[1]]
    assert await ids(ada, workflow_id=str(uuid.uuid4())) == []
    page = await world.approvals.ListApprovals(pb.ListApprovalsRequest(limit=1, offset=1), metadata=ada)
    assert ([a.id for a in page.approvals], page.total, page.limit, page.offset) == ([every[2]], 3, 1, 1)
    whole = await world.approvals.ListApprovals(pb.ListApprovalsRequest(), metadata=ada)
    assert (whole.limit, whole.approvals[0].HasField("payload")) == (50, False)


async def test_two_deciders_at_once_over_grpc_have_one_winner(world: Any) -> None:
    ada, bob = await world.as_("ada"), await world.as_("bob")
    run_id = await world.run()
    for _ in range(10):
        gate_id = await world.gate(run_id)
        calls = [
            world.approvals.ApproveWorkflow(approve(run_id, gate_id), metadata=ada),
            world.approvals.RejectWorkflow(reject(run_id, gate_id), metadata=bob),
        ]
        done = await asyncio.gather(*calls, return_exceptions=True)
        answers = [answer for answer in done if not isinstance(answer, Exception)]
        faults = [fault for fault in done if isinstance(fault, grpc.aio.AioRpcError)]
        assert (len(answers), [fault.code() for fault in faults]) == (1, [CODE.FAILED_PRECONDITION])


async def test_a_cancelled_call_still_decides_wholly_or_not_at_all(world: Any) -> None:
    ada = await world.as_("ada")
    run_id = await world.run()
    statuses = set()
    for delay in range(12):
        gate_id = await world.gate(run_id)
        call = world.approvals.ApproveWorkflow(approve(run_id, gate_id), metadata=ada, timeout=0.0005 * (delay + 1))
        await asyncio.gather(call, return_exceptions=True)
        again = await world.approvals.ApproveWorkflow(approve(run_id, gate_id), metadata=ada)
        statuses.add(again.status)
    assert statuses == {"approved"}


@pytest.mark.parametrize("payload", ["1" * 5000, '{"a": ' * 60 + "1" + "}" * 60, "null", '"\\u0000\\ud800"', "1e999"])
async def test_no_payload_breaks_the_answer(world: Any, payload: str) -> None:
    run_id = await world.run()
    gate_id = await world.gate(run_id, payload=payload)
    got = await world.approvals.GetApproval(
        pb.GetApprovalRequest(approval_id=str(gate_id)), metadata=await world.as_("ada")
    )
    assert got.HasField("payload")


async def test_an_overdue_gate_shows_that_it_is(world: Any) -> None:
    run_id = await world.run()
    gate_id = await world.gate(run_id, expires_in=timedelta(seconds=-1))
    ada = await world.as_("ada")
    got = await world.approvals.GetApproval(pb.GetApprovalRequest(approval_id=str(gate_id)), metadata=ada)
    assert (got.can_decide, got.why_not) == (False, "the gate is closed: expired")
    fault = await refused(world.approvals.ApproveWorkflow(approve(run_id, gate_id), metadata=ada))
    assert (fault.info.reason, fault.info.metadata["status"]) == ("GATE_CLOSED", "expired")
