"""The tables of webhooks and hooks; see `wfe_store.schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, Table, Text, Uuid

from wfe_store.columns import METADATA, MOMENT, TEXTS, may, must

webhooks = Table(
    "webhooks",
    METADATA,
    must("id", Uuid),
    must("owner_id", Uuid),
    must("name", Text),
    must("url", Text),
    must("event_types", TEXTS),
    must("filter", Text),
    must("ordered", Boolean),
    must("version", Integer),
    may("active_from", MOMENT),
    may("failing_since", MOMENT),
    may("paused_until", MOMENT),
    may("disabled_at", MOMENT),
    must("disabled_reason", Text),
    must("created_by", Uuid),
    must("created_at", MOMENT),
)

webhook_secrets = Table(
    "webhook_secrets",
    METADATA,
    must("webhook_id", Uuid),
    must("id", Uuid),
    must("kind", Text),
    must("ciphertext", LargeBinary),
    must("public_key", Text),
    must("created_at", MOMENT),
    may("expires_at", MOMENT),
)

webhook_outbox = Table(
    "webhook_outbox",
    METADATA,
    must("id", BigInteger),
    must("owner_id", Uuid),
    must("run_id", Uuid),
    must("first_seq", Integer),
    must("last_seq", Integer),
)

webhook_messages = Table(
    "webhook_messages",
    METADATA,
    must("id", Text),
    must("owner_id", Uuid),
    must("type", Text),
    may("run_id", Uuid),
    must("seq", Integer),
    must("body", Text),
    must("created_at", MOMENT),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    METADATA,
    must("id", Uuid),
    must("owner_id", Uuid),
    must("webhook_id", Uuid),
    must("message_id", Text),
    may("run_id", Uuid),
    must("seq", Integer),
    must("status", Text),
    must("held", Boolean),
    must("unfiltered", Boolean),
    must("attempts", Integer),
    must("claim", Integer),
    must("next_at", MOMENT),
    must("created_at", MOMENT),
    may("first_at", MOMENT),
    may("ended_at", MOMENT),
    must("log", TEXTS),
)

hooks = Table(
    "hooks",
    METADATA,
    must("id", Uuid),
    must("owner_id", Uuid),
    must("name", Text),
    must("scheme", Text),
    may("template_id", Uuid),
    may("version", Integer),
    must("signal", Text),
    must("workflow", Text),
    must("filter", Text),
    must("input", Text),
    must("secret", LargeBinary),
    must("created_by", Uuid),
    must("created_at", MOMENT),
)

hook_receipts = Table(
    "hook_receipts",
    METADATA,
    must("hook_id", Uuid),
    must("message_id", Text),
    must("status", Text),
    may("run_id", Uuid),
    must("received_at", MOMENT),
)
