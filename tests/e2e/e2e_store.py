"""What the run store has, read past the engine."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql
from wfe_engine.events import Event, decode_event
from wfe_engine.evolve import fold
from wfe_engine.state import encode_state

#: Tables with what belongs to a run, and the column that names it.
OF_A_RUN = {
    "runs": "id", "steps": "run_id", "events": "run_id", "snapshots": "run_id", "dispatch": "run_id",
    "timers": "run_id", "gates": "run_id", "sealed_values": "run_id",
}  # fmt: skip


class Store:
    """Reads the store. A connection for each question, so that it may be killed in between."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            return await (await connection.execute(query, values)).fetchall()

    async def state(self, run: str) -> str:
        """The stored state, as it is."""
        return str((await self.rows("SELECT state FROM runs WHERE id = %s", run))[0][0])

    async def log(self, run: str) -> list[tuple[Event, float]]:
        rows = await self.rows(
            "SELECT type, data, extract(epoch FROM at)::float8 FROM events WHERE run_id = %s ORDER BY seq", run
        )
        return [(decode_event(kind, data), at) for kind, data, at in rows]

    async def folded(self, run: str) -> str:
        """The fold of the log, as states are stored."""
        return encode_state(fold(await self.log(run))).decode()

    async def everything(self, run: str) -> dict[str, list[tuple[Any, ...]]]:
        """Every row that belongs to a run, by table."""
        return {
            table: sorted(await self.rows(f"SELECT t::text FROM {table} t WHERE {column} = %s", run))
            for table, column in OF_A_RUN.items()
        }

    async def dump(self) -> bytes:
        """Every row of every table."""
        found = []
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            tables = await (
                await connection.execute(
                    "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace"
                    " AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
                )
            ).fetchall()
            for (table,) in tables:
                query = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(table))
                async with connection.cursor() as cursor, cursor.copy(query) as copy:
                    found += [bytes(row) async for row in copy]
        return b"".join(found)
