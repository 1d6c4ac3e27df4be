"""What a commit is made of: parts, each of which does one thing to one table for any number of rows.

A part is written as common table expressions, so that the parts of a cycle make one statement: one message to the
server, one answer, one transaction (see `wfe_store.commit`). Where a decision stands on what a part finds, the part
counts its rows; another number than was sent ends in `wfe_expect`, which refuses the transaction, and the cycle then
decides its runs one by one.

In a part, `{d}` stands for its rows and `{now}` for the moment of the commit.
"""

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
