"""ApprovalService: one use case per method."""

from __future__ import annotations

from wfe.api.v1 import approval_service_pb2 as pb
from wfe.api.v1 import approval_service_pb2_grpc, workflow_pb2
from wfe_servicekit.calls import current_caller
from wfe_store.gates import Gates

from wfe_approvals.bus import Bus
from wfe_approvals.usecases.decide_gate import decide_gate
from wfe_approvals.usecases.get_gate import get_gate
from wfe_approvals.usecases.list_gates import list_gates


class ApprovalServicer(approval_service_pb2_grpc.ApprovalServiceServicer):  # type: ignore[misc]
    """Gates: the inbox, and decisions."""

    def __init__(self, gates: Gates, bus: Bus) -> None:
        self._gates = gates
        self._bus = bus

    async def ApproveWorkflow(  # noqa: N802 - named by the proto
        self, request: pb.ApproveWorkflowRequest, _context: object
    ) -> workflow_pb2.Approval:
        """Approve an open gate."""
        return await decide_gate(self._gates, self._bus, current_caller(), request, outcome="approve")

    async def RejectWorkflow(  # noqa: N802 - named by the proto
        self, request: pb.RejectWorkflowRequest, _context: object
    ) -> workflow_pb2.Approval:
        """Reject an open gate."""
        return await decide_gate(self._gates, self._bus, current_caller(), request, outcome="reject")

    async def ListApprovals(  # noqa: N802 - named by the proto
        self, request: pb.ListApprovalsRequest, _context: object
    ) -> pb.ListApprovalsResponse:
        """The inbox."""
        return await list_gates(self._gates, current_caller(), request)

    async def GetApproval(  # noqa: N802 - named by the proto
        self, request: pb.GetApprovalRequest, _context: object
    ) -> workflow_pb2.Approval:
        """One gate."""
        return await get_gate(self._gates, current_caller(), request)
