"""Reads what the database has of a sitting, past the engine and its proxies."""

from __future__ import annotations

from pathlib import Path

import msgspec
import psycopg

from tools.chaos.history import Event, Fence, Gate, History, Run, Step
from tools.chaos.witness import Call

Store = psycopg.AsyncConnection[tuple[object, ...]]
#: What must be gone once every run has ended.
_LEFT = {
    "dispatch": "SELECT count(*) FROM dispatch",
    "timers": "SELECT count(*) FROM timers",
    "outbox": "SELECT count(*) FROM outbox",
    "children": "SELECT count(*) FROM children",
    "gates that are open": "SELECT count(*) FROM gates WHERE status = 'open'",
    "gates nobody was told of": "SELECT count(*) FROM gates WHERE outcome IS NOT NULL AND told_at IS NULL",
    "runs that go on": "SELECT count(*) FROM runs WHERE ended_at IS NULL",
}
_RUNS = """
SELECT r.id::text, coalesce(i.key, ''), r.template_name, r.status, r.reason, r.seq, r.state,
    coalesce(r.parent_run::text, ''), coalesce(r.parent_no, 0), (r.output::json ->> 'n')::int
FROM runs r LEFT JOIN idempotency i ON i.run_id = r.id
"""
_STEPS = """
SELECT run_id::text, no, path, iteration, visit, kind, status, attempts, max_attempts FROM steps ORDER BY run_id, no
"""
_EVENTS = "SELECT run_id::text, seq, type, extract(epoch FROM at)::float8, data FROM events ORDER BY run_id, seq"
_GATES = "SELECT id::text, run_id::text, status, outcome, told_at IS NOT NULL FROM gates"
_OF_SERVICES = "FROM pg_stat_activity WHERE application_name LIKE 'wfe-%' AND application_name <> 'wfe-stack'"


async def connections(store: Store) -> tuple[int, int]:
    """Connections of the services, and those of them that stand in a transaction."""
    cursor = await store.execute(
        f"SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%') {_OF_SERVICES}"
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(str(row[0])), int(str(row[1]))


async def left(store: Store) -> dict[str, int]:
    """Rows of what must be gone at the end."""
    found = {}
    for name, query in _LEFT.items():
        row = await (await store.execute(query)).fetchone()
        assert row is not None
        found[name] = int(str(row[0]))
    return found


async def fences(store: Store) -> list[Fence]:
    """The live steps at this moment."""
    cursor = await store.execute("SELECT run_id::text, no, fence, coalesce(executor_id, '') FROM dispatch")
    return [msgspec.convert(row, Fence, strict=False) for row in _named(await cursor.fetchall(), Fence)]


async def read(store: Store, history: History) -> None:
    """Add to a history what the database has."""
    history.runs = msgspec.convert(_named(await (await store.execute(_RUNS)).fetchall(), Run), list[Run])
    history.steps = msgspec.convert(_named(await (await store.execute(_STEPS)).fetchall(), Step), list[Step])
    history.events = msgspec.convert(_named(await (await store.execute(_EVENTS)).fetchall(), Event), list[Event])
    history.gates = msgspec.convert(_named(await (await store.execute(_GATES)).fetchall(), Gate), list[Gate])
    history.left = await left(store)
    history.connections, history.idle_in_transaction = await connections(store)


def read_calls(path: Path) -> list[Call]:
    """What the witness wrote down."""
    return [msgspec.json.decode(line, type=Call) for line in path.read_bytes().splitlines()]


def _named(rows: list[tuple[object, ...]], kind: type[msgspec.Struct]) -> list[dict[str, object]]:
    names = kind.__struct_fields__
    return [dict(zip(names, row, strict=False)) for row in rows]
