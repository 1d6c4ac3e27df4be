"""The owner's keys."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, page, parse_uuid
from wfe_store.keys import Keys

from wfe_approvals.mapping import key_of


async def list_keys(keys: Keys, caller: Caller, request: pb.ListKeysRequest) -> pb.ListKeysResponse:
    """A page of the owner's keys without secrets, newest first.

    Raises:
        InvalidInput: With everything wrong in the request.
    """
    faults = Violations()
    principal_id = None
    with faults.collect():
        if request.principal_id:
            principal_id = parse_uuid(request.principal_id, "principal_id")
    with faults.collect():
        limit, offset = page(request.limit, request.offset)
    faults.raise_if_any()
    found = await keys.list(caller.owner_id, principal_id=principal_id, limit=limit, offset=offset)
    return pb.ListKeysResponse(keys=[key_of(key) for key in found.items], total=found.total, limit=limit, offset=offset)
