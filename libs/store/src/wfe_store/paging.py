"""Pages of filtered lists: the rows, and how many match in all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func, literal, select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from wfe_store.pool import Connection, fetch_all

#: Totals are exact up to this, and stay at it beyond: counting a million rows to show one page is not worth
#: it.
TOTAL_CAP = 10_000
T = TypeVar("T")

_dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list.

    Attributes:
        items: The rows of the page, in the list's order.
        total: How many rows match in all, exact up to TOTAL_CAP and never more.
    """

    items: tuple[T, ...]
    total: int


def compiled(statement: Select[Any]) -> tuple[str, dict[str, Any]]:
    """A statement as psycopg takes it: text with %(name)s in it, and the values."""
    built = statement.compile(dialect=_dialect, compile_kwargs={"render_postcompile": True})
    return str(built), dict(built.params)


async def fetch_page(
    connection: Connection, statement: Select[Any], build: Callable[..., T], *, limit: int, offset: int
) -> Page[T]:
    """Run a list query for one page, and count what it matches.

    The two are read one after the other, so a row that comes in between may show in only one of them.

    Args:
        connection: In autocommit or in a transaction; nothing is locked.
        statement: The query, ordered, without limit and offset.
        build: Makes an item of a row's columns, in the order of the statement.
        limit: Rows of a page; the caller has checked it.
        offset: Rows to pass over.
    """
    rows = await fetch_all(connection, *compiled(statement.limit(limit).offset(offset)))
    if offset == 0 and len(rows) < limit:
        return Page(tuple(build(*row) for row in rows), len(rows))
    capped = statement.with_only_columns(literal(1), maintain_column_froms=True).order_by(None)
    counting = select(func.count()).select_from(capped.limit(TOTAL_CAP + 1).subquery())
    ((total,),) = await fetch_all(connection, *compiled(counting))
    return Page(tuple(build(*row) for row in rows), min(total, TOTAL_CAP))
