"""Rows of runs and what belongs to them, written as commits write them."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Any

from psycopg import sql
from wfe_store.pool import Database

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
SECOND = dt.timedelta(seconds=1)
TEMPLATE = uuid.uuid4()
STARTER = uuid.uuid4()

DEFAULTS: dict[str, dict[str, Any]] = {
    "runs": {
        "template_id": TEMPLATE, "template_name": "publish", "template_version": 1, "status": "running", "version": 1,
        "seq": 0, "state": "{}", "input": "{}", "trigger_type": "api", "created_by": STARTER, "created_at": NOW,
        "updated_at": NOW,
    },
    "steps": {"path": "fetch", "kind": "http", "status": "completed", "seq": 1, "created_at": NOW},
    "dispatch": {
        "path": "fetch", "kind": "http", "queue": "default", "request": "{}", "attempt": 1, "max_attempts": 3,
        "fence": 1, "available_at": NOW, "created_at": NOW,
    },
    "executors": {"name": "one", "queues": ["default"], "lease_until": NOW, "heartbeat_at": NOW, "started_at": NOW},
    "events": {"at": NOW, "type": "step.completed", "actor": "system", "data": "{}"},
    "snapshots": {"kind": "demand", "state": "{}", "created_at": NOW},
    "gates": {
        "no": 1, "path": "review", "status": "open", "title": "Publish?", "policy": "{}", "digest": "d",
        "started_by": STARTER, "created_at": NOW,
    },
}  # fmt: skip


async def insert(database: Database, table: str, **given: Any) -> None:
    values = DEFAULTS[table] | given
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    async with database.connection() as connection:
        await connection.execute(statement, list(values.values()))


def run_id_of(moment: dt.datetime = NOW) -> uuid.UUID:
    stamp = int(moment.timestamp() * 1000) << 80
    return uuid.UUID(int=stamp | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1)


async def add_run(database: Database, owner_id: uuid.UUID, **given: Any) -> uuid.UUID:
    run_id = given.pop("id", None) or run_id_of(given.get("created_at", NOW))
    if "labels" in given:
        given["labels"] = json.dumps(given["labels"])
    await insert(database, "runs", id=run_id, owner_id=owner_id, **given)
    return run_id
