"""Look at hooks, and remove them."""

from __future__ import annotations

from wfe.api.v1 import webhook_pb2
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import page, parse_uuid

from wfe_approvals.webhook_mapping import hook_of
from wfe_approvals.webhooks.inbound import Inbound


async def list_hooks(inbound: Inbound, caller: Caller, request: pb.ListHooksRequest) -> pb.ListHooksResponse:
    """A page of the owner's hooks without secrets, oldest first.

    Raises:
        InvalidInput: Limit or offset is wrong.
    """
    limit, offset = page(request.limit, request.offset)
    found = await inbound.hooks.list(caller.owner_id, limit=limit, offset=offset)
    return pb.ListHooksResponse(
        hooks=[hook_of(hook) for hook in found.items], total=found.total, limit=limit, offset=offset
    )


async def get_hook(inbound: Inbound, caller: Caller, request: pb.GetHookRequest) -> webhook_pb2.Hook:
    """One hook, without its secret.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: The caller's owner has no such hook.
    """
    return hook_of(await inbound.hooks.get(caller.owner_id, parse_uuid(request.id, "id")))


async def delete_hook(inbound: Inbound, caller: Caller, request: pb.DeleteHookRequest) -> webhook_pb2.Hook:
    """Remove a hook; gives it as it was.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: The caller's owner has no such hook.
    """
    return hook_of(await inbound.hooks.delete(caller.owner_id, parse_uuid(request.id, "id")))
