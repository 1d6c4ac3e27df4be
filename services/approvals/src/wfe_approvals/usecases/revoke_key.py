"""Revoke a key."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_store.keys import Keys

from wfe_approvals.inputs import parse_key_id
from wfe_approvals.mapping import key_of


async def revoke_key(keys: Keys, caller: Caller, request: pb.RevokeKeyRequest) -> pb.Key:
    """Revoke a key; it stops working everywhere within 5 seconds. Safe to repeat.

    Raises:
        InvalidInput: The id cannot be a key's.
        NotFound: The caller's owner has no such key.
    """
    return key_of(await keys.revoke(caller.owner_id, parse_key_id(request.id)))
