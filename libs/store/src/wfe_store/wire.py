"""A connection for commits: prepared statements in pipeline mode, sent and read with as little in between as possible.

The driver's cursors are made for convenience; here they would cost more than the commits they carry.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

_BAD = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


class Wire:
    """A connection in pipeline mode. One exchange at a time.

    Args:
        connection: Open, in autocommit, and used by nobody else.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pgconn: PGconn = connection.pgconn
        self._prepared: dict[str, bytes] = {}
        self._numbers = itertools.count()
        self._pgconn.enter_pipeline_mode()

    @classmethod
    async def connect(cls, url: str, name: str, settings: str) -> Wire:
        """Open a connection.

        Args:
            url: Of the run store.
            name: Shown in pg_stat_activity.
            settings: Statements to begin with.

        Raises:
            psycopg.OperationalError: The store cannot be reached.
        """
        connection = await AsyncConnection.connect(url, autocommit=True, application_name=name, connect_timeout=5)
        await connection.execute(settings, prepare=False)
        return cls(connection)

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._connection.closed or self._pgconn.status != ConnStatus.OK

    async def close(self) -> None:
        """Close it."""
        await self._connection.close()

    async def exchange(self, script: Sequence[tuple[str, Sequence[bytes]]]) -> list[PGresult]:
        """Run statements in one transaction and one round trip.

        Args:
            script: Texts, prepared when they are seen first, with parameters in the binary format.

        Returns:
            The results of the statements; the transaction is committed.

        Raises:
            psycopg.OperationalError: The connection broke, and was closed; whether the transaction was committed is
                unknown.
            psycopg.Error: The server refused a statement; the transaction is rolled back.
        """
        pgconn = self._pgconn
        prepared: list[str | None] = []  # by result
        try:
            for text, params in script:
                name = self._prepared.get(text)
                if name is None:
                    name = f"c{next(self._numbers)}".encode()
                    pgconn.send_prepare(name, text.encode())
                    self._prepared[text] = name
                    prepared.append(text)
                prepared.append(None)
                pgconn.send_query_prepared(name, params, [Format.BINARY] * len(params), Format.TEXT)
            # Everything up to here is one transaction; it is committed here.
            pgconn.pipeline_sync()
            results = await self._results()
        except BaseException:
            await self.close()
            raise
        fault = None
        for made, result in zip(prepared, results, strict=False):
            if result.status in _BAD:
                fault = fault or error_from_result(result)
            if made is not None and result.status != ExecStatus.COMMAND_OK:
                del self._prepared[made]
        # One more than was asked for: what the commit itself says.
        if fault is None and results[len(prepared) :]:
            fault = error_from_result(results[-1])
        if fault is not None:
            raise fault
        return [result for result in results if result.status == ExecStatus.TUPLES_OK]

    async def _results(self) -> list[PGresult]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[PGresult]] = loop.create_future()
        pgconn, socket = self._pgconn, self._pgconn.socket
        results: list[PGresult] = []

        def read() -> None:
            try:
                pgconn.consume_input()
                while not pgconn.is_busy():
                    result = pgconn.get_result()
                    if result is None:
                        if pgconn.status != ConnStatus.OK:
                            raise OperationalError("the connection was lost")
                        continue
                    if result.status == ExecStatus.PIPELINE_SYNC:
                        if not done.done():
                            done.set_result(results)
                        return
                    results.append(result)
            except Exception as fault:  # noqa: BLE001 - whoever waits must be told
                if not done.done():
                    done.set_exception(fault)

        def write() -> None:
            try:
                if pgconn.flush() == 0:
                    loop.remove_writer(socket)
            except Exception as fault:  # noqa: BLE001 - as above
                loop.remove_writer(socket)
                if not done.done():
                    done.set_exception(fault)

        loop.add_reader(socket, read)
        try:
            if pgconn.flush() != 0:
                loop.add_writer(socket, write)
            return await done
        finally:
            loop.remove_reader(socket)
            loop.remove_writer(socket)
