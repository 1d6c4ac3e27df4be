"""Gates as the approvals service decides, expires and looks for them, on the simulated store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from wfe_store.gates import Decision

from tests.sim.store import Database
from tests.sim.tables import Tables


class Gates:
    """`wfe_store.gates.Gates` as approvals calls it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def decide(self, gate: UUID, outcome: str, decider: UUID) -> Decision | None:
        """Decide an open gate; None when it is not open any more."""

        def work(tables: Tables, now: float) -> Decision | None:
            row = tables["gates"][gate]
            late = row["expires_at"] is not None and row["expires_at"] <= (row["held_at"] or now)
            if row["status"] != "open" or late:
                return None
            status = {"approve": "approved", "reject": "rejected"}[outcome]
            return self._close(tables, row, now, status, outcome, decider)

        return await self._do(work)

    async def _do(self, work: Callable[[Tables, float], Any]) -> Any:
        async with self._database.connection() as connection:
            return await connection.do(work)

    @staticmethod
    def _close(tables: Tables, row: Any, now: float, status: str, outcome: str, decider: UUID | None) -> Decision:
        version = tables["runs"][row["run"]]["version"] + 1
        tables.change("runs", row["run"], version=version)
        closed = {"status": status, "outcome": outcome, "decided_at": now, "decided_by": decider}
        tables.change("gates", row["id"], **closed)
        return Decision(row["run"], row["id"], version)

    async def expire_due(self, *, limit: int) -> list[Decision]:
        def work(tables: Tables, now: float) -> list[Decision]:
            due = [
                g for g in tables["gates"].values()
                if g["status"] == "open" and g["held_at"] is None and g["expires_at"] and g["expires_at"] <= now
            ][:limit]  # fmt: skip
            return [self._close(tables, g, now, "expired", g["on_expiry"], None) for g in due]

        return await self._do(work)

    async def untold(self) -> list[Decision]:
        def work(tables: Tables, now: float) -> list[Decision]:
            found = [g for g in tables["gates"].values() if g["outcome"] and g["told_at"] is None]
            return [
                Decision(g["run"], g["id"], tables["runs"][g["run"]]["version"])
                for g in found if g["decided_at"] < now - 1
            ]  # fmt: skip

        return await self._do(work)
