"""A connection for commits: prepared statements in pipeline mode, sent and read with as little in between as possible.

The driver's cursors are made for convenience; here they would cost more than the commits they carry.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, cast

from psycopg import AsyncConnection, OperationalError
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

#: As plain numbers: there is one for each parameter, and the driver looks at every one.
_BINARY, _TEXT = cast(Format, int(Format.BINARY)), cast(Format, int(Format.TEXT))
_BAD = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


class Wire:
    """A connection in pipeline mode. One exchange at a time.

    Args:
        connection: Open, in autocommit, and used by nobody else.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pgconn: PGconn = connection.pgconn
        self._prepared: dict[str, tuple[bytes, list[Format]]] = {}
        self._numbers = itertools.count()
        self._socket = self._pgconn.socket
        self._listens = False
        self._found: list[PGresult] = []
        self._done: asyncio.Future[list[PGresult]] | None = None
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
        try:
            await connection.execute(settings, prepare=False)
            return cls(connection)
        except BaseException:
            await connection.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._connection.closed or self._pgconn.status != ConnStatus.OK

    async def close(self) -> None:
        """Close it. Safe to repeat."""
        self._deafen()
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
                known = self._prepared.get(text)
                if known is None:
                    known = f"c{next(self._numbers)}".encode(), [_BINARY] * len(params)
                    pgconn.send_prepare(known[0], text.encode())
                    self._prepared[text] = known
                    prepared.append(text)
                prepared.append(None)
                pgconn.send_query_prepared(known[0], params, known[1], _TEXT)
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
        pgconn = self._pgconn
        self._found = []
        self._done = loop.create_future()
        if not self._listens:
            # For good: to begin and end it with each exchange would cost more than the rest of this.
            loop.add_reader(self._socket, self._read)
            self._listens = True
        if pgconn.flush() != 0:
            loop.add_writer(self._socket, self._write)
        try:
            return await self._done
        finally:
            self._done = None

    def _read(self) -> None:
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    if pgconn.status != ConnStatus.OK:
                        raise OperationalError("the connection was lost")
                    if self._done is None or self._done.done():
                        return  # nobody waits, or whoever does has not had his turn yet: there is nothing more to read
                    continue
                if result.status == ExecStatus.PIPELINE_SYNC:
                    self._tell(None)
                    return
                self._found.append(result)
        except Exception as fault:  # noqa: BLE001 - whoever waits must be told
            self._deafen()
            self._tell(fault)

    def _write(self) -> None:
        try:
            if self._pgconn.flush() == 0:
                asyncio.get_running_loop().remove_writer(self._socket)
        except Exception as fault:  # noqa: BLE001 - as above
            self._deafen()
            self._tell(fault)

    def _tell(self, fault: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if fault is None:
            self._done.set_result(self._found)
        else:
            self._done.set_exception(fault)

    def _deafen(self) -> None:
        if self._listens:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
        self._listens = False
