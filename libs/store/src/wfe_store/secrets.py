"""Secrets of owners: versions, of which only the newest keeps its value. Values are sealed before they come here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from wfe_engine.errors import NotFound, ResourceExhausted, StateConflict

from wfe_store.pool import Connection, Database, fetch_all, fetch_one

#: Secrets an owner may have.
MOST_SECRETS = 1000


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version of a secret.

    Attributes:
        version: 1 and up.
        created_at: When it was set.
        created_by: Principal that set it.
    """

    version: int
    created_at: datetime
    created_by: UUID


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret without its value.

    Attributes:
        name: Unique within the owner.
        versions: The newest first; only that one has a value.
    """

    name: str
    versions: tuple[SecretVersion, ...]


class Secrets:
    """Secrets, each call within one owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self, owner: UUID, principal: UUID, name: str, seal: Callable[[int], bytes], *, expected: int | None = None
    ) -> Secret:
        """Set the next version of a secret; the value of the one before is gone.

        Args:
            owner, principal: Whose, and who sets it.
            name: Of the secret.
            seal: Given the version, what to store of the value.
            expected: Version it must have now, 0 for none; None for any.

        Raises:
            StateConflict: It has another version.
            ResourceExhausted: The owner has too many.
        """

        async def work(connection: Connection) -> Secret:
            # One after the other, also for a secret that has no row to lock yet.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{owner}/secrets",))
            row = await fetch_one(
                connection,
                "SELECT coalesce(max(version), 0) FROM secrets WHERE owner_id = %s AND name = %s",
                (owner, name),
            )
            present = row[0] if row else 0
            if expected is not None and expected != present:
                raise StateConflict(
                    f"secret {name} has version {present}, not {expected}",
                    reason="SECRET_VERSION",
                    name=name,
                    version=present,
                )
            if not present:
                row = await fetch_one(
                    connection, "SELECT count(*) FROM secrets WHERE owner_id = %s AND replaced_at IS NULL", (owner,)
                )
                if row and row[0] >= MOST_SECRETS:
                    raise ResourceExhausted(
                        f"there are {MOST_SECRETS} secrets already; delete one first", reason="TOO_MANY_SECRETS"
                    )
            await connection.execute(
                "UPDATE secrets SET ciphertext = NULL, replaced_at = clock_timestamp()"
                " WHERE owner_id = %s AND name = %s AND replaced_at IS NULL",
                (owner, name),
            )
            await connection.execute(
                "INSERT INTO secrets (owner_id, name, version, ciphertext, created_by) VALUES (%s, %s, %s, %s, %s)",
                (owner, name, present + 1, seal(present + 1), principal),
            )
            return (await _read(connection, owner, [name]))[0]

        return await self._database.transaction(work)

    async def list(self, owner: UUID, *, limit: int, offset: int) -> tuple[list[Secret], int]:
        """A page of the owner's secrets by name, and how many there are."""
        async with self._database.connection() as connection:
            rows = await fetch_all(
                connection,
                "SELECT name FROM secrets WHERE owner_id = %s AND replaced_at IS NULL ORDER BY name",
                (owner,),
            )
            names = [row[0] for row in rows[offset : offset + limit]]
            return await _read(connection, owner, names), len(rows)

    async def delete(self, owner: UUID, name: str) -> Secret:
        """Remove a secret with all its versions; gives what it was.

        Raises:
            NotFound: The owner has no such secret.
        """

        async def work(connection: Connection) -> Secret:
            found = await _read(connection, owner, [name])
            if not found:
                raise NotFound(f"there is no secret {name}", name=name)
            await connection.execute("DELETE FROM secrets WHERE owner_id = %s AND name = %s", (owner, name))
            return found[0]

        return await self._database.transaction(work)


async def _read(connection: Connection, owner: UUID, names: Collection[str]) -> list[Secret]:
    rows = await fetch_all(
        connection,
        "SELECT name, version, created_at, created_by FROM secrets WHERE owner_id = %s AND name = ANY(%s)"
        " ORDER BY name, version DESC",
        (owner, list(names)),
    )
    versions: dict[str, list[SecretVersion]] = {}
    for name, *version in rows:
        versions.setdefault(name, []).append(SecretVersion(*version))
    return [Secret(name, tuple(found)) for name, found in versions.items()]


async def present_secrets(connection: Connection, owner: UUID, names: Collection[str]) -> frozenset[str]:
    """Those of these names that the owner has a secret of."""
    rows = await fetch_all(
        connection,
        "SELECT name FROM secrets WHERE owner_id = %s AND name = ANY(%s) AND replaced_at IS NULL",
        (owner, list(names)),
    )
    return frozenset(row[0] for row in rows)


async def load_secrets(connection: Connection, owner: UUID, names: Collection[str]) -> dict[str, tuple[int, bytes]]:
    """Version and what is stored of the newest version, by name; names without a secret are missing."""
    rows = await fetch_all(
        connection,
        "SELECT name, version, ciphertext FROM secrets WHERE owner_id = %s AND name = ANY(%s) AND replaced_at IS NULL",
        (owner, list(names)),
    )
    return {name: (version, bytes(stored)) for name, version, stored in rows}
