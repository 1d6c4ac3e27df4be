"""Owners, principals and groups.

Every statement names the owner: another owner's principal or group is a missing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from psycopg import errors
from sqlalchemy import ColumnClause, literal_column, select
from wfe_engine.errors import AlreadyExists, InvalidInput, NotFound

from wfe_store.paging import Page, compiled, fetch_page
from wfe_store.pool import Connection, Database, fetch_all, fetch_one
from wfe_store.schema import groups, owners, principals


@dataclass(frozen=True, slots=True)
class Principal:
    """A person, an agent or a service account.

    Attributes:
        id: Of the principal.
        name: Unique within the owner.
        kind: person, agent or service.
        roles: What it may do; order as given.
        subject: issuer|sub of its tokens; None when it uses keys only.
        owner: Name of its owner.
        disabled_at: When it was shut out; None while it may call.
        created_at: When it was made.
        acts_for: The person an agent or a service account works for; what it starts, that person has started.
        groups: Names of its groups, in order.
    """

    id: UUID
    name: str
    kind: str
    roles: tuple[str, ...]
    subject: str | None
    owner: str
    disabled_at: datetime | None
    created_at: datetime
    acts_for: UUID | None
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A principal of a group."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Group:
    """Principals under one name.

    Attributes:
        id: Of the group.
        name: Unique within the owner.
        members: By name.
    """

    id: UUID
    name: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class SeedPrincipal:
    """A principal to make if it is missing, with its groups."""

    name: str
    kind: str = "person"
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seeded:
    """What `seed_owner` found or made: the owner, and its principals by name."""

    owner_id: UUID
    principals: dict[str, UUID]


_MEMBERSHIPS: ColumnClause[list[str]] = literal_column(
    "ARRAY(SELECT g.name FROM group_members m JOIN groups g ON g.id = m.group_id"
    " WHERE m.principal_id = principals.id ORDER BY g.name)"
)
_PRINCIPALS = select(
    principals.c.id,
    principals.c.name,
    principals.c.kind,
    principals.c.roles,
    principals.c.subject,
    owners.c.name,
    principals.c.disabled_at,
    principals.c.created_at,
    principals.c.acts_for,
    _MEMBERSHIPS,
).select_from(principals.join(owners, owners.c.id == principals.c.owner_id))


class Identity:
    """The owners, principals and groups of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_principal(
        self,
        owner_id: UUID,
        *,
        name: str,
        kind: str,
        roles: Sequence[str],
        subject: str | None = None,
        acts_for: UUID | None = None,
    ) -> Principal:
        """Add a principal.

        Raises:
            NotFound: The owner has nobody for it to act for.
            InvalidInput: What it would act for acts for somebody itself.
            AlreadyExists: The owner has one of that name (PRINCIPAL_NAME_TAKEN) or subject (SUBJECT_TAKEN).
        """
        principal_id = uuid4()
        async with self._database.connection() as connection:
            if acts_for is not None:
                behind = await self._get_principal(connection, owner_id, acts_for)
                if behind.kind != "person":
                    raise InvalidInput("must be a person", field="acts_for")
            try:
                await connection.execute(
                    "INSERT INTO principals (id, owner_id, name, kind, roles, subject, acts_for)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (principal_id, owner_id, name, kind, list(roles), subject, acts_for),
                )
            except errors.UniqueViolation as fault:
                if fault.diag.constraint_name == "principals_owner_id_subject_key":
                    raise AlreadyExists(
                        f"there is a principal with the subject {subject} already",
                        reason="SUBJECT_TAKEN",
                        subject=subject,
                    ) from fault
                raise AlreadyExists(
                    f"there is a principal named {name} already", reason="PRINCIPAL_NAME_TAKEN", name=name
                ) from fault
            return await self._get_principal(connection, owner_id, principal_id)

    async def get_principal(self, owner_id: UUID, principal_id: UUID) -> Principal:
        """One principal.

        Raises:
            NotFound: The owner has no such principal.
        """
        async with self._database.connection() as connection:
            return await self._get_principal(connection, owner_id, principal_id)

    async def _get_principal(self, connection: Connection, owner_id: UUID, principal_id: UUID) -> Principal:
        statement = _PRINCIPALS.where(principals.c.owner_id == owner_id, principals.c.id == principal_id)
        row = await fetch_one(connection, *compiled(statement))
        if row is None:
            raise NotFound(f"there is no principal {principal_id}", principal_id=principal_id)
        return _principal(*row)

    async def list_principals(self, owner_id: UUID, *, limit: int, offset: int) -> Page[Principal]:
        """The owner's principals, by name."""
        statement = _PRINCIPALS.where(principals.c.owner_id == owner_id).order_by(principals.c.name)
        async with self._database.connection() as connection:
            return await fetch_page(connection, statement, _principal, limit=limit, offset=offset)

    async def create_group(self, owner_id: UUID, *, name: str) -> Group:
        """Add a group without members.

        Raises:
            AlreadyExists: The owner has one of that name.
        """
        group_id = uuid4()
        async with self._database.connection() as connection:
            try:
                await connection.execute(
                    "INSERT INTO groups (id, owner_id, name) VALUES (%s, %s, %s)", (group_id, owner_id, name)
                )
            except errors.UniqueViolation as fault:
                raise AlreadyExists(
                    f"there is a group named {name} already", reason="GROUP_NAME_TAKEN", name=name
                ) from fault
        return Group(group_id, name, ())

    async def list_groups(self, owner_id: UUID, *, limit: int, offset: int) -> Page[Group]:
        """The owner's groups with their members, by name."""
        statement = select(groups.c.id, groups.c.name).where(groups.c.owner_id == owner_id).order_by(groups.c.name)
        async with self._database.connection() as connection:
            page = await fetch_page(connection, statement, _bare_group, limit=limit, offset=offset)
            members = await self._members(connection, [group.id for group in page.items])
        return Page(tuple(Group(g.id, g.name, members.get(g.id, ())) for g in page.items), page.total)

    async def add_member(self, owner_id: UUID, group_id: UUID, principal_id: UUID) -> Group:
        """Put a principal into a group; no error when it is there already.

        Raises:
            NotFound: The owner has no such group or no such principal.
        """
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO group_members (group_id, principal_id)"
                " SELECT g.id, p.id FROM groups g, principals p WHERE g.id = %s AND g.owner_id = %s"
                " AND p.id = %s AND p.owner_id = g.owner_id ON CONFLICT DO NOTHING",
                (group_id, owner_id, principal_id),
            )
            group = await self._get_group(connection, owner_id, group_id)
            if all(member.id != principal_id for member in group.members):
                raise NotFound(f"there is no principal {principal_id}", principal_id=principal_id)
            return group

    async def remove_member(self, owner_id: UUID, group_id: UUID, principal_id: UUID) -> Group:
        """Take a principal out of a group; no error when it is not in it.

        Raises:
            NotFound: The owner has no such group.
        """
        async with self._database.connection() as connection:
            await connection.execute(
                "DELETE FROM group_members m USING groups g WHERE g.id = m.group_id AND g.id = %s"
                " AND g.owner_id = %s AND m.principal_id = %s",
                (group_id, owner_id, principal_id),
            )
            return await self._get_group(connection, owner_id, group_id)

    async def _get_group(self, connection: Connection, owner_id: UUID, group_id: UUID) -> Group:
        row = await fetch_one(
            connection, "SELECT id, name FROM groups WHERE id = %s AND owner_id = %s", (group_id, owner_id)
        )
        if row is None:
            raise NotFound(f"there is no group {group_id}", group_id=group_id)
        members = await self._members(connection, [group_id])
        return Group(row[0], row[1], members.get(group_id, ()))

    async def _members(self, connection: Connection, group_ids: Sequence[UUID]) -> dict[UUID, tuple[Member, ...]]:
        members: dict[UUID, tuple[Member, ...]] = {}
        for group_id, principal_id, name in await fetch_all(
            connection,
            "SELECT m.group_id, p.id, p.name FROM group_members m JOIN principals p ON p.id = m.principal_id"
            " WHERE m.group_id = ANY(%s) ORDER BY p.name",
            (list(group_ids),),
        ):
            members[group_id] = (*members.get(group_id, ()), Member(principal_id, name))
        return members

    async def seed_owner(self, name: str, people: Sequence[SeedPrincipal] = ()) -> Seeded:
        """Make an owner with principals and groups, where they are missing.

        Safe to repeat and to run twice at once. What exists stays as it is, roles included; memberships are
        added, never taken away.
        """

        async def work(connection: Connection) -> Seeded:
            owner_id = await _ensure_owner(connection, name)
            made: dict[str, UUID] = {}
            for person in people:
                made[person.name] = await _ensure_principal(connection, owner_id, person)
            return Seeded(owner_id, made)

        return await self._database.transaction(work)


async def _ensure_owner(connection: Connection, name: str) -> UUID:
    await connection.execute(
        "INSERT INTO owners (id, name) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING", (uuid4(), name)
    )
    ((owner_id,),) = await fetch_all(connection, "SELECT id FROM owners WHERE name = %s", (name,))
    return UUID(str(owner_id))


async def _ensure_principal(connection: Connection, owner_id: UUID, person: SeedPrincipal) -> UUID:
    await connection.execute(
        "INSERT INTO principals (id, owner_id, name, kind, roles) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (owner_id, name) DO NOTHING",
        (uuid4(), owner_id, person.name, person.kind, list(person.roles)),
    )
    for group in person.groups:
        await connection.execute(
            "INSERT INTO groups (id, owner_id, name) VALUES (%s, %s, %s) ON CONFLICT (owner_id, name) DO NOTHING",
            (uuid4(), owner_id, group),
        )
    await connection.execute(
        "INSERT INTO group_members (group_id, principal_id) SELECT g.id, p.id FROM groups g, principals p"
        " WHERE g.owner_id = %s AND g.name = ANY(%s) AND p.owner_id = g.owner_id AND p.name = %s"
        " ON CONFLICT DO NOTHING",
        (owner_id, list(person.groups), person.name),
    )
    ((principal_id,),) = await fetch_all(
        connection, "SELECT id FROM principals WHERE owner_id = %s AND name = %s", (owner_id, person.name)
    )
    return UUID(str(principal_id))


def _principal(
    principal_id: UUID,
    name: str,
    kind: str,
    roles: Sequence[str],
    subject: str | None,
    owner: str,
    disabled_at: datetime | None,
    created_at: datetime,
    acts_for: UUID | None,
    memberships: Sequence[str],
) -> Principal:
    return Principal(
        principal_id, name, kind, tuple(roles), subject, owner, disabled_at, created_at, acts_for, tuple(memberships)
    )


def _bare_group(group_id: UUID, name: str) -> Group:
    return Group(group_id, name, ())
