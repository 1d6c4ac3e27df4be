"""The inbox, and how much is in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from wfe.api.v1 import approval_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, choice, from_timestamp, page, parse_uuid, plain_text
from wfe_store.delegations import Delegations
from wfe_store.gate_policy import Decider
from wfe_store.gates import STATUSES, Asked, Gates

from wfe_approvals.approval_mapping import approval_of, decider_of
from wfe_approvals.inputs import NAME_CHARACTERS, RISKS


async def list_gates(
    gates: Gates, delegations: Delegations, caller: Caller, request: pb.ListApprovalsRequest
) -> pb.ListApprovalsResponse:
    """The owner's gates, oldest first, without payloads; the open ones unless a status is named.

    Raises:
        InvalidInput: With everything wrong in the request.
    """
    faults = Violations()
    run_id = due_before = None
    with faults.collect():
        status = choice(request.status or "open", "status", (*STATUSES, "all"))
    with faults.collect():
        run_id = parse_uuid(request.workflow_id, "workflow_id") if request.workflow_id else None
    with faults.collect():
        limit, offset = page(request.limit, request.offset)
    with faults.collect():
        choice(request.risk or "low", "risk", RISKS)
    with faults.collect():
        plain_text(request.template, "template", longest=NAME_CHARACTERS)
    with faults.collect():
        due_before = from_timestamp(request, "due_before")
    faults.raise_if_any()
    decider = decider_of(caller)
    asked = Asked(
        status=None if status == "all" else status,
        run_id=run_id,
        mine=decider if request.mine else None,
        risk=request.risk or None,
        template=request.template or None,
        due_before=due_before,
        claimed_by=caller.principal_id if request.claimed else None,
    )
    lent = await _lent(delegations, caller, decider) if request.mine else ()
    found = await gates.list(caller.owner_id, asked, seen_by=caller.principal_id, lent=lent, limit=limit, offset=offset)
    votes = await gates.votes(caller.owner_id, [gate.id for gate in found.items]) if found.items else {}
    return pb.ListApprovalsResponse(
        approvals=[approval_of(gate, decider, votes.get(gate.id, ()), show_votes=False) for gate in found.items],
        total=found.total,
        limit=limit,
        offset=offset,
    )


async def count_gates(gates: Gates, delegations: Delegations, caller: Caller) -> pb.CountApprovalsResponse:
    """How many gates wait, for the owner and for the caller."""
    decider = decider_of(caller)
    lent = await _lent(delegations, caller, decider)
    every = Asked(status="open")
    mine = replace(every, mine=decider)
    soon = datetime.now(UTC) + timedelta(days=1)
    counts = {
        "open": every,
        "mine": mine,
        "claimed": replace(every, claimed_by=caller.principal_id),
        "due": replace(mine, due_before=soon),
        "high_risk": replace(every, risk="high"),
    }
    return pb.CountApprovalsResponse(
        **{name: await gates.count(caller.owner_id, asked, lent=lent) for name, asked in counts.items()}
    )


async def _lent(delegations: Delegations, caller: Caller, decider: Decider) -> list[str]:
    """What of `gates.who` means those in whose place the caller may decide."""
    if not decider.tokens:
        return []
    lenders = await delegations.lenders(caller.owner_id, caller.principal_id)
    return sorted({token for lender in lenders for token in lender.tokens})
