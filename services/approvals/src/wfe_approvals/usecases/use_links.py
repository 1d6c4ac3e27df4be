"""One-time links: made for a person, shown to anybody who has them, good for one decision."""

from __future__ import annotations

from datetime import timedelta

from wfe.api.v1 import approval_service_pb2 as pb
from wfe.api.v1 import workflow_pb2
from wfe_engine.errors import InvalidInput, NotFound, PermissionDenied, StateConflict, WfeError
from wfe_servicekit.calls import Caller, http_status
from wfe_servicekit.checks import Violations, choice, parse_uuid, plain_text, timestamp
from wfe_store.gate_links import Link, Links
from wfe_store.gate_votes import Facts
from wfe_store.gates import Ballot, Gates

from wfe_approvals.approval_mapping import approval_of, decider_of
from wfe_approvals.bus import Bus
from wfe_approvals.inputs import DECISIONS, NAME_CHARACTERS, WORD_CHARACTERS, parse_span
from wfe_approvals.usecases.decide_gate import check_said, form_check
from wfe_approvals.usecases.view_gate import view_decided

DAY = 86_400
MOST_DAYS = 30


async def issue_link(
    gates: Gates, links: Links, bus: Bus, caller: Caller, request: pb.IssueLinkRequest
) -> pb.ApprovalLink:
    """Make a link, for the caller or, by an admin, for another. Answers 201.

    Raises:
        InvalidInput: With everything wrong in the request; or the one it is for could not decide with it.
        PermissionDenied: It is for another and the caller is no admin: whoever holds it decides in that one's name.
        NotFound, StateConflict: About the gate.
    """
    faults = Violations()
    with faults.collect():
        gate_id = parse_uuid(request.approval_id, "approval_id")
    with faults.collect():
        plain_text(request.to, "to", longest=NAME_CHARACTERS)
    with faults.collect():
        parse_span(request.expires_in_seconds, "expires_in_seconds", longest=MOST_DAYS * DAY)
    faults.raise_if_any()
    me = decider_of(caller)
    if request.to not in ("", caller.principal) and "admin" not in caller.roles:
        raise PermissionDenied("only an admin makes links for others", reason="ROLE_REQUIRED", roles="admin")
    try:
        person = await links.person(caller.owner_id, request.to or caller.principal)
    except NotFound as fault:
        raise InvalidInput(fault.message, field="to") from None
    facts = await gates.facts(caller.owner_id, gate_id, person)
    refusal = facts.gate.refusal(person)
    if isinstance(refusal, PermissionDenied):
        raise InvalidInput(f"could not decide it: {refusal.message}", field="to")
    if refusal is not None:
        raise refusal
    lasts = timedelta(seconds=request.expires_in_seconds or DAY)
    link_id, token, expires_at = await links.issue(
        caller.owner_id, gate_id, facts.gate.run_id, to=person.principal_id, digest=facts.gate.digest,
        by=caller.principal_id, lasts=lasts,
    )  # fmt: skip
    noted = await gates.note(
        caller.owner_id, facts, me, "link_issued", {"link": str(link_id), "to": person.name}
    )  # fmt: skip
    if noted.decision is not None:
        await bus.tell([noted.decision])
    http_status(201)
    return pb.ApprovalLink(
        id=str(link_id), path=f"/api/v1/links/{token}", to=person.name, expires_at=timestamp(expires_at)
    )


async def get_link(gates: Gates, links: Links, request: pb.GetLinkRequest) -> workflow_pb2.Approval:
    """What a link is about. Changes nothing: scanners and previews of chats look at links before people do.

    Raises:
        NotFound: There is no such link.
        StateConflict: It does not work any more.
    """
    link, facts = await found_link(gates, links, request.token)
    message = approval_of(facts.gate, facts.decider, facts.votes)
    if message.can_decide and facts.gate.risk != "low":
        fault = needs_session(link)
        message.can_decide, message.why_not, message.why_not_reason = False, fault.message, fault.reason
    return message


async def decide_by_link(
    gates: Gates, links: Links, bus: Bus, request: pb.DecideByLinkRequest
) -> workflow_pb2.Approval:
    """Decide by a link, in the name of the one it is for.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound: There is no such link.
        PermissionDenied: The gate wants more than a link.
        StateConflict: It does not work any more.
    """
    faults = Violations()
    with faults.collect():
        choice(request.decision, "decision", DECISIONS)
    check_said(faults, request.comment, "")
    for field in ("outcome", "reason_code"):
        with faults.collect():
            plain_text(getattr(request, field), field, longest=WORD_CHARACTERS)
    faults.raise_if_any()
    link, facts = await found_link(gates, links, request.token, used_for=request.decision)
    if link.used_for:  # the same again
        return approval_of(facts.gate, facts.decider, facts.votes)
    try:
        if facts.gate.risk != "low":
            raise needs_session(link)
        ballot = Ballot(
            vote=request.decision,
            outcome=request.outcome,
            comment=request.comment,
            reason_code=request.reason_code,
            expected_digest=link.digest,
            check=form_check(None) if request.decision == "approve" else None,
            via="link",
            link=link.hash,
        )
        decided = await gates.decide(link.owner_id, link.run_id, link.gate_id, decider=link.person, ballot=ballot)
    except PermissionDenied as refusal:
        await _refused(gates, bus, link, facts, refusal)
        raise
    if decided.decision is not None:
        await bus.tell([decided.decision])
    return view_decided(decided, link.person)


async def found_link(gates: Gates, links: Links, token: str, used_for: str = "") -> tuple[Link, Facts]:
    """A link that works, and what its person would be judged by.

    Args:
        used_for: The decision it may have been used for already.

    Raises:
        NotFound: There is no such link.
        StateConflict: It does not work any more.
    """
    link = await links.find(token)
    facts = await gates.facts(link.owner_id, link.gate_id, link.person)
    if link.used_for:
        if link.used_for == used_for:
            return link, facts
        raise StateConflict("the link was used", reason="LINK_USED", link_id=link.id)
    dead = facts.gate.closed() or link.dead(facts.gate.digest)
    if dead is not None:
        raise dead
    return link, facts


async def _refused(gates: Gates, bus: Bus, link: Link, facts: Facts, refusal: WfeError) -> None:
    noted = await gates.note(
        link.owner_id, facts, link.person, "link_refused", {"link": str(link.id), "reason": refusal.reason}
    )
    if noted.decision is not None:
        await bus.tell([noted.decision])


def needs_session(link: Link) -> PermissionDenied:
    """That the gate wants more than a link."""
    return PermissionDenied(
        "a link decides gates of low risk; sign in and decide this one there",
        reason="LINK_NEEDS_SESSION",
        approval_id=link.gate_id,
    )
