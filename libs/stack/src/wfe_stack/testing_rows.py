"""Rows the scheduler would have written, for tests of what works on them."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from typing import Any

from wfe_engine.events import decode_event
from wfe_engine.evolve import fold
from wfe_engine.state import RunState, decode_state
from wfe_store.gate_policy import Decider, Policy
from wfe_store.pool import Database, fetch_all


def run_key() -> uuid.UUID:
    """A UUIDv7 of now, so that the row falls into this month's partition."""
    stamp = int(time.time() * 1000) << 80
    return uuid.UUID(int=stamp | 7 << 76 | 2 << 62 | (uuid.uuid4().int & ((1 << 62) - 1)))


async def add_run(database: Database, owner_id: uuid.UUID, started_by: uuid.UUID) -> uuid.UUID:
    """A running run at version 1."""
    run_id = run_key()
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO runs (id, owner_id, template_id, template_name, template_version, status, version,"
            " seq, state, input, trigger_type, created_by, created_at, updated_at)"
            " VALUES (%s, %s, %s, 'publish', 1, 'waiting_approval', 1, 1, '{}', '{}', 'api', %s,"
            " clock_timestamp(), clock_timestamp())",
            (run_id, owner_id, uuid.uuid4(), started_by),
        )
    return run_id


async def add_gate(
    database: Database,
    owner_id: uuid.UUID,
    run_id: uuid.UUID,
    started_by: uuid.UUID,
    *,
    policy: dict[str, Any] | str | None = None,
    expires_in: dt.timedelta | None = None,
    on_expiry: str = "reject",
    held: bool = False,
    payload: str | None = None,
    title: str = "Publish?",
    risk: str = "medium",
    round: int = 0,  # noqa: A002 - the column's name
    agenda: list[list[Any]] | None = None,
    status: str = "open",
) -> uuid.UUID:
    """An open gate of a run."""
    gate_id = uuid.uuid4()
    text = policy if isinstance(policy, str) else json.dumps(policy or {}, separators=(",", ":"))
    parsed = Policy.parse(text)
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO gates (id, run_id, no, owner_id, path, status, title, payload, policy, digest,"
            " started_by, created_at, expires_at, on_expiry, held_at, who, exclude, risk, round, bound, agenda,"
            " next_at) VALUES (%s, %s, 1, %s, 'review', %s, %s, %s, %s, 'd1', %s, clock_timestamp(),"
            " clock_timestamp() + %s, %s, CASE WHEN %s THEN clock_timestamp() END, %s, %s, %s, %s, %s, %s,"
            " clock_timestamp() + make_interval(secs => %s))",
            (
                gate_id,
                run_id,
                owner_id,
                status,
                title,
                payload,
                text,
                started_by,
                expires_in,
                on_expiry,
                held,
                list(parsed.who()),
                list(parsed.exclude),
                risk,
                round,
                '["review","","approval"]',
                json.dumps(agenda or []),
                agenda[0][0] if agenda else None,
            ),
        )
    return gate_id


def decider(
    name: str = "ada", *, roles: set[str] | None = None, groups: set[str] | None = None, kind: str = "person"
) -> Decider:
    """Somebody with the role approver unless said otherwise; the same id for the same name."""
    return Decider(
        principal_id=uuid.uuid5(uuid.NAMESPACE_DNS, name),
        name=name,
        kind=kind,
        roles=frozenset({"approver"} if roles is None else roles),
        groups=frozenset(groups or ()),
    )


async def folded_and_stored(database_url: str, run: str) -> tuple[RunState, RunState]:
    """The state a run's log folds to, and the one that is stored."""
    database = Database(database_url, name="test", size=1)
    await database.open()
    try:
        async with database.connection() as connection:
            events = await fetch_all(
                connection,
                "SELECT type, data, extract(epoch FROM at)::float8 FROM events WHERE run_id = %s ORDER BY seq",
                (run,),
            )
            ((state,),) = await fetch_all(connection, "SELECT state FROM runs WHERE id = %s", (run,))
    finally:
        await database.close()
    return fold((decode_event(kind, data), at) for kind, data, at in events), decode_state(state)
