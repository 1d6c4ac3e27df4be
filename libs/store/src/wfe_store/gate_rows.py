"""Gates as they are: one, a run's, the inbox.

Every statement for a caller names the owner: another owner's gate is a missing one. How they are decided is in
`gate_decide`, what people do with them before in `gate_acts`, what time does in `gate_time`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnClause, Select, bindparam, func, literal_column, null, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid
from wfe_engine.errors import NotFound, Unavailable

from wfe_store.blobs import load_blobs, referred
from wfe_store.gate import Decision, Gate
from wfe_store.gate_policy import Decider, Policy
from wfe_store.paging import Page, compiled, fetch_page
from wfe_store.pool import Connection, Database, fetch_all, fetch_one
from wfe_store.schema import runs
from wfe_store.schema_gates import gates

#: Characters of a body that lists show.
BODY_IN_LISTS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which gates of an inbox.

    Attributes:
        status: One of STATUSES; None for all.
        run_id: Only gates of this run.
        mine: Only gates this one may decide now.
        risk: Only of this risk.
        template: Only of runs of this template, by name.
        due_before: Only with a deadline before.
        claimed_by: Only claimed by this one.
    """

    status: str | None = None
    run_id: UUID | None = None
    mine: Decider | None = None
    risk: str | None = None
    template: str | None = None
    due_before: datetime | None = None
    claimed_by: UUID | None = None


#: Of the table gates.
REPLACED_BY = """SELECT n.id FROM gates n WHERE n.run_id = gates.run_id AND n.replaces = gates.id
    ORDER BY n.created_at DESC LIMIT 1"""
_OVERDUE: ColumnClause[bool] = literal_column(
    "(gates.status = 'open' AND gates.expires_at <= coalesce(gates.held_at, clock_timestamp())) IS TRUE"
)
_REPLACED_BY = literal_column(f"({REPLACED_BY})", Uuid).label("replaced_by")
COLUMNS = [column for column in gates.c if column.name not in ("owner_id", "told_at")]
#: The same for statements that are text; the table must be called gates.
COLUMN_TEXT = ", ".join(f"gates.{column.name}" for column in COLUMNS) + f", ({REPLACED_BY}), {_OVERDUE.name}"
_GATES = select(*COLUMNS, _REPLACED_BY, _OVERDUE)
# Payloads and bodies are as large as people make them: a page of them would not fit a message.
_SHORT = {
    "payload": null(),
    "edited": null(),
    "form": null(),
    "patch": null(),
    "body": func.left(gates.c.body, BODY_IN_LISTS),
}
_LISTED = [_SHORT.get(column.name, column) for column in COLUMNS]
_BARS = "wfe_gate_bars(gates, :me)"
_VOTED = """EXISTS (SELECT 1 FROM gate_votes v WHERE v.gate_id = gates.id AND v.principal_id = :me
    AND (v.vote <> 'approve' OR v.digest = gates.digest))"""
#: The rules of Policy.admits and wfe_gate_bars, for what one can still say something to.
_MINE = f"""gates.status = 'open' AND coalesce(gates.expires_at > coalesce(gates.held_at, clock_timestamp()), true)
    AND (gates.who && :tokens OR (gates.who && :lent AND gates.policy LIKE '%"delegation":"anyone"%'))
    AND {_BARS} IS NULL AND NOT {_VOTED}"""


class GateRows:
    """Gates as they are."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get(
        self, owner_id: UUID, gate_id: UUID, *, run_id: UUID | None = None, seen_by: UUID | None = None
    ) -> Gate:
        """One gate; of that run when one is given; with what bars that principal.

        Raises:
            NotFound: The owner, or his run, has no such gate.
        """
        statement = _GATES if seen_by is None else _GATES.add_columns(_bars(seen_by))
        statement = statement.where(gates.c.owner_id == owner_id, gates.c.id == gate_id)
        if run_id is not None:
            statement = statement.where(gates.c.run_id == run_id)
        async with self.database.connection() as connection:
            row = await fetch_one(connection, *compiled(statement))
        if row is None:
            raise missing(gate_id)
        return gate_of(row)

    async def whole(self, *some: Gate) -> tuple[Gate, ...]:
        """Gates with the payloads that are kept out of line.

        Raises:
            Unavailable: One of them is not there.
        """
        found: list[tuple[Gate, str, UUID]] = []
        for gate in some:
            for name, kept in (("payload", gate.payload), ("edited", gate.edited)):
                blob = None if kept is None else referred(kept)
                if blob is not None:
                    found.append((gate, name, blob[0]))
        if not found:
            return some
        async with self.database.connection() as connection:
            large = await load_blobs(connection, {(gate.run_id, id_) for gate, _, id_ in found})
        values: dict[UUID, dict[str, Any]] = {}
        for gate, name, id_ in found:
            if (gate.run_id, id_) not in large:
                raise Unavailable(f"the payload of gate {gate.id} is not there", reason="PAYLOAD_MISSING")
            values.setdefault(gate.id, {})[name] = large[gate.run_id, id_].decode()
        return tuple(replace(gate, **values.get(gate.id, {})) for gate in some)

    async def some(self, owner_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Gate]:
        """Those of these gates the owner has."""
        g = gates.c
        async with self.database.connection() as connection:
            rows = await fetch_all(connection, *compiled(_GATES.where(g.owner_id == owner_id, g.id.in_(ids))))
        return {gate.id: gate for gate in map(gate_of, rows)}

    async def of_run(self, owner_id: UUID, run_id: UUID) -> Sequence[Gate]:
        """The gates of a run, open and closed, oldest first; at most 1,000."""
        g = gates.c
        statement = _GATES.where(g.owner_id == owner_id, g.run_id == run_id).order_by(g.created_at, g.id)
        async with self.database.connection() as connection:
            return [gate_of(row) for row in await fetch_all(connection, *compiled(statement.limit(1000)))]

    async def list(
        self,
        owner_id: UUID,
        asked: Asked,
        *,
        seen_by: UUID | None = None,
        lent: Iterable[str] = (),
        limit: int,
        offset: int,
    ) -> Page[Gate]:
        """The owner's gates, oldest first, without payloads and with bodies cut to BODY_IN_LISTS characters.

        Args:
            lent: Tokens of those the one of `asked.mine` may stand for.
        """
        columns = [*_LISTED, _REPLACED_BY, _OVERDUE]
        if seen_by is not None:
            columns.append(_bars(seen_by))
        statement = _asked(select(*columns), owner_id, asked, lent)
        if statement is None:
            return Page((), 0)
        g = gates.c
        async with self.database.connection() as connection:
            return await fetch_page(
                connection,
                statement.order_by(g.created_at, g.id),
                lambda *row: gate_of(row),
                limit=limit,
                offset=offset,
            )

    async def count(self, owner_id: UUID, asked: Asked, *, lent: Iterable[str] = (), most: int = 10_000) -> int:
        """How many there are; exact up to `most`."""
        statement = _asked(select(gates.c.id), owner_id, asked, lent)
        if statement is None:
            return 0
        async with self.database.connection() as connection:
            row = await fetch_one(
                connection, *compiled(select(func.count()).select_from(statement.limit(most).subquery()))
            )
        return int(row[0]) if row else 0

    async def untold(self, *, older_than: timedelta = timedelta(seconds=1), limit: int = 500) -> Sequence[Decision]:
        """Decisions and notes no scheduler has taken in for that long, oldest first.

        Each with its run's present version.
        """
        async with self.database.connection() as connection:
            rows = await fetch_all(
                connection,
                "SELECT g.run_id, g.id, r.version FROM (SELECT id, run_id, decided_at AS at FROM gates"
                " WHERE told_at IS NULL AND outcome IS NOT NULL UNION ALL"
                " SELECT gate_id, run_id, min(at) FROM gate_notes WHERE told_at IS NULL GROUP BY 1, 2) g"
                " JOIN runs r ON r.id = g.run_id WHERE g.at < clock_timestamp() - %s ORDER BY g.at LIMIT %s",
                (older_than, limit),
            )
        return list(dict.fromkeys(Decision(*row) for row in rows))


def missing(gate_id: UUID) -> NotFound:
    """That there is no such gate, for this owner and run."""
    return NotFound(f"there is no gate {gate_id}", gate_id=gate_id)


def gate_of(row: Sequence[Any]) -> Gate:
    """The gate of a row of COLUMNS, its successor, overdue, and perhaps barred."""
    columns = list(row)
    columns[_POLICY_AT] = Policy.parse(str(columns[_POLICY_AT]))
    columns[_WHO_AT], columns[_WHO_AT + 1] = tuple(columns[_WHO_AT]), tuple(columns[_WHO_AT + 1])
    return Gate(*columns)


async def load_gate(connection: Connection, owner_id: UUID, gate_id: UUID, run_id: UUID | None = None) -> Gate:
    """One gate, in somebody's transaction.

    Raises:
        NotFound: There is none.
    """
    row = await fetch_one(
        connection,
        f"SELECT {COLUMN_TEXT} FROM gates WHERE id = %s AND owner_id = %s AND coalesce(run_id = %s, true)",  # noqa: S608
        (gate_id, owner_id, run_id),
    )
    if row is None:
        raise missing(gate_id)
    return gate_of(row)


def _bars(who: UUID) -> Any:
    return func.wfe_gate_bars(literal_column("gates"), bindparam("me", who, Uuid)).label("barred")


def _asked(statement: Select[Any], owner_id: UUID, asked: Asked, lent: Iterable[str]) -> Select[Any] | None:
    """With its conditions; None when nothing can match."""
    g = gates.c
    statement = statement.where(g.owner_id == owner_id)
    for column, wanted in ((g.status, asked.status), (g.run_id, asked.run_id), (g.risk, asked.risk)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if asked.claimed_by is not None:
        statement = statement.where(g.claimed_by == asked.claimed_by)
    if asked.due_before is not None:
        statement = statement.where(g.expires_at < asked.due_before)
    if asked.template is not None:
        r = runs.c
        statement = statement.where(select(r.id).where(r.id == g.run_id, r.template_name == asked.template).exists())
    if asked.mine is not None:
        tokens = asked.mine.tokens
        if not tokens:
            return None
        statement = statement.where(
            text(_MINE).bindparams(
                bindparam("tokens", tokens, ARRAY(Text)),
                bindparam("lent", list(lent), ARRAY(Text)),
                bindparam("me", asked.mine.principal_id, Uuid),
            )
        )
    return statement


_POLICY_AT = list(Gate.__dataclass_fields__).index("policy")
_WHO_AT = list(Gate.__dataclass_fields__).index("who")
