"""A run store that has seen much: copies of one run, made in Postgres, as many as wanted.

A copy has every row of the run it is made of (run, steps, events, snapshots, timers) under an id of its own. Its id is
of an earlier moment, as those of real runs would be, so it lies where they would lie in every index.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

#: Tables whose rows go with a run, and the column that names it.
_TABLES = (("runs", "id"), ("steps", "run_id"), ("events", "run_id"), ("snapshots", "run_id"), ("timers", "run_id"))

#: Copies of one transaction.
_BATCH = 20_000

Store = psycopg.AsyncConnection[tuple[Any, ...]]


async def copy_run(store: Store, run: UUID, count: int, *, due_in_days: int = 365) -> None:
    """Make copies of a run.

    Args:
        store: A connection in autocommit mode.
        run: What to copy; it must stand still.
        count: How many.
        due_in_days: Timers of copies are due that much later than that of the run, so that none wakes.
    """
    await store.execute("CREATE TEMP TABLE IF NOT EXISTS copies (id uuid NOT NULL)")
    for made in range(0, count, _BATCH):
        some = min(_BATCH, count - made)
        async with store.transaction():
            await store.execute("TRUNCATE copies")
            await store.execute(
                "INSERT INTO copies SELECT uuidv7(make_interval(secs => -3600 + g * 0.0001))"
                " FROM generate_series(%s::bigint, %s::bigint) g",
                (made, made + some - 1),
            )
            for table, key in _TABLES:
                await _copy(store, table, key, run, due_in_days)
    # What autovacuum would have done meanwhile, had they come one by one.
    for table, _ in _TABLES:
        await store.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
    await store.execute("CHECKPOINT")


async def _copy(store: Store, table: str, key: str, run: UUID, due_in_days: int) -> None:
    found = await store.execute(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        (table,),
    )
    names = [name for (name,) in await found.fetchall()]

    def value(name: str) -> sql.Composable:
        if name == key:
            return sql.SQL("c.id")
        if table == "timers" and name == "due_at":
            return sql.SQL("t.due_at + make_interval(days => {})").format(due_in_days)
        if table == "snapshots" and name == "id":
            return sql.SQL("gen_random_uuid()")
        return sql.Identifier("t", name)

    await store.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} t, copies c WHERE t.{} = {}").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join(map(value, names)),
            sql.Identifier(table),
            sql.Identifier(key),
            sql.Literal(run),
        )
    )
