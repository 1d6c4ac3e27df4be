"""API keys, and the look-ups of authentication.

A key's secret is never here: only its SHA-256. Whole keys are made by the services.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from psycopg import sql
from sqlalchemy import select
from wfe_engine.errors import NotFound, StateConflict

from wfe_store import schema
from wfe_store.paging import Page, fetch_page
from wfe_store.pool import Connection, Database, Row, fetch_one


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret.

    Attributes:
        id: Public part, 8 characters.
        name: For people; may be empty.
        principal_id: Principal it speaks for.
        roles: Roles it is narrowed to; None for all of the principal's.
        created_at: When it was made.
        expires_at: When it stops working; None when it does not.
        revoked_at: When it was revoked; None when it was not.
        last_used_at: When it was last used, to about a minute; None before the first use.
        replaces: The key it is the successor of; None for the first.
    """

    id: str
    name: str
    principal_id: UUID
    roles: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaces: str | None


@dataclass(frozen=True, slots=True)
class Fresh:
    """A key just made, as it is stored: its public part, and the SHA-256 of its secret part."""

    id: str
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPrincipal:
    """A principal as authentication needs it.

    Attributes:
        owner_id: Owner it belongs to.
        owner: The owner's name.
        principal_id: The principal.
        principal: Its name.
        kind: person, agent or service.
        roles: Its roles; narrowed to the key's when found by key.
        groups: Names of its groups.
        disabled: Whether it is shut out.
    """

    owner_id: UUID
    owner: str
    principal_id: UUID
    principal: str
    kind: str
    roles: frozenset[str]
    groups: frozenset[str]
    disabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundKey(FoundPrincipal):
    """A key with its principal.

    Attributes:
        hash: SHA-256 of the secret part, 32 bytes.
        expires_at: When it stops working; None when it does not.
        revoked_at: When it was revoked; None when it was not.
    """

    hash: bytes
    expires_at: datetime | None
    revoked_at: datetime | None


_COLUMNS = sql.SQL("id, name, principal_id, roles, created_at, expires_at, revoked_at, last_used_at, replaces")
_PERSON = (
    "p.owner_id, o.name, p.id, p.name, p.kind, p.roles, p.disabled_at IS NOT NULL,"
    " ARRAY(SELECT g.name FROM group_members m JOIN groups g ON g.id = m.group_id"
    " WHERE m.principal_id = p.id)"
)


class Keys:
    """The API keys of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        owner_id: UUID,
        principal_id: UUID,
        fresh: Fresh,
        *,
        name: str = "",
        roles: Sequence[str] | None = None,
        lifetime: timedelta | None = None,
    ) -> Key:
        """Store a new key of a principal; it never stops working without a lifetime.

        Raises:
            NotFound: The owner has no such principal.
        """
        async with self._database.connection() as connection:
            return await _insert(connection, owner_id, principal_id, fresh, name, roles, lifetime)

    async def reissue(self, owner_id: UUID, principal_id: UUID, fresh: Fresh, *, name: str) -> Key:
        """Revoke the principal's keys of that name and store a new one: for keys that were lost.

        Raises:
            NotFound: The owner has no such principal.
        """

        async def work(connection: Connection) -> Key:
            await connection.execute(
                "UPDATE api_keys SET revoked_at = clock_timestamp()"
                " WHERE owner_id = %s AND principal_id = %s AND name = %s AND revoked_at IS NULL",
                (owner_id, principal_id, name),
            )
            return await _insert(connection, owner_id, principal_id, fresh, name, None, None)

        return await self._database.transaction(work)

    async def rotate(self, owner_id: UUID, key_id: str, fresh: Fresh, *, overlap: timedelta) -> Key:
        """Store the successor of a key; the old one stops working after `overlap`. Locks the old key's row.

        The successor has the name, the roles and, from now, the lifetime of the old key.

        Raises:
            NotFound: The owner has no such key.
            StateConflict: KEY_NOT_LIVE: it is revoked, expired, or has a successor.
        """

        async def work(connection: Connection) -> Key:
            old = await fetch_one(
                connection,
                "SELECT principal_id, name, roles, expires_at - created_at, revoked_at IS NULL"
                " AND coalesce(expires_at > clock_timestamp(), true)"
                " FROM api_keys WHERE id = %s AND owner_id = %s FOR UPDATE",
                (key_id, owner_id),
            )
            if old is None:
                raise _missing(key_id)
            principal_id, name, roles, lifetime, live = old
            # Asked after the lock is held: the statement that waited for it saw the keys of before.
            successor = await fetch_one(connection, "SELECT FROM api_keys WHERE replaces = %s", (key_id,))
            if not live or successor is not None:
                raise StateConflict(
                    f"key {key_id} is revoked, expired or replaced; make a new one",
                    reason="KEY_NOT_LIVE",
                    key_id=key_id,
                )
            await connection.execute(
                "UPDATE api_keys SET expires_at = least(expires_at, clock_timestamp() + %s) WHERE id = %s",
                (overlap, key_id),
            )
            return await _insert(connection, owner_id, principal_id, fresh, name, roles, lifetime, replaces=key_id)

        return await self._database.transaction(work)

    async def revoke(self, owner_id: UUID, key_id: str) -> Key:
        """Revoke a key. Safe to repeat: the first moment stays.

        Raises:
            NotFound: The owner has no such key.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                sql.SQL(
                    "UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp())"
                    " WHERE id = %s AND owner_id = %s RETURNING {}"
                ).format(_COLUMNS),
                (key_id, owner_id),
            )
        if row is None:
            raise _missing(key_id)
        return _key(*row)

    async def list(self, owner_id: UUID, *, principal_id: UUID | None = None, limit: int, offset: int) -> Page[Key]:
        """The owner's keys, newest first; only those of a principal when given."""
        k = schema.api_keys.c
        statement = select(
            k.id,
            k.name,
            k.principal_id,
            k.roles,
            k.created_at,
            k.expires_at,
            k.revoked_at,
            k.last_used_at,
            k.replaces,
        )
        statement = statement.where(k.owner_id == owner_id).order_by(k.created_at.desc(), k.id)
        if principal_id is not None:
            statement = statement.where(k.principal_id == principal_id)
        async with self._database.connection() as connection:
            return await fetch_page(connection, statement, _key, limit=limit, offset=offset)

    async def find_key(self, key_id: str) -> FoundKey | None:
        """The key with that public part, whatever its state; None when there is none.

        Notes the use when the last one noted is a minute old, so at most one write a minute for each key.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                f"SELECT {_PERSON}, k.hash, k.expires_at, k.revoked_at, k.roles,"  # noqa: S608 - no input in it
                " coalesce(k.last_used_at < clock_timestamp() - interval '1 minute', true)"
                " FROM api_keys k JOIN principals p ON p.id = k.principal_id AND p.owner_id = k.owner_id"
                " JOIN owners o ON o.id = k.owner_id WHERE k.id = %s",
                (key_id,),
            )
            if row is None:
                return None
            *person, digest, expires_at, revoked_at, narrowed, stale = row
            if stale and revoked_at is None:
                await connection.execute(
                    "UPDATE api_keys SET last_used_at = clock_timestamp() WHERE id = %s"
                    " AND coalesce(last_used_at < clock_timestamp() - interval '1 minute', true)",
                    (key_id,),
                )
        found = _found(tuple(person))
        return FoundKey(
            owner_id=found.owner_id,
            owner=found.owner,
            principal_id=found.principal_id,
            principal=found.principal,
            kind=found.kind,
            roles=found.roles if narrowed is None else found.roles & frozenset(narrowed),
            groups=found.groups,
            disabled=found.disabled,
            hash=digest,
            expires_at=expires_at,
            revoked_at=revoked_at,
        )

    async def find_subject(self, subject: str, owner: str | None) -> FoundPrincipal | None:
        """The owner's principal with the subject `issuer|sub`; None when there is none, or no owner."""
        if owner is None:
            return None
        async with self._database.connection() as connection:
            return await _find_subject(connection, subject, owner)

    async def ensure_subject(self, subject: str, owner: str, name: str) -> FoundPrincipal | None:
        """The owner's principal with that subject, made without roles when missing; None without owner.

        A name that is taken gives way to the subject. Safe to repeat, also at the same time.
        """
        async with self._database.connection() as connection:
            found = await _find_subject(connection, subject, owner)
            for free in (name, subject):
                if found is not None:
                    break
                await connection.execute(
                    "INSERT INTO principals (id, owner_id, name, kind, subject)"
                    " SELECT %s, id, %s, 'person', %s FROM owners WHERE name = %s ON CONFLICT DO NOTHING",
                    (uuid4(), free, subject, owner),
                )
                found = await _find_subject(connection, subject, owner)
            return found


async def _insert(
    connection: Connection,
    owner_id: UUID,
    principal_id: UUID,
    fresh: Fresh,
    name: str,
    roles: Sequence[str] | None,
    lifetime: timedelta | None,
    replaces: str | None = None,
) -> Key:
    row = await fetch_one(
        connection,
        sql.SQL(
            "INSERT INTO api_keys (id, owner_id, principal_id, name, hash, roles, expires_at, replaces)"
            " SELECT %s, p.owner_id, p.id, %s, %s, %s, clock_timestamp() + %s, %s FROM principals p"
            " WHERE p.id = %s AND p.owner_id = %s RETURNING {}"
        ).format(_COLUMNS),
        (
            fresh.id,
            name,
            fresh.hash,
            list(roles) if roles else None,
            lifetime,
            replaces,
            principal_id,
            owner_id,
        ),
    )
    if row is None:
        raise NotFound(f"there is no principal {principal_id}", principal_id=principal_id)
    return _key(*row)


async def _find_subject(connection: Connection, subject: str, owner: str) -> FoundPrincipal | None:
    row = await fetch_one(
        connection,
        f"SELECT {_PERSON} FROM principals p JOIN owners o ON o.id = p.owner_id"  # noqa: S608 - no input in it
        " WHERE p.subject = %s AND o.name = %s",
        (subject, owner),
    )
    return None if row is None else _found(row)


def _found(row: Row) -> FoundPrincipal:
    owner_id, owner, principal_id, principal, kind, roles, disabled, groups = row
    return FoundPrincipal(
        owner_id=owner_id,
        owner=owner,
        principal_id=principal_id,
        principal=principal,
        kind=kind,
        roles=frozenset(roles),
        groups=frozenset(groups),
        disabled=disabled,
    )


def _key(
    key_id: str,
    name: str,
    principal_id: UUID,
    roles: Sequence[str] | None,
    created_at: datetime,
    expires_at: datetime | None,
    revoked_at: datetime | None,
    last_used_at: datetime | None,
    replaces: str | None,
) -> Key:
    narrowed = None if roles is None else tuple(roles)
    return Key(key_id, name, principal_id, narrowed, created_at, expires_at, revoked_at, last_used_at, replaces)


def _missing(key_id: str) -> NotFound:
    return NotFound(f"there is no key {key_id}", key_id=key_id)
