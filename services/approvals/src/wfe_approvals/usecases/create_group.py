"""Add a group."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.calls import Caller, http_status
from wfe_store.identity import Identity

from wfe_approvals.inputs import parse_name
from wfe_approvals.mapping import group_of


async def create_group(identity: Identity, caller: Caller, request: pb.CreateGroupRequest) -> pb.Group:
    """Add a group without members to the caller's owner. Answers 201.

    Raises:
        InvalidInput: The name cannot be one.
        AlreadyExists: The name is taken.
    """
    made = await identity.create_group(caller.owner_id, name=parse_name(request.name))
    http_status(201)
    return group_of(made)
