"""Who decides in whose place, for a while. One-off delegations of a gate are made by `GateActs.delegate`."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from wfe_engine.errors import NotFound

from wfe_store.gate_decide import person_of
from wfe_store.gate_policy import Decider
from wfe_store.paging import Page
from wfe_store.pool import Connection, Database, fetch_all, fetch_one

_COLUMNS = "d.id, f.name, t.name, d.gate_id, d.reason, d.starts_at, d.ends_at, d.revoked_at"
_FROM = "FROM delegations d JOIN principals f ON f.id = d.from_id JOIN principals t ON t.id = d.to_id"
_LIVE = (
    "d.revoked_at IS NULL AND coalesce(d.ends_at > clock_timestamp(), true)"
    " AND (d.gate_id IS NULL OR EXISTS (SELECT 1 FROM gates g WHERE g.id = d.gate_id AND g.status = 'open'))"
)
_LENDERS = f"""
SELECT f.id::text, f.name, f.kind, f.roles, ARRAY(SELECT n.name FROM group_members m
    JOIN groups n ON n.id = m.group_id WHERE m.principal_id = f.id)
{_FROM} WHERE d.owner_id = %s AND d.to_id = %s AND d.gate_id IS NULL AND {_LIVE}
    AND d.starts_at <= clock_timestamp() AND f.disabled_at IS NULL LIMIT 100
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Delegation:
    """Who decides in whose place.

    Attributes:
        delegator, delegate: Names.
        gate_id: The one gate it is for; None for all.
        revoked_at: When it was ended before its time.
    """

    id: UUID
    delegator: str
    delegate: str
    gate_id: UUID | None
    reason: str
    starts_at: datetime
    ends_at: datetime | None
    revoked_at: datetime | None


class Delegations:
    """The delegations of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        owner_id: UUID,
        *,
        delegator: UUID,
        delegate: UUID,
        starts_at: datetime | None,
        ends_at: datetime,
        reason: str,
        by: UUID,
    ) -> Delegation:
        """Let somebody decide in another's place from a moment, now when None, until another."""
        made = uuid4()
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO delegations (id, owner_id, from_id, to_id, reason, starts_at, ends_at, created_by)"
                " VALUES (%s, %s, %s, %s, %s, coalesce(%s, clock_timestamp()), %s, %s)",
                (made, owner_id, delegator, delegate, reason, starts_at, ends_at, by),
            )
            return await self._get(connection, owner_id, made)

    async def revoke(self, owner_id: UUID, delegation_id: UUID, *, by: UUID, admin: bool) -> Delegation:
        """End a delegation, of one's own unless one is an admin. Ending it again changes nothing.

        Raises:
            NotFound: The owner has no such delegation, or it is another's.
        """
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE delegations SET revoked_at = clock_timestamp()"
                " WHERE id = %s AND owner_id = %s AND revoked_at IS NULL AND (from_id = %s OR %s)",
                (delegation_id, owner_id, by, admin),
            )
            found = await fetch_one(
                connection,
                "SELECT 1 FROM delegations WHERE id = %s AND owner_id = %s AND (from_id = %s OR %s)",
                (delegation_id, owner_id, by, admin),
            )
            if found is None:
                raise NotFound(f"there is no delegation {delegation_id}", delegation_id=delegation_id)
            return await self._get(connection, owner_id, delegation_id)

    async def list(
        self, owner_id: UUID, *, of: UUID | None, everything: bool, limit: int, offset: int
    ) -> Page[Delegation]:
        """Delegations, newest first.

        Args:
            of: Only those from or to this one; None for everybody's.
            everything: Also those that have ended.
        """
        where = f"d.owner_id = %s AND (%s::uuid IS NULL OR %s::uuid IN (d.from_id, d.to_id)) AND (%s OR ({_LIVE}))"
        given = (owner_id, of, of, everything)
        async with self._database.connection() as connection:
            rows = await fetch_all(
                connection,
                f"SELECT {_COLUMNS} {_FROM} WHERE {where} ORDER BY d.created_at DESC, d.id LIMIT %s OFFSET %s",
                (*given, limit, offset),
            )
            total = await fetch_one(connection, f"SELECT count(*) {_FROM} WHERE {where}", given)
        return Page(tuple(Delegation(*row) for row in rows), int(total[0]) if total else 0)

    async def lenders(self, owner_id: UUID, delegate: UUID) -> builtins.list[Decider]:
        """Those in whose place somebody may decide now."""
        async with self._database.connection() as connection:
            rows = await fetch_all(
                connection,
                _LENDERS,
                (owner_id, delegate),
            )
        return [person_of(row) for row in rows]

    async def _get(self, connection: Connection, owner_id: UUID, delegation_id: UUID) -> Delegation:
        row = await fetch_one(
            connection,
            f"SELECT {_COLUMNS} {_FROM} WHERE d.id = %s AND d.owner_id = %s",
            (delegation_id, owner_id),
        )
        assert row is not None
        return Delegation(*row)
