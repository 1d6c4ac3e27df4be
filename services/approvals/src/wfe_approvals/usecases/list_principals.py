"""The owner's principals."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import page
from wfe_store.identity import Identity

from wfe_approvals.mapping import principal_of


async def list_principals(
    identity: Identity, caller: Caller, request: pb.ListPrincipalsRequest
) -> pb.ListPrincipalsResponse:
    """A page of the owner's principals, by name.

    Raises:
        InvalidInput: Limit or offset is wrong.
    """
    limit, offset = page(request.limit, request.offset)
    found = await identity.list_principals(caller.owner_id, limit=limit, offset=offset)
    return pb.ListPrincipalsResponse(
        principals=[principal_of(principal) for principal in found.items],
        total=found.total,
        limit=limit,
        offset=offset,
    )
