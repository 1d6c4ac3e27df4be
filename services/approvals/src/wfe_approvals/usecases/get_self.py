"""Who the caller is."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_store.identity import Identity

from wfe_approvals.inputs import ROLES_IN_ORDER
from wfe_approvals.mapping import principal_of


async def get_self(identity: Identity, caller: Caller) -> pb.Principal:
    """The caller's principal, with the roles and groups of the key or token in use: what it may do now."""
    message = principal_of(await identity.get_principal(caller.owner_id, caller.principal_id))
    message.roles[:] = [role for role in ROLES_IN_ORDER if role in caller.roles]
    message.groups[:] = sorted(caller.groups)
    return message
