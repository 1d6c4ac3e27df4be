"""Templates: drafts that may change, published versions that never do.

Every statement names the owner: another owner's template is a missing one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from psycopg import errors, sql
from sqlalchemy import select
from wfe_engine.errors import AlreadyExists, NotFound, StateConflict

from wfe_store import schema
from wfe_store.paging import Page, fetch_page
from wfe_store.pool import Connection, Database, Row, fetch_one


@dataclass(frozen=True, slots=True)
class Template:
    """A template and its draft.

    Attributes:
        id: Of the template.
        name: As the draft's source says; unique within the owner.
        draft: Source as it was written; empty in lists.
        latest_version: Newest published version; 0 while there is none.
        deprecated_at: When it was deprecated; None while runs may be started.
        created_at: When it was made.
        updated_at: When draft or versions last changed.
    """

    id: UUID
    name: str
    draft: str
    latest_version: int
    deprecated_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def status(self) -> str:
        """draft, published or deprecated."""
        if self.deprecated_at is not None:
            return "deprecated"
        return "published" if self.latest_version else "draft"


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """One published version; never changes.

    Attributes:
        template_id: Of the template.
        version: 1 and up.
        name: At publication.
        source: As it was written; empty in lists.
        published_by: Principal that published it.
        published_at: When.
    """

    template_id: UUID
    version: int
    name: str
    source: str
    published_by: UUID
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a start needs of a template.

    Attributes:
        template_id: Of the template.
        name: At publication.
        version: The one asked for, or the newest.
        source: As it was written.
        deprecated: Whether no new runs may be started.
        pins: Templates it runs as children, by name: id and version.
    """

    template_id: UUID
    name: str
    version: int
    source: str
    deprecated: bool
    pins: Mapping[str, tuple[str, int]] = field(default_factory=dict)


_COLUMNS = sql.SQL("id, name, draft, latest_version, deprecated_at, created_at, updated_at")


class Templates:
    """The templates of every owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owner_id: UUID, *, name: str, source: str) -> Template:
        """Make a template with a draft.

        Raises:
            AlreadyExists: The owner has one of that name; `template_id` in the metadata says which.
        """
        return await self._draft(
            sql.SQL(
                "INSERT INTO templates (id, owner_id, name, draft)"
                " VALUES (%(id)s, %(owner)s, %(name)s, %(source)s) RETURNING {}"
            ).format(_COLUMNS),
            owner_id=owner_id,
            template_id=uuid4(),
            name=name,
            source=source,
        )

    async def replace_draft(self, owner_id: UUID, template_id: UUID, *, name: str, source: str) -> Template:
        """Replace the draft; published versions stay as they are. The name may change with it.

        Raises:
            NotFound: The owner has no such template.
            AlreadyExists: The owner has another one of that name.
        """
        return await self._draft(
            sql.SQL(
                "UPDATE templates SET name = %(name)s, draft = %(source)s, updated_at = clock_timestamp()"
                " WHERE id = %(id)s AND owner_id = %(owner)s RETURNING {}"
            ).format(_COLUMNS),
            owner_id=owner_id,
            template_id=template_id,
            name=name,
            source=source,
        )

    async def _draft(
        self, statement: sql.Composed, *, owner_id: UUID, template_id: UUID, name: str, source: str
    ) -> Template:
        values = {"id": template_id, "owner": owner_id, "name": name, "source": source}
        async with self._database.connection() as connection:
            try:
                row = await fetch_one(connection, statement, values)
            except errors.UniqueViolation as fault:
                other = await fetch_one(
                    connection, "SELECT id FROM templates WHERE owner_id = %s AND name = %s", (owner_id, name)
                )
                raise AlreadyExists(
                    f"there is a template named {name} already",
                    reason="TEMPLATE_NAME_TAKEN",
                    name=name,
                    template_id=other[0] if other else "",
                ) from fault
        return _template(row, template_id)

    async def newest(self, owner_id: UUID, names: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Id and newest published version of templates by name; those that cannot be started are missing."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                "SELECT name, id::text, latest_version FROM templates"
                " WHERE owner_id = %s AND name = ANY(%s) AND latest_version > 0 AND deprecated_at IS NULL",
                (owner_id, list(names)),
            )
            return {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}

    async def publish(
        self,
        owner_id: UUID,
        template_id: UUID,
        *,
        source: str,
        published_by: UUID,
        pins: Mapping[str, tuple[str, int]] | None = None,
    ) -> TemplateVersion:
        """Make the draft the next version, if it is still the text that was validated. Locks its row.

        Publishing takes a deprecated template back into use: whoever publishes wants runs.

        Args:
            source: The text the caller validated.
            pins: Templates it runs as children, by name: id and version, for ever.

        Raises:
            NotFound: The owner has no such template.
            StateConflict: DRAFT_CHANGED: the draft has been replaced since it was read.
        """

        async def work(connection: Connection) -> TemplateVersion:
            found = await fetch_one(
                connection,
                "UPDATE templates SET latest_version = latest_version + 1, deprecated_at = NULL,"
                " updated_at = clock_timestamp() WHERE id = %s AND owner_id = %s AND draft = %s"
                " RETURNING latest_version, name",
                (template_id, owner_id, source),
            )
            if found is None:
                await self._get(connection, owner_id, template_id)
                raise StateConflict(
                    f"the draft of template {template_id} changed meanwhile; publish again",
                    reason="DRAFT_CHANGED",
                    template_id=template_id,
                )
            row = await fetch_one(
                connection,
                "INSERT INTO template_versions (template_id, version, name, source, published_by, pins)"
                " VALUES (%s, %s, %s, %s, %s, %s)"
                " RETURNING template_id, version, name, source, published_by, published_at",
                (template_id, *found, source, published_by, json.dumps(pins or {})),
            )
            assert row is not None
            return TemplateVersion(*row)

        return await self._database.transaction(work)

    async def deprecate(self, owner_id: UUID, template_id: UUID) -> Template:
        """Let no more runs be started. Safe to repeat: the first moment stays.

        Raises:
            NotFound: The owner has no such template.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                sql.SQL(
                    "UPDATE templates SET deprecated_at = coalesce(deprecated_at, clock_timestamp()),"
                    " updated_at = CASE WHEN deprecated_at IS NULL THEN clock_timestamp() ELSE updated_at END"
                    " WHERE id = %s AND owner_id = %s RETURNING {}"
                ).format(_COLUMNS),
                (template_id, owner_id),
            )
        return _template(row, template_id)

    async def get(self, owner_id: UUID, template_id: UUID) -> Template:
        """One template with its draft.

        Raises:
            NotFound: The owner has no such template.
        """
        async with self._database.connection() as connection:
            return await self._get(connection, owner_id, template_id)

    async def _get(self, connection: Connection, owner_id: UUID, template_id: UUID) -> Template:
        row = await fetch_one(
            connection,
            sql.SQL("SELECT {} FROM templates WHERE id = %s AND owner_id = %s").format(_COLUMNS),
            (template_id, owner_id),
        )
        return _template(row, template_id)

    async def list(self, owner_id: UUID, *, name: str = "", limit: int, offset: int) -> Page[Template]:
        """The owner's templates, newest first, without drafts; only the one of `name` when given."""
        t = schema.templates.c
        statement = select(t.id, t.name, t.latest_version, t.deprecated_at, t.created_at, t.updated_at)
        statement = statement.where(t.owner_id == owner_id).order_by(t.created_at.desc(), t.id.desc())
        if name:
            statement = statement.where(t.name == name)
        async with self._database.connection() as connection:
            return await fetch_page(connection, statement, _listed, limit=limit, offset=offset)

    async def versions(self, owner_id: UUID, template_id: UUID, *, limit: int, offset: int) -> Page[TemplateVersion]:
        """Versions of a template, newest first, without sources.

        Raises:
            NotFound: The owner has no such template.
        """
        v = schema.template_versions.c
        statement = select(v.template_id, v.version, v.name, v.published_by, v.published_at)
        statement = statement.where(v.template_id == template_id).order_by(v.version.desc())
        async with self._database.connection() as connection:
            await self._get(connection, owner_id, template_id)
            return await fetch_page(connection, statement, _listed_version, limit=limit, offset=offset)

    async def get_version(self, owner_id: UUID, template_id: UUID, version: int) -> TemplateVersion:
        """One version with its source.

        Raises:
            NotFound: The owner has no such template, or it no such version.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                "SELECT v.template_id, v.version, v.name, v.source, v.published_by, v.published_at"
                " FROM template_versions v JOIN templates t ON t.id = v.template_id"
                " WHERE t.id = %s AND t.owner_id = %s AND v.version = %s",
                (template_id, owner_id, version),
            )
        if row is None:
            raise NotFound(
                f"there is no version {version} of a template {template_id}",
                template_id=template_id,
                version=version,
            )
        return TemplateVersion(*row)

    async def resolve(self, owner_id: UUID, template_id: UUID, version: int | None = None) -> Resolved:
        """The version a start takes: the one named, or the newest published.

        A deprecated template resolves, with `deprecated` set: whether that refuses the start is the caller's
        to say.

        Raises:
            NotFound: The owner has no such template, or it no such version.
            StateConflict: TEMPLATE_NOT_PUBLISHED: no version was asked for, and there is none.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                "SELECT t.id, v.name, v.version, v.source, t.deprecated_at IS NOT NULL, v.pins"
                " FROM templates t LEFT JOIN template_versions v"
                " ON v.template_id = t.id AND v.version = coalesce(%s::integer, t.latest_version)"
                " WHERE t.id = %s AND t.owner_id = %s",
                (version, template_id, owner_id),
            )
        if row is None:
            raise _missing(template_id)
        if row[2] is not None:
            pins = {name: (pin[0], pin[1]) for name, pin in json.loads(row[5]).items()}
            return Resolved(row[0], row[1], row[2], row[3], row[4], pins)
        if version is not None:
            raise NotFound(
                f"there is no version {version} of template {template_id}",
                template_id=template_id,
                version=version,
            )
        raise StateConflict(
            f"template {template_id} has no published version; publish its draft first",
            reason="TEMPLATE_NOT_PUBLISHED",
            template_id=template_id,
        )


def _missing(template_id: UUID) -> NotFound:
    return NotFound(f"there is no template {template_id}", template_id=template_id)


def _template(row: Row | None, template_id: UUID) -> Template:
    if row is None:
        raise _missing(template_id)
    return Template(*row)


def _listed(
    id: UUID,  # noqa: A002
    name: str,
    latest_version: int,
    deprecated_at: datetime | None,
    created_at: datetime,
    updated_at: datetime,
) -> Template:
    return Template(id, name, "", latest_version, deprecated_at, created_at, updated_at)


def _listed_version(
    template_id: UUID, version: int, name: str, published_by: UUID, published_at: datetime
) -> TemplateVersion:
    return TemplateVersion(template_id, version, name, "", published_by, published_at)
