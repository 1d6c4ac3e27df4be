"""Standing delegations: who decides in whose place, for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from wfe.api.v1 import approval_service_pb2 as pb
from wfe_engine.errors import InvalidInput, NotFound, PermissionDenied
from wfe_servicekit.calls import Caller, http_status
from wfe_servicekit.checks import Violations, from_timestamp, page, parse_uuid, plain_text, timestamp
from wfe_store.delegations import Delegation, Delegations
from wfe_store.gate_links import Links
from wfe_store.gate_policy import Decider

from wfe_approvals.inputs import COMMENT_CHARACTERS, NAME_CHARACTERS

LONGEST = timedelta(days=366)


async def create_delegation(
    delegations: Delegations, people: Links, caller: Caller, request: pb.CreateDelegationRequest
) -> pb.Delegation:
    """Let somebody decide in the caller's place, or, by an admin, in another's. Answers 201.

    Raises:
        InvalidInput: With everything wrong in the request.
        PermissionDenied: It is another's place and the caller is no admin.
    """
    faults = Violations()
    starts = ends = None
    for field, shortest in (("delegate", 1), ("delegator", 0)):
        with faults.collect():
            plain_text(getattr(request, field), field, longest=NAME_CHARACTERS, shortest=shortest)
    with faults.collect():
        plain_text(request.reason, "reason", longest=COMMENT_CHARACTERS, line_breaks=True)
    with faults.collect():
        starts = from_timestamp(request, "starts_at")
    with faults.collect():
        ends = from_timestamp(request, "ends_at")
        begins = starts or datetime.now(UTC)
        if ends is None:
            faults.add("ends_at", "is required")
        elif not max(begins, datetime.now(UTC)) < ends <= begins + LONGEST:
            faults.add("ends_at", "must be later than the beginning, by a year at most, and not have passed")
    faults.raise_if_any()
    assert ends is not None
    if request.delegator not in ("", caller.principal) and "admin" not in caller.roles:
        raise PermissionDenied("only an admin delegates for others", reason="ROLE_REQUIRED", roles="admin")
    delegator = await _named(people, caller, request.delegator or caller.principal, "delegator")
    delegate = await _named(people, caller, request.delegate, "delegate")
    if delegator.principal_id == delegate.principal_id:
        raise InvalidInput("is the same person", field="delegate")
    made = await delegations.create(
        caller.owner_id, delegator=delegator.principal_id, delegate=delegate.principal_id, starts_at=starts,
        ends_at=ends, reason=request.reason, by=caller.principal_id,
    )  # fmt: skip
    http_status(201)
    return _message(made)


async def list_delegations(
    delegations: Delegations, caller: Caller, request: pb.ListDelegationsRequest
) -> pb.ListDelegationsResponse:
    """Delegations from and to the caller; everybody's for an admin."""
    limit, offset = page(request.limit, request.offset)
    of = None if "admin" in caller.roles else caller.principal_id
    found = await delegations.list(caller.owner_id, of=of, everything=request.all, limit=limit, offset=offset)
    return pb.ListDelegationsResponse(
        delegations=[_message(one) for one in found.items], total=found.total, limit=limit, offset=offset
    )


async def revoke_delegation(
    delegations: Delegations, caller: Caller, request: pb.RevokeDelegationRequest
) -> pb.Delegation:
    """End a delegation.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: There is no such delegation of the caller's.
    """
    delegation_id = parse_uuid(request.id, "id")
    return _message(
        await delegations.revoke(caller.owner_id, delegation_id, by=caller.principal_id, admin="admin" in caller.roles)
    )


async def _named(people: Links, caller: Caller, name: str, field: str) -> Decider:
    try:
        return await people.person(caller.owner_id, name)
    except NotFound as fault:
        raise InvalidInput(fault.message, field=field) from None


def _message(one: Delegation) -> pb.Delegation:
    return pb.Delegation(
        id=str(one.id),
        delegator=one.delegator,
        delegate=one.delegate,
        approval_id=str(one.gate_id or ""),
        reason=one.reason,
        starts_at=timestamp(one.starts_at),
        ends_at=timestamp(one.ends_at),
        revoked_at=timestamp(one.revoked_at),
    )
