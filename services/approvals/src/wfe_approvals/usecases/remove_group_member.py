"""Take a principal out of a group."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, parse_uuid
from wfe_store.identity import Identity

from wfe_approvals.mapping import group_of


async def remove_group_member(identity: Identity, caller: Caller, request: pb.RemoveGroupMemberRequest) -> pb.Group:
    """Take a principal out of a group; no error when it is not in it.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound: The caller's owner has no such group.
    """
    faults = Violations()
    with faults.collect():
        group_id = parse_uuid(request.id, "id")
    with faults.collect():
        principal_id = parse_uuid(request.principal_id, "principal_id")
    faults.raise_if_any()
    return group_of(await identity.remove_member(caller.owner_id, group_id, principal_id))
