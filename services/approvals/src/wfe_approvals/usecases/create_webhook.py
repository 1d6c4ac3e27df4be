"""Subscribe a URL to events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

from wfe.api.v1 import webhook_pb2
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_egress import EgressDenied
from wfe_engine.errors import InvalidInput
from wfe_language import ExpressionError
from wfe_servicekit.calls import Caller, http_status
from wfe_servicekit.checks import Violations, choice, plain_text
from wfe_store.webhooks import CLOCK_SECONDS, SURE_SECONDS, Webhook

from wfe_approvals.inputs import NAME_CHARACTERS
from wfe_approvals.webhook_mapping import webhook_of
from wfe_approvals.webhooks.outbound import Outbound, needed
from wfe_approvals.webhooks.signing import KINDS, fresh_key
from wfe_approvals.webhooks.wanted import filter_of, parse_types


async def create_webhook(outbound: Outbound, caller: Caller, request: pb.CreateWebhookRequest) -> webhook_pb2.Webhook:
    """Subscribe a URL, and answer once events are sure to be told. Answers 201, with the secret.

    Raises:
        InvalidInput: With everything wrong in the request; also a URL whose very text names an address inside.
        ResourceExhausted: The owner has too many.
        StateConflict: NO_SEAL_KEY.
    """
    faults = Violations()
    url, kind = request.url, "v1"
    event_types: tuple[str, ...] = ()
    with faults.collect():
        url = parse_url(outbound, request.url)
    with faults.collect():
        event_types = parse_types(request.event_types)
    with faults.collect():
        plain_text(request.name, "name", longest=NAME_CHARACTERS)
    with faults.collect():
        parse_filter(request.filter)
    with faults.collect():
        kind = choice(request.signature or "v1", "signature", KINDS)
    faults.raise_if_any()
    needed(outbound.sealer)
    fresh = fresh_key(kind)
    webhook_id = uuid4()
    wanted = Webhook(
        id=webhook_id,
        owner_id=caller.owner_id,
        name=request.name,
        url=url,
        event_types=event_types,
        filter=request.filter.strip(),
        ordered=request.ordered,
        version=1,
        active_from=None,
        failing_since=None,
        paused_until=None,
        disabled_at=None,
        disabled_reason="",
        created_by=caller.principal_id,
        created_at=datetime.now(UTC),
    )
    secret = outbound.seal(webhook_id, fresh)
    made = await outbound.webhooks.create(wanted, secret)
    await until_active(made)
    http_status(201)
    return webhook_of(made, [secret], secret=fresh.secret if kind == "v1" else "")


def parse_url(outbound: Outbound, text: str, field: str = "url") -> str:
    """A URL that may be called, as far as its text tells."""
    if not text:
        raise InvalidInput("is required: where events go", field=field)
    plain_text(text, field, longest=2_048)
    try:
        outbound.guard.check_url(text)
    except EgressDenied as denied:
        raise InvalidInput(f"may not be called: {denied}", field=field) from None
    return text


def parse_filter(source: str, field: str = "filter") -> None:
    """Check that a filter compiles; empty is none."""
    if source.strip():
        try:
            filter_of(source.strip())
        except ExpressionError as fault:
            raise InvalidInput(f"is not CEL over event: {fault.message}", field=field) from None


async def until_active(webhook: Webhook) -> None:
    """Wait until every event from now on is sure to be told; no longer than that takes."""
    if webhook.active_from is not None:
        left = (webhook.active_from - datetime.now(UTC)).total_seconds() + CLOCK_SECONDS
        await asyncio.sleep(min(max(left, 0.0), SURE_SECONDS + CLOCK_SECONDS))
