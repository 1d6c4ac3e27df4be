"""A part of what a commit cycle writes: common table expressions over arrays; see `wfe_store.statements`."""

from __future__ import annotations

from wfe_store.arrays import ENCODERS


class Part:
    """What is done to one table.

    Args:
        columns: Names and types of its rows.
        body: Common table expressions, named like nothing else.
        counted: Which of them must have changed as many rows as were sent, and what those are; None where any number
            will do.
    """

    __slots__ = ("_body", "_columns", "_counted", "encoders")

    def __init__(self, columns: str, body: str, *, counted: tuple[str, str] | None = None) -> None:
        self._columns = [(name, kind) for name, kind in (column.split() for column in columns.split(","))]
        self._body = body.strip()
        self._counted = counted
        self.encoders = tuple(ENCODERS[kind] for _, kind in self._columns)

    def text(self, first: int) -> str:
        """The part with its parameters numbered from `first`; the moment of the commit is number 1."""
        places = ", ".join(f"${first + at}::{kind}[]" for at, (_, kind) in enumerate(self._columns))
        names = ", ".join(name for name, _ in self._columns)
        rows = f"unnest({places}) AS d ({names})"
        return self._body.replace("{d}", rows).replace("{now}", "to_timestamp($1::float8)")

    def expectation(self, first: int) -> str | None:
        """What has to be selected for the part to be refused when it changed another number of rows."""
        if self._counted is None:
            return None
        found, what = self._counted
        sent = f"cardinality(${first}::{self._columns[0][1]}[])::bigint"
        return f"wfe_expect((SELECT count(*) FROM {found}), {sent}, '{what}')"  # noqa: S608 - fixed texts
