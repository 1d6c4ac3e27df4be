"""Add a person, an agent or a service account."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.calls import Caller, http_status
from wfe_servicekit.checks import Violations, choice, parse_uuid
from wfe_store.identity import Identity

from wfe_approvals.inputs import KINDS, parse_name, parse_roles, parse_subject
from wfe_approvals.mapping import principal_of


async def create_principal(identity: Identity, caller: Caller, request: pb.CreatePrincipalRequest) -> pb.Principal:
    """Add a principal to the caller's owner; a person unless said otherwise. Answers 201.

    Raises:
        InvalidInput: With everything wrong in the request.
        AlreadyExists: The name or the subject is taken.
    """
    faults = Violations()
    with faults.collect():
        name = parse_name(request.name)
    with faults.collect():
        kind = choice(request.kind or "person", "kind", KINDS)
    with faults.collect():
        roles = parse_roles(request.roles)
    with faults.collect():
        subject = parse_subject(request.subject)
    acts_for = None
    with faults.collect():
        acts_for = parse_uuid(request.acts_for, "acts_for") if request.acts_for else None
    if acts_for is not None and request.kind in ("", "person"):
        faults.add("acts_for", "is for agents and service accounts: a person acts for itself")
    faults.raise_if_any()
    made = await identity.create_principal(
        caller.owner_id, name=name, kind=kind, roles=roles, subject=subject, acts_for=acts_for
    )
    http_status(201)
    return principal_of(made)
