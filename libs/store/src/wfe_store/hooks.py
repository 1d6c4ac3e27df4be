"""Hooks: doors by which other systems start and signal runs, and the calls that were let in.

Every statement for a caller names the owner: another owner's hook is a missing one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import select
from wfe_engine.errors import NotFound, PermissionDenied, ResourceExhausted

from wfe_store.paging import Page, compiled, fetch_page
from wfe_store.pool import Connection, Database, fetch_one
from wfe_store.schema_webhooks import hooks

SCHEMES = ("standard", "github")
#: Hooks of one owner.
MOST_HOOKS = 1_000

_encode, _decode = msgspec.json.encode, msgspec.json.Decoder(dict[str, str]).decode


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook.

    Attributes:
        id: Of the hook.
        owner_id: Whose runs it starts or signals.
        name: For people.
        scheme: One of SCHEMES.
        template_id, version: What it starts, None for the newest version; no template when it sends signals.
        signal: Name of the signal it sends; empty when it starts runs.
        workflow: CEL over body and headers that gives the id of the run to signal; empty when it starts runs.
        filter: CEL over body and headers; empty takes all.
        input: CEL by variable, or by key of the signal's payload.
        secret: What calls are signed with, sealed.
        created_by: Principal, on whose behalf it acts.
        created_at: When it was made.
    """

    id: UUID
    owner_id: UUID
    name: str
    scheme: str
    template_id: UUID | None
    version: int | None
    signal: str
    workflow: str
    filter: str
    input: dict[str, str]
    secret: bytes
    created_by: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of a call.

    Attributes:
        status: started, signalled or filtered.
        run_id: The run it started or signalled; None for neither.
    """

    status: str
    run_id: UUID | None = None


_c = hooks.c
_HOOKS = select(
    _c.id, _c.owner_id, _c.name, _c.scheme, _c.template_id, _c.version, _c.signal, _c.workflow, _c.filter, _c.input,
    _c.secret, _c.created_by, _c.created_at,
)  # fmt: skip


_MAKER = (
    "SELECT 1 FROM principals WHERE id = %s AND owner_id = %s AND disabled_at IS NULL"
    " AND roles && ARRAY['operator', 'admin']"
)


class Hooks:
    """The hooks of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, made: Hook) -> Hook:
        """Add a hook.

        Raises:
            ResourceExhausted: The owner has too many.
            NotFound: The owner has no such template.
            PermissionDenied: Its maker may start runs only with what a token says: ROLE_NOT_OWN.
        """

        async def work(connection: Connection) -> None:
            if await fetch_one(connection, _MAKER, (made.created_by, made.owner_id)) is None:
                raise PermissionDenied(
                    "a hook acts while nobody is logged in, so its maker needs the role operator or admin of its own",
                    reason="ROLE_NOT_OWN",
                )
            wanted = (made.template_id, made.owner_id)
            template = "SELECT 1 FROM templates WHERE id = %s AND owner_id = %s"
            if made.template_id is not None and await fetch_one(connection, template, wanted) is None:
                raise NotFound(f"there is no template {made.template_id}", template_id=made.template_id)
            row = await fetch_one(connection, "SELECT count(*) FROM hooks WHERE owner_id = %s", (made.owner_id,))
            if row is not None and row[0] >= MOST_HOOKS:
                raise ResourceExhausted(f"there are {MOST_HOOKS} hooks already; delete some", reason="TOO_MANY_HOOKS")
            await connection.execute(
                "INSERT INTO hooks (id, owner_id, name, scheme, template_id, version, signal, workflow, filter, input,"
                " secret, created_by) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    made.id, made.owner_id, made.name, made.scheme, made.template_id, made.version, made.signal,
                    made.workflow, made.filter, _encode(made.input).decode(), made.secret, made.created_by,
                ),
            )  # fmt: skip

        await self._database.transaction(work)
        return await self.get(made.owner_id, made.id)

    async def get(self, owner_id: UUID, hook_id: UUID) -> Hook:
        """One hook.

        Raises:
            NotFound: The owner has no such one.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(connection, *compiled(_HOOKS.where(_c.owner_id == owner_id, _c.id == hook_id)))
        if row is None:
            raise NotFound(f"there is no hook {hook_id}", hook_id=hook_id)
        return _hook(*row)

    async def find(self, hook_id: UUID) -> Hook | None:
        """A hook of any owner, for a call whose signature is still to be checked; None when there is none.

        A hook whose maker was shut out, or may no longer start runs, is none.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(connection, *compiled(_HOOKS.where(_c.id == hook_id)))
            if row is None:
                return None
            hook = _hook(*row)
            maker = await fetch_one(connection, _MAKER, (hook.created_by, hook.owner_id))
        return hook if maker is not None else None

    async def list(self, owner_id: UUID, *, limit: int, offset: int) -> Page[Hook]:
        """The owner's hooks, oldest first."""
        statement = _HOOKS.where(_c.owner_id == owner_id).order_by(_c.created_at, _c.id)
        async with self._database.connection() as connection:
            return await fetch_page(connection, statement, _hook, limit=limit, offset=offset)

    async def delete(self, owner_id: UUID, hook_id: UUID) -> Hook:
        """Remove a hook; gives it as it was.

        Raises:
            NotFound: The owner has no such one.
        """
        found = await self.get(owner_id, hook_id)
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM hooks WHERE id = %s AND owner_id = %s", (hook_id, owner_id))
        return found

    async def receipt(self, hook_id: UUID, message_id: str) -> Receipt | None:
        """What came of a message that was let in before; None when none was."""
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                "SELECT status, run_id FROM hook_receipts WHERE hook_id = %s AND message_id = %s",
                (hook_id, message_id),
            )
        return None if row is None else Receipt(*row)

    async def receive(self, hook_id: UUID, message_id: str, receipt: Receipt) -> None:
        """Keep what came of a message; the first stays."""
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO hook_receipts (hook_id, message_id, status, run_id) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (hook_id, message_id, receipt.status, receipt.run_id),
            )

    async def prune(self, age: timedelta, *, limit: int) -> int:
        """Forget calls that were let in longer ago; gives how many."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                "DELETE FROM hook_receipts WHERE (hook_id, message_id) IN (SELECT hook_id, message_id"
                " FROM hook_receipts WHERE received_at < clock_timestamp() - %s ORDER BY received_at LIMIT %s)",
                (age, limit),
            )
        return cursor.rowcount


def _hook(*row: object) -> Hook:
    columns = list(row)
    columns[9] = _decode(str(columns[9]))
    return Hook(*columns)  # type: ignore[arg-type]
