"""Webhooks, deliveries and hooks as public messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from wfe.api.v1 import webhook_pb2
from wfe_servicekit.checks import dict_to_struct, timestamp
from wfe_store.deliveries import Delivery
from wfe_store.hooks import Hook
from wfe_store.webhooks import Webhook, WebhookSecret

_decode = msgspec.json.decode


def webhook_of(webhook: Webhook, secrets: Sequence[WebhookSecret], *, secret: str = "") -> webhook_pb2.Webhook:
    """A webhook; with its secret in the one answer that made it.

    Args:
        webhook: The webhook.
        secrets: Its keys, newest first.
        secret: The newest as text, of v1.
    """
    newest = secrets[0] if secrets else None
    return webhook_pb2.Webhook(
        id=str(webhook.id),
        name=webhook.name,
        url=webhook.url,
        event_types=webhook.event_types,
        filter=webhook.filter,
        ordered=webhook.ordered,
        status="enabled" if webhook.disabled_at is None else "disabled",
        disabled_reason=webhook.disabled_reason,
        disabled_at=timestamp(webhook.disabled_at),
        active_from=timestamp(webhook.active_from),
        failing_since=timestamp(webhook.failing_since),
        paused_until=timestamp(webhook.paused_until),
        created_by=str(webhook.created_by),
        created_at=timestamp(webhook.created_at),
        signature=newest.kind if newest else "v1",
        public_key=newest.public_key if newest else "",
        secret=secret,
    )


def delivery_of(delivery: Delivery) -> webhook_pb2.Delivery:
    """A delivery, with whatever of it was read."""
    return webhook_pb2.Delivery(
        id=str(delivery.id),
        webhook_id=str(delivery.webhook_id),
        message_id=delivery.message_id,
        type=delivery.type,
        workflow_id=str(delivery.run_id or ""),
        status=delivery.status,
        attempts=delivery.attempts,
        created_at=timestamp(delivery.created_at),
        first_at=timestamp(delivery.first_at),
        ended_at=timestamp(delivery.ended_at),
        next_at=timestamp(delivery.next_at) if delivery.status == "pending" else None,
        log=[_attempt_of(_decode(entry)) for entry in delivery.log],
        event=dict_to_struct(_decode(delivery.body)) if delivery.body else None,
    )


def _attempt_of(entry: dict[str, Any]) -> webhook_pb2.DeliveryAttempt:
    return webhook_pb2.DeliveryAttempt(
        at=timestamp(datetime.fromtimestamp(entry["at"], UTC)),
        duration_ms=entry["ms"],
        url=entry["url"],
        request_headers=entry["sent"],
        status=entry["status"],
        response_headers=entry["headers"],
        response_body=entry["body"],
        error=entry["error"],
    )


def hook_of(hook: Hook, *, secret: str = "") -> webhook_pb2.Hook:
    """A hook; with its secret in the one answer that made it."""
    return webhook_pb2.Hook(
        id=str(hook.id),
        name=hook.name,
        scheme=hook.scheme,
        template_id=str(hook.template_id or ""),
        version=hook.version,
        signal=hook.signal,
        workflow=hook.workflow,
        filter=hook.filter,
        input=hook.input,
        path=f"/api/v1/hooks/{hook.id}",
        secret=secret,
        created_by=str(hook.created_by),
        created_at=timestamp(hook.created_at),
    )
