"""Make a new key of a webhook."""

from __future__ import annotations

from datetime import timedelta

from wfe.api.v1 import webhook_pb2
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import Caller, http_status
from wfe_servicekit.checks import Violations, parse_uuid

from wfe_approvals.inputs import parse_span
from wfe_approvals.webhook_mapping import webhook_of
from wfe_approvals.webhooks.outbound import Outbound
from wfe_approvals.webhooks.signing import fresh_key

DEFAULT_OVERLAP = 86_400
LONGEST_OVERLAP = 604_800


async def rotate_webhook_secret(
    outbound: Outbound, caller: Caller, request: pb.RotateWebhookSecretRequest
) -> webhook_pb2.Webhook:
    """Make a new key of the same kind; the old one signs too for the overlap. Answers 201, with the secret.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound: The caller's owner has no such webhook.
        StateConflict: NO_SEAL_KEY.
    """
    faults = Violations()
    asked = request.overlap_seconds if request.HasField("overlap_seconds") else DEFAULT_OVERLAP
    with faults.collect():
        webhook_id = parse_uuid(request.id, "id")
    with faults.collect():
        seconds = parse_span(asked, "overlap_seconds", longest=LONGEST_OVERLAP)
    faults.raise_if_any()
    webhook = await outbound.webhooks.get(caller.owner_id, webhook_id)
    secrets = (await outbound.webhooks.secrets([webhook.id])).get(webhook.id, ())
    fresh = fresh_key(secrets[0].kind if secrets else "v1")
    secret = outbound.seal(webhook_id, fresh)
    webhook = await outbound.webhooks.rotate(caller.owner_id, webhook_id, secret, overlap=timedelta(seconds=seconds))
    http_status(201)
    return webhook_of(webhook, [secret], secret=fresh.secret if fresh.kind == "v1" else "")
