"""Committing a cycle: one transaction, one round trip, and nearly always one statement however many runs it decides."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from uuid import UUID

import msgspec
import psycopg

from wfe_store import statements as sql
from wfe_store import statements_gates as gate_sql
from wfe_store.batch import Batch, Rows
from wfe_store.part import Part
from wfe_store.wire import Wire

#: Parts that read or write rows which another part of the same transaction may have written before. All parts of one
#: statement see what was there before it, so these are statements of their own.
_APART = frozenset({sql.COPIES, sql.ROLLED_BACK, sql.UNDONE, gate_sql.REVISED, sql.REDISPATCH, sql.HOLD, sql.RELEASE})

_moment = struct.Struct(">d").pack
_decode_stopped = msgspec.json.Decoder(list[tuple[UUID, int, int, str, str]]).decode


class Lost(Exception):
    """A decision in the batch stood on something that is no longer so; nothing was written."""


class Unknown(Exception):
    """The connection broke; the batch may or may not have been written."""


class Stopped(msgspec.Struct, frozen=True):
    """A lease that ended while an executor holds it: tell it to stop."""

    run: UUID
    no: int
    fence: int
    executor: str
    reason: str


async def connect(url: str, name: str) -> Wire:
    """A connection for cycles, with the planner's settings they want.

    Raises:
        psycopg.OperationalError: The store cannot be reached.
    """
    return await Wire.connect(url, name, sql.SETTINGS)


@lru_cache(maxsize=1024)
def composed(parts: tuple[Part, ...]) -> str:
    """One statement that does what these parts do. Gives one row; its last column has what FINISHED stopped."""
    first = 2  # the moment is the first parameter
    bodies, wanted = [], []
    for part in parts:
        bodies.append(part.text(first))
        expectation = part.expectation(first)
        if expectation is not None:
            wanted.append(expectation)
        first += len(part.encoders)
    wanted.append(sql.STOPPED if sql.FINISHED in parts else "NULL")
    # Named here as well, for parts that have no use for it.
    return f"WITH {', '.join(bodies)} SELECT {', '.join(wanted)} WHERE $1::float8 IS NOT NULL"


def _script(batch: Batch) -> list[tuple[str, Sequence[bytes]]]:
    parts = batch.parts()
    moment = _moment(batch.now)
    if _APART.isdisjoint(rows.part for rows in parts) and not _collide(batch):
        return [
            (
                composed(tuple([rows.part for rows in parts])),
                [moment, *[parameter for rows in parts for parameter in rows.parameters()]],
            )
        ]
    return [(composed((rows.part,)), [moment, *rows.parameters()]) for rows in parts]


def _collide(batch: Batch) -> bool:
    """Whether two parts may write the same row: a step gets another attempt and ends, a timer is cleared and set."""
    if _meet(batch.again, batch.finished) or _meet(batch.timers_off, batch.timers):
        return True
    # A parent's row and its child's are one row under two names.
    of_children = (batch.children_done, batch.children, batch.children_begun, batch.children_ended)
    return sum(bool(rows.rows) for rows in of_children) > 1


def _meet(one: Rows, other: Rows) -> bool:
    if not one.rows or not other.rows:
        return False
    return not {row[:2] for row in one.rows}.isdisjoint(row[:2] for row in other.rows)


async def commit(wire: Wire, batch: Batch) -> list[Stopped]:
    """Write a batch in one transaction and answer once it is durable.

    Returns:
        Leases that ended under executors that still hold them.

    Raises:
        Lost: A run, lease or gate is not what a decision stands on, or a start came twice; nothing was written.
        Unknown: The connection broke.
        psycopg.Error: Postgres refuses something in the batch; nothing was written.
    """
    try:
        results = await wire.exchange(_script(batch))
    except psycopg.Error as fault:
        if wire.closed:
            raise Unknown from fault
        if fault.sqlstate in ("WF001", "23505", "40001", "40P01"):
            raise Lost(str(fault)) from fault
        raise
    stopped: list[Stopped] = []
    for result in results:
        found = result.get_value(0, result.nfields - 1)
        if found is not None:
            stopped += [Stopped(*parts) for parts in _decode_stopped(found)]
    return stopped
