"""The owner's groups."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import page
from wfe_store.identity import Identity

from wfe_approvals.mapping import group_of


async def list_groups(identity: Identity, caller: Caller, request: pb.ListGroupsRequest) -> pb.ListGroupsResponse:
    """A page of the owner's groups with their members, by name.

    Raises:
        InvalidInput: Limit or offset is wrong.
    """
    limit, offset = page(request.limit, request.offset)
    found = await identity.list_groups(caller.owner_id, limit=limit, offset=offset)
    return pb.ListGroupsResponse(
        groups=[group_of(group) for group in found.items], total=found.total, limit=limit, offset=offset
    )
