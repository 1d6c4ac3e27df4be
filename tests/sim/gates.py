"""Gates as the approvals service decides, expires and moves them, on the simulated store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from wfe_store.gate_quorum import CLOSED_AS
from wfe_store.gate_time import _moved
from wfe_store.gates import Decision

from tests.sim.coverage import NOTES
from tests.sim.gate_tables import PENDING
from tests.sim.store import Database
from tests.sim.tables import Tables


class Gates:
    """`wfe_store.gates.Gates` as approvals calls it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def act(self, gate: UUID, what: str, by: UUID) -> Decision | None:
        """Decide an open gate, or do something at it that leaves it open; None when it is not open any more.

        Args:
            what: One of `coverage.DECISIONS` or `coverage.NOTES`.
        """

        def work(tables: Tables, now: float) -> Decision | None:
            row = tables["gates"][gate]
            late = row["expires_at"] is not None and row["expires_at"] <= (row["held_at"] or now)
            if row["status"] != "open" or late:
                return None
            if what in NOTES:
                n = row["version"] + 1
                later_ = {"expires_at": row["expires_at"] + 20} if what == "extended" and row["expires_at"] else {}
                tables.change("gates", gate, version=n, **later_)
                _note(tables, gate, n, what, f"principal:{by}", {}, now)
                return Decision(row["run"], gate, 0)
            vote, via = {"bypass": ("approve", "bypass"), "link": ("approve", "link")}.get(what, (what, "vote"))
            status = CLOSED_AS["reject" if vote == "branch" else vote]
            named = {"branch": "other"} if vote == "branch" else {}
            tables.change("gates", gate, via=via, **named)
            return self._close(tables, tables["gates"][gate], now, status, vote, by)

        return await self._do(work)

    async def _do(self, work: Callable[[Tables, float], Any]) -> Any:
        async with self._database.connection() as connection:
            return await connection.do(work)

    @staticmethod
    def _close(tables: Tables, row: Any, now: float, status: str, outcome: str, decider: UUID | None) -> Decision:
        version = tables["runs"][row["run"]]["version"] + 1
        tables.change("runs", row["run"], version=version)
        closed = {"status": status, "outcome": outcome, "decided_at": now, "decided_by": decider, "next_at": None}
        tables.change("gates", row["id"], **closed, version=row["version"] + 1)
        return Decision(row["run"], row["id"], version)

    async def expire_due(self, *, limit: int) -> list[Decision]:
        def work(tables: Tables, now: float) -> list[Decision]:
            due = [
                g for g in tables["gates"].values()
                if g["status"] == "open" and g["held_at"] is None and g["expires_at"] and g["expires_at"] <= now
            ][:limit]  # fmt: skip
            return [self._close(tables, g, now, "expired", g["on_expiry"], None) for g in due]

        return await self._do(work)

    async def do_agenda(self, *, limit: int) -> list[Decision]:
        def work(tables: Tables, now: float) -> list[Decision]:
            due = [
                g for g in tables["gates"].values()
                if g["status"] in PENDING and g["next_at"] is not None and g["next_at"] <= now and g["held_at"] is None
                and (g["status"] == "scheduled" or g["expires_at"] is None or g["expires_at"] > now)
            ][:limit]  # fmt: skip
            for g in due:
                moved = _moved(
                    g["id"], g["run"], g["version"], g["status"], g["policy"], g["level"],
                    msgspec.json.encode(g["agenda"]).decode(), dt.datetime.fromtimestamp(g["next_at"], dt.UTC),
                )  # fmt: skip
                next_at = None if moved["next_at"] is None else moved["next_at"].timestamp()
                tables.change(
                    "gates", g["id"], version=moved["n"], status=moved["status"], level=moved["level"],
                    agenda=msgspec.json.decode(moved["agenda"]), next_at=next_at,
                )  # fmt: skip
                _note(tables, g["id"], moved["n"], moved["type"], "timer", msgspec.json.decode(moved["data"]), now)
            return [Decision(g["run"], g["id"], 0) for g in due]

        return await self._do(work)

    async def untold(self) -> list[Decision]:
        def work(tables: Tables, now: float) -> list[Decision]:
            notes = tables["gate_notes"].items()
            noted = {gate for (gate, _), note in notes if note["told_at"] is None and note["at"] < now - 1}
            return [
                Decision(g["run"], g["id"], tables["runs"][g["run"]]["version"])
                for g in tables["gates"].values()
                if g["id"] in noted or (g["outcome"] and g["told_at"] is None and g["decided_at"] < now - 1)
            ]

        return await self._do(work)


def _note(tables: Tables, gate: UUID, n: int, type_: str, actor: str, data: dict[str, Any], now: float) -> None:
    tables._insert("gate_notes", (gate, n), {"type": type_, "actor": actor, "data": data, "at": now, "told_at": None})
