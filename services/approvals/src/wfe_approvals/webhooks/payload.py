"""What is told: CloudEvents 1.0 in their JSON format."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
from wfe_store.webhook_feed import Happened, Message
from wfe_store.webhooks import Webhook

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
#: Bytes an event's own data may have; what is larger is fetched from the run. The specification of Standard Webhooks
#: asks for small payloads.
MOST_DATA = 16 * 1024
#: Parts of an event's data that are the engine's own: where its state stood.
_INTERNAL = ("scopes", "next_no", "i", "scope")

_encode = msgspec.json.encode
_decode = msgspec.json.decode


def run_event(happened: Happened) -> tuple[Message, dict[str, Any]]:
    """The message about an event of a run, and the same as filters see it.

    Its id is made of the run and the event's number, so telling it twice gives the same message.
    """
    data: dict[str, Any]
    if len(happened.data) > MOST_DATA:
        data = {"omitted": f"{len(happened.data)} bytes; see /api/v1/workflows/{happened.run_id}/events"}
    else:
        data = {name: value for name, value in _decode(happened.data).items() if name not in _INTERNAL}
    event = _event(
        f"msg_{happened.run_id.hex}_{happened.seq}",
        happened.type,
        happened.at,
        happened.owner_id,
        {
            "workflow": {
                "id": str(happened.run_id),
                "template": {
                    "id": str(happened.template_id),
                    "name": happened.template_name,
                    "version": happened.template_version,
                },
                "labels": _decode(happened.labels),
            },
            "seq": happened.seq,
            "actor": happened.actor,
            "reason": happened.reason,
            "event": data,
        },
    )
    event["subject"] = f"workflows/{happened.run_id}"
    return _message(event, happened.run_id, happened.seq), event


def ping(webhook: Webhook) -> Message:
    """A test message."""
    return _message(
        _event(
            f"msg_{uuid.uuid4().hex}",
            "webhook.ping",
            datetime.now(UTC),
            webhook.owner_id,
            {"webhook": {"id": str(webhook.id), "name": webhook.name}},
        )
    )


def disabled(webhook: Webhook) -> tuple[Message, dict[str, Any]]:
    """The message that a subscription is told nothing any more, for the owner's others, and as filters see it."""
    facts = {"id": str(webhook.id), "name": webhook.name, "url": webhook.url, "reason": webhook.disabled_reason}
    moment = webhook.disabled_at or datetime.now(UTC)
    event = _event(f"msg_{uuid.uuid4().hex}", "webhook.disabled", moment, webhook.owner_id, {"webhook": facts})
    return _message(event), event


def _event(message_id: str, kind: str, at: datetime, owner_id: uuid.UUID, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": message_id,
        "source": f"/wfe/owners/{owner_id}",
        "type": kind,
        "time": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": data,
    }


def _message(event: dict[str, Any], run_id: uuid.UUID | None = None, seq: int = 0) -> Message:
    return Message(id=event["id"], type=event["type"], body=_encode(event).decode(), run_id=run_id, seq=seq)
