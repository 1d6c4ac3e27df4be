"""Committing a cycle: one transaction, one round trip, a handful of statements however many runs it decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import AsyncConnection

from wfe_store import statements as sql
from wfe_store.batch import Batch


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


async def connect(url: str, name: str) -> AsyncConnection[Any]:
    """A connection for cycles, with the planner's settings they want.

    Raises:
        psycopg.OperationalError: The store cannot be reached.
    """
    connection = await AsyncConnection.connect(
        url, autocommit=True, prepare_threshold=0, application_name=name, connect_timeout=5
    )
    await connection.execute(sql.SETTINGS, prepare=False)
    return connection


def _script(batch: Batch) -> list[tuple[str, Sequence[Any]]]:
    """The statements of a batch in the order of locks: runs first, then what hangs on them."""
    now = batch.now
    script: list[tuple[str, Sequence[Any]]] = []

    def add(statement: str, rows: Any, *, before: Sequence[Any] = (), after: Sequence[Any] = ()) -> None:
        if rows.count:
            script.append((statement, (*before, *rows.columns, *after)))

    add(sql.UPDATE_RUNS, batch.runs, after=(now, now, batch.runs.count))
    add(sql.INSERT_KEYS, batch.keys)
    add(sql.INSERT_RUNS, batch.new_runs, after=(now,))
    add(sql.INSERT_SEALED, batch.sealed)
    if batch.copies.count:
        script.append((sql.COPY_STEPS, batch.copies.columns))
        script.append((sql.COPY_SEALED, batch.copies.columns[:2]))
    add(sql.CLOSE_GATES, batch.gates_off, before=(now, now), after=(batch.gates_off.count,))
    add(sql.CHANGE_STEPS, batch.changes, before=(now,), after=(batch.changes.count,))
    add(sql.AGAIN, batch.again, after=(batch.again.count,))
    add(sql.FINISH, batch.finished, after=(now, batch.finished.count))
    add(sql.ROLL_BACK_STEPS, batch.rolled_back)
    add(sql.PUT_STEPS, batch.steps, after=(now,))
    add(sql.REDISPATCH, batch.redispatch, after=(batch.redispatch.count,))
    add(sql.INSERT_DISPATCH, batch.dispatch, after=(now,))
    if batch.hold.count:
        script.append((sql.HOLD_DISPATCH, batch.hold.columns))
        script.append((sql.HOLD_GATES, (now, *batch.hold.columns)))
    add(sql.RELEASE_DISPATCH, batch.release)
    add(sql.RELEASE_GATES, batch.release)
    add(sql.CLEAR_TIMERS, batch.timers_off)
    add(sql.SET_TIMERS, batch.timers)
    add(sql.INSERT_GATES, batch.gates, before=(now,))
    add(sql.TOLD_GATES, batch.told, before=(now,))
    add(sql.INSERT_SNAPSHOTS, batch.snapshots, before=(now,))
    add(sql.INSERT_EVENTS, batch.events, before=(now,))
    add(sql.INSERT_OUTBOX, batch.outbox)
    return script


async def commit(connection: AsyncConnection[Any], batch: Batch) -> list[Stopped]:
    """Write a batch in one transaction and answer once it is durable.

    Returns:
        Leases that ended under executors that still hold them.

    Raises:
        Lost: A run, lease or gate is not what a decision stands on, or a start came twice; nothing was written.
        Unknown: The connection broke.
        psycopg.Error: Postgres refuses something in the batch; nothing was written.
    """
    stopped: list[Stopped] = []
    finish = None
    try:
        async with connection.pipeline():
            await connection.execute("BEGIN")
            for statement, params in _script(batch):
                cursor = await connection.execute(statement, params)
                if statement is sql.FINISH:
                    finish = cursor
            await connection.execute("COMMIT")
    except psycopg.Error as fault:
        if connection.closed or connection.broken:
            raise Unknown from fault
        await connection.execute("ROLLBACK")
        if fault.sqlstate in ("WF001", "23505", "40001", "40P01"):
            raise Lost(str(fault)) from fault
        raise
    if finish is not None:
        row = await finish.fetchone()
        if row is not None and row[1]:
            stopped = [Stopped(*parts) for parts in zip(*row[1:], strict=True)]
    return stopped
