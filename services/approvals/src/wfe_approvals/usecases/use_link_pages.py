"""Links as people open them: a page to look at, and the answer of its form."""

from __future__ import annotations

from collections.abc import Awaitable
from urllib.parse import parse_qsl

from google.api.httpbody_pb2 import HttpBody
from wfe.api.v1 import approval_service_pb2 as pb
from wfe_engine.errors import InvalidInput, WfeError
from wfe_servicekit.calls import header, http_headers, http_status
from wfe_servicekit.statuses import http_status_of
from wfe_store.gate_links import Links
from wfe_store.gates import Gates

from wfe_approvals import link_page
from wfe_approvals.approval_mapping import approval_of
from wfe_approvals.bus import Bus
from wfe_approvals.edits import check_form
from wfe_approvals.usecases.use_links import decide_by_link, found_link, needs_session

FORM = "application/x-www-form-urlencoded"
#: Bytes of a form; a comment is the longest of what it has.
MOST_FORM = 64 * 1024
FIELDS = ("decision", "comment", "outcome", "reason_code")


async def show_link(gates: Gates, links: Links, request: pb.ShowLinkRequest) -> HttpBody:
    """What a link is about, as a page. Changes nothing.

    Raises:
        NotFound, StateConflict: As `get_link`, for callers that do not ask for a page.
    """
    return await _paged(_question(gates, links, request.token))


async def answer_link(gates: Gates, links: Links, bus: Bus, request: pb.AnswerLinkRequest) -> HttpBody:
    """Decide by the form of a page.

    Raises:
        InvalidInput, NotFound, PermissionDenied, StateConflict: As `decide_by_link`, for callers that do not ask for a
            page.
    """
    return await _paged(_answer(gates, links, bus, request))


async def _question(gates: Gates, links: Links, token: str) -> str:
    link, facts = await found_link(gates, links, token)
    gate = facts.gate
    approval = approval_of(gate, facts.decider, facts.votes)
    answers: list[str] = []
    why_not = ""
    if not approval.can_decide:
        why_not = approval.why_not
    elif gate.risk != "low":
        why_not = needs_session(link).message
    else:
        answers = ["approve", "reject"]
        if gate.round < gate.policy.max_rounds:
            answers.append("revise")
        try:
            check_form(gate, None)
        except InvalidInput:
            answers.remove("approve")
            why_not = "to approve it a form must be filled in; sign in and do it there"
    return link_page.question(approval, gate.present, link.person.name, answers, why_not)


async def _answer(gates: Gates, links: Links, bus: Bus, request: pb.AnswerLinkRequest) -> str:
    said = _form_of(request.body)
    decision = pb.DecideByLinkRequest(token=request.token, **said)
    return link_page.answered(await decide_by_link(gates, links, bus, decision))


def _form_of(body: HttpBody) -> dict[str, str]:
    if body.content_type.partition(";")[0].strip().lower() != FORM:
        raise InvalidInput(f"must be of the type {FORM}", field="body")
    if len(body.data) > MOST_FORM:
        raise InvalidInput(f"must have at most {MOST_FORM} bytes", field="body")
    try:
        pairs = parse_qsl(
            body.data.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=20
        )
    except ValueError:
        raise InvalidInput("is no form", field="body") from None
    found = dict(pairs)
    if len(found) < len(pairs) or not found.keys() <= set(FIELDS):
        raise InvalidInput(f"must have these fields, each once: {', '.join(FIELDS)}", field="body")
    # Browsers send line breaks as they were sent over telephones.
    return {name: value.replace("\r\n", "\n") for name, value in found.items()}


async def _paged(page: Awaitable[str]) -> HttpBody:
    try:
        html = await page
    except WfeError as fault:
        if "text/html" not in (header("accept") or ""):
            raise
        html = link_page.refused(fault)
        http_status(http_status_of(fault))
    http_headers(*link_page.HEADERS)
    return HttpBody(content_type="text/html; charset=utf-8", data=html.encode())
