"""ApprovalService and LinkService: one use case per method."""

from __future__ import annotations

from google.api.httpbody_pb2 import HttpBody
from wfe.api.v1 import approval_service_pb2 as pb
from wfe.api.v1 import approval_service_pb2_grpc, workflow_pb2
from wfe_servicekit.calls import current_caller
from wfe_store.delegations import Delegations
from wfe_store.gate_links import Links
from wfe_store.gates import Gates
from wfe_store.pool import Database

from wfe_approvals.bus import Bus
from wfe_approvals.previews import Previews
from wfe_approvals.usecases.act_on_gate import (
    claim_gate,
    delegate_gate,
    extend_gate,
    release_gate,
    remind_of_gate,
    withdraw_vote,
)
from wfe_approvals.usecases.decide_gate import bypass_gate, decide_approval, decide_gate
from wfe_approvals.usecases.decide_gates import decide_gates
from wfe_approvals.usecases.get_gate import get_gate
from wfe_approvals.usecases.keep_delegations import create_delegation, list_delegations, revoke_delegation
from wfe_approvals.usecases.list_gates import count_gates, list_gates
from wfe_approvals.usecases.preview_gate import preview_gate
from wfe_approvals.usecases.use_link_pages import answer_link, show_link
from wfe_approvals.usecases.use_links import decide_by_link, get_link, issue_link

# Methods are named by the proto.
# ruff: noqa: N802


class ApprovalServicer(approval_service_pb2_grpc.ApprovalServiceServicer):  # type: ignore[misc]
    """Gates: the inbox, decisions, and what people do before them."""

    def __init__(self, database: Database, gates: Gates, bus: Bus) -> None:
        self._gates = gates
        self._bus = bus
        self._links = Links(database)
        self._delegations = Delegations(database)
        self._previews = Previews(database)

    async def ApproveWorkflow(self, request: pb.ApproveWorkflowRequest, _context: object) -> workflow_pb2.Approval:
        """Approve an open gate."""
        return await decide_gate(self._gates, self._bus, current_caller(), request, outcome="approve")

    async def RejectWorkflow(self, request: pb.RejectWorkflowRequest, _context: object) -> workflow_pb2.Approval:
        """Reject an open gate."""
        return await decide_gate(self._gates, self._bus, current_caller(), request, outcome="reject")

    async def ListApprovals(self, request: pb.ListApprovalsRequest, _context: object) -> pb.ListApprovalsResponse:
        """The inbox."""
        return await list_gates(self._gates, self._delegations, current_caller(), request)

    async def GetApproval(self, request: pb.GetApprovalRequest, _context: object) -> workflow_pb2.Approval:
        """One gate."""
        return await get_gate(self._gates, current_caller(), request)

    async def CountApprovals(self, _request: pb.CountApprovalsRequest, _context: object) -> pb.CountApprovalsResponse:
        """How many there are."""
        return await count_gates(self._gates, self._delegations, current_caller())

    async def PreviewApproval(self, request: pb.PreviewApprovalRequest, _context: object) -> pb.ApprovalPreview:
        """What follows from each answer."""
        return await preview_gate(self._gates, self._previews, current_caller(), request)

    async def DecideApproval(self, request: pb.DecideApprovalRequest, _context: object) -> workflow_pb2.Approval:
        """Say approve, reject or revise."""
        return await decide_approval(self._gates, self._bus, current_caller(), request)

    async def DecideApprovals(self, request: pb.DecideApprovalsRequest, _context: object) -> pb.DecideApprovalsResponse:
        """Decide several."""
        return await decide_gates(self._gates, self._bus, current_caller(), request)

    async def WithdrawVote(self, request: pb.WithdrawVoteRequest, _context: object) -> workflow_pb2.Approval:
        """Take a vote back."""
        return await withdraw_vote(self._gates, self._bus, current_caller(), request)

    async def ClaimApproval(self, request: pb.ClaimApprovalRequest, _context: object) -> workflow_pb2.Approval:
        """Claim one."""
        return await claim_gate(self._gates, self._bus, current_caller(), request)

    async def ReleaseApproval(self, request: pb.ReleaseApprovalRequest, _context: object) -> workflow_pb2.Approval:
        """Release one."""
        return await release_gate(self._gates, self._bus, current_caller(), request)

    async def DelegateApproval(self, request: pb.DelegateApprovalRequest, _context: object) -> workflow_pb2.Approval:
        """Delegate one."""
        return await delegate_gate(self._gates, self._bus, current_caller(), request)

    async def ExtendApproval(self, request: pb.ExtendApprovalRequest, _context: object) -> workflow_pb2.Approval:
        """Extend one."""
        return await extend_gate(self._gates, self._bus, current_caller(), request)

    async def RemindApproval(self, request: pb.RemindApprovalRequest, _context: object) -> workflow_pb2.Approval:
        """Remind of one."""
        return await remind_of_gate(self._gates, self._bus, current_caller(), request)

    async def BypassApproval(self, request: pb.BypassApprovalRequest, _context: object) -> workflow_pb2.Approval:
        """Bypass one."""
        return await bypass_gate(self._gates, self._bus, current_caller(), request)

    async def IssueLink(self, request: pb.IssueLinkRequest, _context: object) -> pb.ApprovalLink:
        """Make a link."""
        return await issue_link(self._gates, self._links, self._bus, current_caller(), request)

    async def CreateDelegation(self, request: pb.CreateDelegationRequest, _context: object) -> pb.Delegation:
        """Delegate for a while."""
        return await create_delegation(self._delegations, self._links, current_caller(), request)

    async def ListDelegations(self, request: pb.ListDelegationsRequest, _context: object) -> pb.ListDelegationsResponse:
        """Who decides in whose place."""
        return await list_delegations(self._delegations, current_caller(), request)

    async def RevokeDelegation(self, request: pb.RevokeDelegationRequest, _context: object) -> pb.Delegation:
        """End a delegation."""
        return await revoke_delegation(self._delegations, current_caller(), request)


class LinkServicer(approval_service_pb2_grpc.LinkServiceServicer):  # type: ignore[misc]
    """One-time links; the token is the credential."""

    def __init__(self, database: Database, gates: Gates, bus: Bus) -> None:
        self._gates = gates
        self._bus = bus
        self._links = Links(database)

    async def GetLink(self, request: pb.GetLinkRequest, _context: object) -> workflow_pb2.Approval:
        """What a link is about."""
        return await get_link(self._gates, self._links, request)

    async def DecideByLink(self, request: pb.DecideByLinkRequest, _context: object) -> workflow_pb2.Approval:
        """Decide by it."""
        return await decide_by_link(self._gates, self._links, self._bus, request)

    async def ShowLink(self, request: pb.ShowLinkRequest, _context: object) -> HttpBody:
        """What a link is about, for people."""
        return await show_link(self._gates, self._links, request)

    async def AnswerLink(self, request: pb.AnswerLinkRequest, _context: object) -> HttpBody:
        """Decide by the page's form."""
        return await answer_link(self._gates, self._links, self._bus, request)
