"""Every table as SQLAlchemy metadata, for the queries that are put together: filtered lists.

The migrations make the tables; this only names them, and a test holds the two against each other. Keys,
indexes and checks are in the migrations alone.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from wfe_store import schema_gates as schema_gates
from wfe_store import schema_webhooks as schema_webhooks
from wfe_store.columns import METADATA as METADATA
from wfe_store.columns import MOMENT, TEXTS, may, must

owners = Table("owners", METADATA, must("id", Uuid), must("name", Text), must("created_at", MOMENT))

principals = Table(
    "principals",
    METADATA,
    must("id", Uuid),
    must("owner_id", Uuid),
    must("name", Text),
    must("kind", Text),
    must("roles", TEXTS),
    may("subject", Text),
    may("disabled_at", MOMENT),
    must("created_at", MOMENT),
    may("acts_for", Uuid),
)

groups = Table(
    "groups",
    METADATA,
    must("id", Uuid),
    must("owner_id", Uuid),
    must("name", Text),
    must("created_at", MOMENT),
)

group_members = Table("group_members", METADATA, must("group_id", Uuid), must("principal_id", Uuid))

api_keys = Table(
    "api_keys",
    METADATA,
    must("id", Text),
    must("owner_id", Uuid),
    must("principal_id", Uuid),
    must("name", Text),
    must("hash", LargeBinary),
    may("roles", TEXTS),
    must("created_at", MOMENT),
    may("expires_at", MOMENT),
    may("revoked_at", MOMENT),
    may("last_used_at", MOMENT),
    may("replaces", Text),
)

templates = Table(
    "templates",
    METADATA,
    must("id", Uuid),
    must("owner_id", Uuid),
    must("name", Text),
    must("draft", Text),
    must("latest_version", Integer),
    may("deprecated_at", MOMENT),
    must("created_at", MOMENT),
    must("updated_at", MOMENT),
)

template_versions = Table(
    "template_versions",
    METADATA,
    must("template_id", Uuid),
    must("version", Integer),
    must("name", Text),
    must("source", Text),
    must("published_by", Uuid),
    must("published_at", MOMENT),
    must("pins", Text),
)

runs = Table(
    "runs",
    METADATA,
    must("id", Uuid),
    must("owner_id", Uuid),
    must("template_id", Uuid),
    must("template_name", Text),
    must("template_version", Integer),
    must("status", Text),
    must("phase", Text),
    must("reason", Text),
    must("version", BigInteger),
    must("seq", Integer),
    must("epoch", Integer),
    must("state", Text),
    must("input", Text),
    may("output", Text),
    may("error", Text),
    must("labels", JSONB),
    must("trigger_type", Text),
    must("created_by", Uuid),
    may("forked_from", Uuid),
    may("forked_snapshot", Uuid),
    may("parent_run", Uuid),
    may("parent_no", Integer),
    may("start_at", MOMENT),
    must("created_at", MOMENT),
    may("started_at", MOMENT),
    must("updated_at", MOMENT),
    may("ended_at", MOMENT),
)

steps = Table(
    "steps",
    METADATA,
    must("run_id", Uuid),
    must("no", Integer),
    must("path", Text),
    must("scope", Text),
    must("iteration", Text),
    must("visit", Integer),
    must("kind", Text),
    must("status", Text),
    must("seq", Integer),
    must("attempts", Integer),
    must("max_attempts", Integer),
    must("lease_losses", Integer),
    may("input", Text),
    may("output", Text),
    may("error", Text),
    must("executor", Text),
    may("gate_id", Uuid),
    may("due_at", MOMENT),
    must("created_at", MOMENT),
    may("started_at", MOMENT),
    may("ended_at", MOMENT),
    may("undone_seq", Integer),
    may("undone_status", Text),
)

events = Table(
    "events",
    METADATA,
    must("run_id", Uuid),
    must("seq", Integer),
    must("at", MOMENT),
    must("type", Text),
    must("actor", Text),
    must("reason", Text),
    must("data", Text),
)

snapshots = Table(
    "snapshots",
    METADATA,
    must("run_id", Uuid),
    must("id", Uuid),
    must("seq", Integer),
    must("kind", Text),
    must("name", Text),
    must("state", Text),
    must("created_at", MOMENT),
)

executors = Table(
    "executors",
    METADATA,
    must("id", Text),
    must("name", Text),
    must("queues", TEXTS),
    must("handlers", TEXTS),
    must("lease_until", MOMENT),
    must("heartbeat_at", MOMENT),
    must("stopping", Boolean),
    must("started_at", MOMENT),
)

dispatch = Table(
    "dispatch",
    METADATA,
    must("run_id", Uuid),
    must("no", Integer),
    must("owner_id", Uuid),
    must("path", Text),
    must("scope", Text),
    must("iteration", Text),
    must("visit", Integer),
    must("epoch", Integer),
    must("kind", Text),
    must("queue", Text),
    must("priority", SmallInteger),
    must("request", Text),
    must("sealed", Boolean),
    must("attempt", Integer),
    must("max_attempts", Integer),
    must("clocks", Text),
    must("lease_losses", Integer),
    must("fence", BigInteger),
    must("available_at", MOMENT),
    must("held", Boolean),
    may("queue_deadline", MOMENT),
    may("total_deadline", MOMENT),
    may("executor_id", Text),
    may("leased_at", MOMENT),
    may("progress", Text),
    may("error", Text),
    must("created_at", MOMENT),
    may("approval_id", Uuid),
    must("digest", Text),
)

timers = Table("timers", METADATA, must("run_id", Uuid), must("no", Integer), must("due_at", MOMENT))

signals = Table(
    "signals",
    METADATA,
    must("run_id", Uuid),
    must("id", Uuid),
    must("name", Text),
    must("payload", Text),
    must("at", MOMENT),
)

children = Table(
    "children",
    METADATA,
    must("run_id", Uuid),
    must("no", Integer),
    must("child_id", Uuid),
    must("owner_id", Uuid),
    must("started_by", Uuid),
    must("wish", Text),
    must("request", Text),
    must("wished_at", MOMENT),
    must("done", Boolean),
    must("ended", Boolean),
)

idempotency = Table(
    "idempotency",
    METADATA,
    must("owner_id", Uuid),
    must("key", Text),
    must("request_hash", LargeBinary),
    must("run_id", Uuid),
    must("created_at", MOMENT),
)

sealed_values = Table(
    "sealed_values", METADATA, must("run_id", Uuid), must("name", Text), must("ciphertext", LargeBinary)
)

secrets = Table(
    "secrets",
    METADATA,
    must("owner_id", Uuid),
    must("name", Text),
    must("version", Integer),
    may("ciphertext", LargeBinary),
    must("created_by", Uuid),
    must("created_at", MOMENT),
    may("replaced_at", MOMENT),
)

blobs = Table(
    "blobs",
    METADATA,
    must("run_id", Uuid),
    must("id", Uuid),
    must("part", Integer),
    must("data", LargeBinary),
)

schedules = Table(
    "schedules",
    METADATA,
    must("id", Uuid),
    must("owner_id", Uuid),
    must("name", Text),
    must("template_id", Uuid),
    may("template_version", Integer),
    must("input", Text),
    must("labels", Text),
    must("cron", Text),
    must("time_zone", Text),
    must("overlap", Text),
    must("catch_up_seconds", Integer),
    must("revision", Integer),
    may("next_at", MOMENT),
    must("reckoned_at", MOMENT),
    may("paused_at", MOMENT),
    must("created_by", Uuid),
    must("starter", Uuid),
    must("created_at", MOMENT),
    must("updated_at", MOMENT),
)

schedule_firings = Table(
    "schedule_firings",
    METADATA,
    must("schedule_id", Uuid),
    must("at", MOMENT),
    must("status", Text),
    may("run_id", Uuid),
    must("reason", Text),
)

outbox = Table(
    "outbox",
    METADATA,
    must("id", BigInteger),
    must("run_id", Uuid),
    must("subject", Text),
    must("body", LargeBinary),
    must("at", MOMENT),
)

run_traces = Table("run_traces", METADATA, must("run_id", Uuid), must("traceparent", Text), must("created_at", MOMENT))

switches = Table(
    "switches", METADATA, must("name", Text), must("set_at", MOMENT), must("set_by", Text), must("reason", Text)
)
