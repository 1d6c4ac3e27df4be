"""HookService: one use case per method."""

from __future__ import annotations

from wfe.api.v1 import webhook_pb2, webhook_service_pb2_grpc
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import current_caller, header

from wfe_approvals.usecases.create_hook import create_hook
from wfe_approvals.usecases.manage_hooks import delete_hook, get_hook, list_hooks
from wfe_approvals.usecases.receive_hook import receive_hook
from wfe_approvals.webhooks.inbound import Inbound

# Methods are named by the proto.
# ruff: noqa: N802


class HookServicer(webhook_service_pb2_grpc.HookServiceServicer):  # type: ignore[misc]
    """Hooks of the caller's owner, and the calls they get."""

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound

    async def CreateHook(self, request: pb.CreateHookRequest, _context: object) -> webhook_pb2.Hook:
        """Make a hook."""
        return await create_hook(self._inbound, current_caller(), request)

    async def ListHooks(self, request: pb.ListHooksRequest, _context: object) -> pb.ListHooksResponse:
        """The owner's hooks."""
        return await list_hooks(self._inbound, current_caller(), request)

    async def GetHook(self, request: pb.GetHookRequest, _context: object) -> webhook_pb2.Hook:
        """One hook."""
        return await get_hook(self._inbound, current_caller(), request)

    async def DeleteHook(self, request: pb.DeleteHookRequest, _context: object) -> webhook_pb2.Hook:
        """Remove a hook."""
        return await delete_hook(self._inbound, current_caller(), request)

    async def ReceiveHook(self, request: pb.ReceiveHookRequest, _context: object) -> pb.HookReceipt:
        """A call of somebody whose signature is all that lets it in."""
        return await receive_hook(self._inbound, request, header)
