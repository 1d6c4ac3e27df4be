"""Make an API key."""

from __future__ import annotations

from datetime import timedelta

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_engine.errors import InvalidInput
from wfe_servicekit.auth import new_key
from wfe_servicekit.calls import Caller, http_status
from wfe_servicekit.checks import Violations, parse_uuid, plain_text
from wfe_store.identity import Identity
from wfe_store.keys import Fresh, Keys

from wfe_approvals.inputs import NAME_CHARACTERS, parse_roles, parse_span
from wfe_approvals.mapping import key_of

#: Ten years; a key that shall live longer is one without an end.
LONGEST_LIFE = 10 * 366 * 86_400


async def create_key(identity: Identity, keys: Keys, caller: Caller, request: pb.CreateKeyRequest) -> pb.Key:
    """Make a key of a principal, the caller's own unless said otherwise. Answers 201, with the whole key.

    Raises:
        InvalidInput: With everything wrong in the request; also roles the principal does not have.
        NotFound: The caller's owner has no such principal.
    """
    faults = Violations()
    principal_id = caller.principal_id
    with faults.collect():
        if request.principal_id:
            principal_id = parse_uuid(request.principal_id, "principal_id")
    with faults.collect():
        plain_text(request.name, "name", longest=NAME_CHARACTERS)
    with faults.collect():
        roles = parse_roles(request.roles)
    with faults.collect():
        seconds = parse_span(request.expires_in_seconds, "expires_in_seconds", longest=LONGEST_LIFE)
    faults.raise_if_any()
    principal = await identity.get_principal(caller.owner_id, principal_id)
    if lacking := [role for role in roles if role not in principal.roles]:
        raise InvalidInput(f"{principal.name} does not have the role {', '.join(lacking)}", field="roles")
    fresh = new_key()
    made = await keys.create(
        caller.owner_id,
        principal_id,
        Fresh(fresh.key_id, fresh.hash),
        name=request.name,
        roles=roles or None,
        lifetime=timedelta(seconds=seconds) if seconds else None,
    )
    http_status(201)
    return key_of(made, secret=fresh.text)
