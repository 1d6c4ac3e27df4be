"""Every table as SQLAlchemy metadata, for the queries that are put together: filtered lists.

The migrations make the tables; this only names them, and a test holds the two against each other. Keys,
indexes and checks are in the migrations alone.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

METADATA = MetaData()

_MOMENT = TIMESTAMP(timezone=True)
_TEXTS = ARRAY(Text)


def _must(name: str, kind: type[TypeEngine[Any]] | TypeEngine[Any]) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _may(name: str, kind: type[TypeEngine[Any]] | TypeEngine[Any]) -> Column[Any]:
    return Column(name, kind, nullable=True)


owners = Table("owners", METADATA, _must("id", Uuid), _must("name", Text), _must("created_at", _MOMENT))

principals = Table(
    "principals",
    METADATA,
    _must("id", Uuid),
    _must("owner_id", Uuid),
    _must("name", Text),
    _must("kind", Text),
    _must("roles", _TEXTS),
    _may("subject", Text),
    _may("disabled_at", _MOMENT),
    _must("created_at", _MOMENT),
)

groups = Table(
    "groups",
    METADATA,
    _must("id", Uuid),
    _must("owner_id", Uuid),
    _must("name", Text),
    _must("created_at", _MOMENT),
)

group_members = Table("group_members", METADATA, _must("group_id", Uuid), _must("principal_id", Uuid))

api_keys = Table(
    "api_keys",
    METADATA,
    _must("id", Text),
    _must("owner_id", Uuid),
    _must("principal_id", Uuid),
    _must("name", Text),
    _must("hash", LargeBinary),
    _may("roles", _TEXTS),
    _must("created_at", _MOMENT),
    _may("expires_at", _MOMENT),
    _may("revoked_at", _MOMENT),
    _may("last_used_at", _MOMENT),
    _may("replaces", Text),
)

templates = Table(
    "templates",
    METADATA,
    _must("id", Uuid),
    _must("owner_id", Uuid),
    _must("name", Text),
    _must("draft", Text),
    _must("latest_version", Integer),
    _may("deprecated_at", _MOMENT),
    _must("created_at", _MOMENT),
    _must("updated_at", _MOMENT),
)

template_versions = Table(
    "template_versions",
    METADATA,
    _must("template_id", Uuid),
    _must("version", Integer),
    _must("name", Text),
    _must("source", Text),
    _must("published_by", Uuid),
    _must("published_at", _MOMENT),
    _must("pins", Text),
)

runs = Table(
    "runs",
    METADATA,
    _must("id", Uuid),
    _must("owner_id", Uuid),
    _must("template_id", Uuid),
    _must("template_name", Text),
    _must("template_version", Integer),
    _must("status", Text),
    _must("phase", Text),
    _must("reason", Text),
    _must("version", BigInteger),
    _must("seq", Integer),
    _must("epoch", Integer),
    _must("state", Text),
    _must("input", Text),
    _may("output", Text),
    _may("error", Text),
    _must("labels", JSONB),
    _must("trigger_type", Text),
    _must("created_by", Uuid),
    _may("forked_from", Uuid),
    _may("forked_snapshot", Uuid),
    _may("parent_run", Uuid),
    _may("parent_no", Integer),
    _may("start_at", _MOMENT),
    _must("created_at", _MOMENT),
    _may("started_at", _MOMENT),
    _must("updated_at", _MOMENT),
    _may("ended_at", _MOMENT),
)

steps = Table(
    "steps",
    METADATA,
    _must("run_id", Uuid),
    _must("no", Integer),
    _must("path", Text),
    _must("scope", Text),
    _must("iteration", Text),
    _must("visit", Integer),
    _must("kind", Text),
    _must("status", Text),
    _must("seq", Integer),
    _must("attempts", Integer),
    _must("max_attempts", Integer),
    _must("lease_losses", Integer),
    _may("input", Text),
    _may("output", Text),
    _may("error", Text),
    _must("executor", Text),
    _may("gate_id", Uuid),
    _may("due_at", _MOMENT),
    _must("created_at", _MOMENT),
    _may("started_at", _MOMENT),
    _may("ended_at", _MOMENT),
)

events = Table(
    "events",
    METADATA,
    _must("run_id", Uuid),
    _must("seq", Integer),
    _must("at", _MOMENT),
    _must("type", Text),
    _must("actor", Text),
    _must("reason", Text),
    _must("data", Text),
)

snapshots = Table(
    "snapshots",
    METADATA,
    _must("run_id", Uuid),
    _must("id", Uuid),
    _must("seq", Integer),
    _must("kind", Text),
    _must("name", Text),
    _must("state", Text),
    _must("created_at", _MOMENT),
)

executors = Table(
    "executors",
    METADATA,
    _must("id", Text),
    _must("name", Text),
    _must("queues", _TEXTS),
    _must("handlers", _TEXTS),
    _must("lease_until", _MOMENT),
    _must("heartbeat_at", _MOMENT),
    _must("stopping", Boolean),
    _must("started_at", _MOMENT),
)

dispatch = Table(
    "dispatch",
    METADATA,
    _must("run_id", Uuid),
    _must("no", Integer),
    _must("owner_id", Uuid),
    _must("path", Text),
    _must("scope", Text),
    _must("iteration", Text),
    _must("visit", Integer),
    _must("epoch", Integer),
    _must("kind", Text),
    _must("queue", Text),
    _must("priority", SmallInteger),
    _must("request", Text),
    _must("sealed", Boolean),
    _must("attempt", Integer),
    _must("max_attempts", Integer),
    _must("clocks", Text),
    _must("lease_losses", Integer),
    _must("fence", BigInteger),
    _must("available_at", _MOMENT),
    _must("held", Boolean),
    _may("queue_deadline", _MOMENT),
    _may("total_deadline", _MOMENT),
    _may("executor_id", Text),
    _may("leased_at", _MOMENT),
    _may("progress", Text),
    _may("error", Text),
    _must("created_at", _MOMENT),
)

timers = Table("timers", METADATA, _must("run_id", Uuid), _must("no", Integer), _must("due_at", _MOMENT))

gates = Table(
    "gates",
    METADATA,
    _must("id", Uuid),
    _must("run_id", Uuid),
    _must("no", Integer),
    _must("owner_id", Uuid),
    _must("path", Text),
    _must("iteration", Text),
    _must("status", Text),
    _must("title", Text),
    _must("body", Text),
    _may("payload", Text),
    _must("policy", Text),
    _must("digest", Text),
    _must("started_by", Uuid),
    _may("replaces", Uuid),
    _must("created_at", _MOMENT),
    _may("expires_at", _MOMENT),
    _must("on_expiry", Text),
    _may("held_at", _MOMENT),
    _may("decided_at", _MOMENT),
    _may("decided_by", Uuid),
    _may("outcome", Text),
    _must("comment", Text),
    _may("told_at", _MOMENT),
)

signals = Table(
    "signals",
    METADATA,
    _must("run_id", Uuid),
    _must("id", Uuid),
    _must("name", Text),
    _must("payload", Text),
    _must("at", _MOMENT),
)

children = Table(
    "children",
    METADATA,
    _must("run_id", Uuid),
    _must("no", Integer),
    _must("child_id", Uuid),
    _must("owner_id", Uuid),
    _must("started_by", Uuid),
    _must("wish", Text),
    _must("request", Text),
    _must("wished_at", _MOMENT),
    _must("done", Boolean),
    _must("ended", Boolean),
)

idempotency = Table(
    "idempotency",
    METADATA,
    _must("owner_id", Uuid),
    _must("key", Text),
    _must("request_hash", LargeBinary),
    _must("run_id", Uuid),
    _must("created_at", _MOMENT),
)

sealed_values = Table(
    "sealed_values", METADATA, _must("run_id", Uuid), _must("name", Text), _must("ciphertext", LargeBinary)
)

secrets = Table(
    "secrets",
    METADATA,
    _must("owner_id", Uuid),
    _must("name", Text),
    _must("version", Integer),
    _may("ciphertext", LargeBinary),
    _must("created_by", Uuid),
    _must("created_at", _MOMENT),
    _may("replaced_at", _MOMENT),
)

blobs = Table(
    "blobs",
    METADATA,
    _must("run_id", Uuid),
    _must("id", Uuid),
    _must("part", Integer),
    _must("data", LargeBinary),
)

schedules = Table(
    "schedules",
    METADATA,
    _must("id", Uuid),
    _must("owner_id", Uuid),
    _must("name", Text),
    _must("template_id", Uuid),
    _may("template_version", Integer),
    _must("input", Text),
    _must("labels", Text),
    _must("cron", Text),
    _must("time_zone", Text),
    _must("overlap", Text),
    _must("catch_up_seconds", Integer),
    _must("revision", Integer),
    _may("next_at", _MOMENT),
    _must("reckoned_at", _MOMENT),
    _may("paused_at", _MOMENT),
    _must("created_by", Uuid),
    _must("starter", Uuid),
    _must("created_at", _MOMENT),
    _must("updated_at", _MOMENT),
)

schedule_firings = Table(
    "schedule_firings",
    METADATA,
    _must("schedule_id", Uuid),
    _must("at", _MOMENT),
    _must("status", Text),
    _may("run_id", Uuid),
    _must("reason", Text),
)

outbox = Table(
    "outbox",
    METADATA,
    _must("id", BigInteger),
    _must("run_id", Uuid),
    _must("subject", Text),
    _must("body", LargeBinary),
    _must("at", _MOMENT),
)
