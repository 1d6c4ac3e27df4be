"""A pool of connections, transactions that survive cancellation, and faults as the engine's errors.

A cancelled call (a deadline, a client that went away) must not cancel a transaction in mid-air:
`Database.transaction` runs it in a task of its own. Its caller may stop waiting; the transaction still
commits or rolls back, and the connection goes back clean.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.abc import Params, QueryNoTemplate
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout
from wfe_engine.errors import Unavailable

#: Columns in the order of the statement: UUIDs, aware datetimes in UTC; json and jsonb as text.
Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = AsyncConnection[Row]
T = TypeVar("T")

#: Times a transaction is run again after a deadlock, a serialization failure or a connection lost before its
#: commit.
RETRIES = 5
#: Seconds a call waits for a free connection.
POOL_SECONDS = 5.0
#: Seconds one statement may take; lists and sweeps are bounded far below it.
STATEMENT_SECONDS = 30
#: Seconds a transaction may stand idle: a stuck process must not hold locks or keep old rows alive.
IDLE_SECONDS = 10

_CONTENTION = (errors.SerializationFailure, errors.DeadlockDetected)
#: Beyond OperationalError: what a server says while it fails over, and to a transaction that stood idle.
_DOWN = (psycopg.OperationalError, errors.ReadOnlySqlTransaction, errors.IdleInTransactionSessionTimeout)

_log = logging.getLogger("wfe.store")


class Use(NamedTuple):
    """Connections of a pool: taken, free, and calls that wait for one."""

    used: int
    idle: int
    waiting: int


class Database:
    """The run store's connections of one process.

    Args:
        url: postgresql://…; a role that owns the tables or may read and write them.
        name: Shown in pg_stat_activity, e.g. `wfe-approvals`.
        size: Connections at most; the server's max_connections bounds the sum over all processes.
        generic: Statements are planned once, whatever is asked for; see `_configure_generic`.
    """

    def __init__(self, url: str, *, name: str, size: int = 10, generic: bool = False) -> None:
        self.url = url
        self._transactions: set[asyncio.Task[object]] = set()
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=min(2, size),
            max_size=size,
            timeout=POOL_SECONDS,
            # After this the next call tries again; waits between tries never grow longer.
            reconnect_timeout=POOL_SECONDS,
            open=False,
            name=name,
            configure=_configure_generic if generic else _configure,
            kwargs={
                "autocommit": True,
                "application_name": name,
                "connect_timeout": 5,
                "prepare_threshold": 2,
            },
        )

    async def open(self, *, seconds: float = 30.0) -> None:
        """Connect, waiting up to `seconds` for a server that is still starting.

        Raises:
            Unavailable: There was no connection in time.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        await self._pool.open(wait=False)
        while True:
            try:
                await self.ping()
                return
            except Unavailable:
                if asyncio.get_running_loop().time() > deadline:
                    await self.close()
                    raise
                await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Wait for transactions in flight, then close every connection. Safe to repeat."""
        while self._transactions:
            await asyncio.wait(self._transactions)
        await self._pool.close()

    def use(self) -> Use:
        """How the pool is used now."""
        stats = self._pool.get_stats()
        idle = stats.get("pool_available", 0)
        return Use(stats.get("pool_size", 0) - idle, idle, stats.get("requests_waiting", 0))

    async def ping(self) -> None:
        """Ask the server for an answer.

        Raises:
            Unavailable: It gave none.
        """
        async with self.connection() as connection:
            await connection.execute("SELECT 1")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit, for single statements, or for a pipeline with its own transaction.

        Raises:
            Unavailable: The store is down, too busy, or a statement took too long. A statement that writes
                may or may not have happened.
        """
        try:
            async with self._pool.connection() as connection:
                yield connection
        except _DOWN as fault:
            raise unavailable(fault) from fault

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one READ COMMITTED transaction, and commit.

        The transaction runs in its own task: cancelling the caller stops the waiting, not the transaction.
            After a
        deadlock, a serialization failure, or a connection lost before the commit was sent, nothing has
        happened and `work` runs again, at most RETRIES times; so it must have no effect but its statements.

        Raises:
            Unavailable: The store is down or too busy. If the connection was lost during the commit, it may
                or may not have happened: the caller's command must be safe to repeat.
            Exception: Whatever `work` raises; the transaction is rolled back.
        """
        task = asyncio.create_task(self._run(work))
        self._transactions.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[T]) -> None:
        self._transactions.discard(task)
        # Its caller may be gone; an exception nobody fetches would be logged as forgotten.
        if not task.cancelled():
            task.exception()

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            committing = False
            try:
                async with self._pool.connection() as connection, connection.transaction():
                    result = await work(connection)
                    committing = True
                return result
            except _DOWN as fault:
                attempt += 1
                lost = _is_lost(fault)
                if lost:
                    await self._replace_connections(fault)
                again = isinstance(fault, _CONTENTION) or (lost and not committing)
                if not again or attempt > RETRIES:
                    raise unavailable(fault) from fault
                _log.debug("transaction again, attempt %d: %s", attempt, fault)
            # Full jitter: those who collided must not collide again.
            await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))

    async def _replace_connections(self, fault: Exception) -> None:
        """Replace connections that died with the server all at once, rather than by one failed call each."""
        with suppress(psycopg.Error):
            if isinstance(fault, errors.ReadOnlySqlTransaction):
                await self._pool.drain()
            else:
                await self._pool.check()


async def fetch_one(connection: Connection, query: QueryNoTemplate, params: Params | None = None) -> Row | None:
    """The first row of a statement; None when it has none."""
    return await (await connection.execute(query, params)).fetchone()


async def fetch_all(connection: Connection, query: QueryNoTemplate, params: Params | None = None) -> list[Row]:
    """Every row of a statement that is bounded by its own LIMIT or by nature."""
    return await (await connection.execute(query, params)).fetchall()


def _is_lost(fault: Exception) -> bool:
    """Whether the connection went, or leads to a server that only reads; nothing was committed then."""
    if isinstance(fault, PoolTimeout | PoolClosed):
        return False
    lost = (
        errors.AdminShutdown,
        errors.CrashShutdown,
        errors.CannotConnectNow,
        errors.ReadOnlySqlTransaction,
    )
    return isinstance(fault, lost) or (isinstance(fault, psycopg.OperationalError) and fault.sqlstate is None)


def unavailable(fault: Exception) -> Unavailable:
    """What a fault of the store means to whoever asked for something."""
    if isinstance(fault, _CONTENTION):
        return Unavailable("the run store is contended; try again", reason="STORE_CONTENDED")
    if isinstance(fault, PoolTimeout):
        return Unavailable("the run store is busy or down; try again", reason="STORE_BUSY")
    if isinstance(fault, errors.QueryCanceled):
        return Unavailable("the run store took too long; try again", reason="STORE_SLOW")
    if isinstance(fault, errors.DiskFull):
        return Unavailable("the disk of the run store is full; try again when there is room", reason="STORE_FULL")
    return Unavailable("the run store is down; try again", reason="STORE_DOWN")


async def _configure_generic(connection: Connection) -> None:
    """Configure a connection for few statements that are run again and again: each is planned once.

    Left to itself Postgres plans statements over partitioned tables anew each time, which costs more than running them.
    """
    await _configure(connection)
    await connection.execute(
        "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false)"
    )


async def _configure(connection: Connection) -> None:
    # By SET, not by the connection's options: poolers between us and the server drop those.
    await connection.execute(
        "SELECT set_config('statement_timeout', %s, false),"
        " set_config('idle_in_transaction_session_timeout', %s, false), set_config('timezone', 'UTC', false)",
        (f"{STATEMENT_SECONDS}s", f"{IDLE_SECONDS}s"),
    )
    # JSON is passed on as the text it is; parsing it would round numbers and cost time.
    set_json_loads(_text, connection)


def _text(document: str | bytes) -> str:
    return document.decode() if isinstance(document, bytes) else document
