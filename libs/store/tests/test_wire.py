"""The connection that commits: refused, cut at every moment, slow, and in pieces; against a real Postgres."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from wfe_store.pool import Database, fetch_all
from wfe_store.statements import SETTINGS
from wfe_store.wire import Wire

from tools.chaos.proxy import Proxy

#: What the server says when it can be asked again; in an answer to an exchange it comes after the commit.
READY = b"Z\x00\x00\x00\x05I"
KEEP = "INSERT INTO kept SELECT $1::text RETURNING what"
TWICE = "INSERT INTO kept SELECT $1::text FROM generate_series(1, 2) RETURNING 1 / (length(what) - 1)"


class Line:
    """A wire through a proxy.

    Attributes:
        url: Of the database, through the proxy.
        name: Of the connection, as the server shows it.
    """

    name = "test-wire"

    def __init__(self, database: Database, proxy: Proxy, url: str) -> None:
        self.database, self.proxy, self.url = database, proxy, url
        self.wire: Wire

    async def connect(self) -> Wire:
        self.wire = await Wire.connect(self.url, self.name, SETTINGS)
        return self.wire

    async def keep(self, *what: str) -> list[str]:
        """Keep texts in one exchange; gives what came back."""
        results = await self.wire.exchange([(KEEP, [text.encode()]) for text in what])
        return [result.get_value(0, 0).decode() for result in results]

    async def kept(self) -> list[str]:
        async with self.database.connection() as connection:
            return [what for (what,) in await fetch_all(connection, "SELECT what FROM kept ORDER BY what")]

    async def heard(self, more: int) -> None:
        """Wait until so many bytes more have reached the proxy."""
        before = self._heard
        while self._heard < before + more:
            await asyncio.sleep(0.001)

    @property
    def _heard(self) -> int:
        return sum(map(len, self.proxy.heard or ()))

    async def gone(self) -> None:
        """Wait until the server has ended the connection, and so committed or undone what it was at."""
        query = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s"
        async with self.database.connection() as connection:
            while await fetch_all(connection, query, (self.name,)):
                await asyncio.sleep(0.01)


@pytest.fixture
async def line(database: Database, database_url: str) -> AsyncIterator[Line]:
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE kept (what text)")
    host = str(conninfo_to_dict(database_url)["host"])
    (socket,) = [path for path in Path(host).glob(".s.PGSQL.*") if not path.name.endswith(".lock")]
    with tempfile.TemporaryDirectory(prefix="wfe-wire-") as folder:
        proxy = Proxy(lambda: socket, lambda _: READY)
        proxy.heard = []
        await proxy.listen(Path(folder) / socket.name)
        made = Line(database, proxy, database_url.replace(quote(host, safe=""), quote(folder, safe="")))
        await made.connect()
        yield made
        await made.wire.close()
        await proxy.close()


async def test_a_connection_whose_settings_are_refused_is_closed(line: Line) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero) as raised:
        await Wire.connect(line.url, "test-refused", "SELECT 1 / 0")
    line.name = "test-refused"
    async with asyncio.timeout(10):
        await line.gone()
    assert raised.value.diag.severity == "ERROR"  # it is kept: what it refers to was not closed by being forgotten


async def test_an_exchange_is_one_transaction_and_gives_the_results_in_order(line: Line) -> None:
    assert await line.keep("a", "b", "c") == ["a", "b", "c"]
    assert await line.keep("d") == ["d"]
    assert await line.kept() == ["a", "b", "c", "d"]


async def test_what_the_server_refuses_is_undone_and_the_wire_goes_on(line: Line) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        await line.wire.exchange([(KEEP, [b"before"]), (TWICE, [b"x"]), (KEEP, [b"after"])])
    assert not line.wire.closed
    # What was not prepared because of it is prepared now; what was is used again.
    assert await line.keep("later") == ["later"]
    await line.wire.exchange([(TWICE, [b"xx"])])
    assert await line.kept() == ["later", "xx", "xx"]


async def test_a_statement_the_server_cannot_read_is_not_remembered_as_prepared(line: Line) -> None:
    for _ in range(2):
        with pytest.raises(psycopg.errors.SyntaxError):
            await line.wire.exchange([("SELEC", [])])
    assert await line.keep("a") == ["a"]


async def test_an_answer_lost_after_the_commit_leaves_its_outcome_unknown_and_the_work_done(line: Line) -> None:
    line.proxy.lose(1)
    with pytest.raises(psycopg.OperationalError):
        await line.keep("a", "b")
    assert line.proxy.lost == 1
    assert line.wire.closed
    assert await line.kept() == ["a", "b"]
    await line.connect()
    assert await line.keep("c") == ["c"]


async def test_a_cut_before_the_commit_leaves_nothing_done(line: Line) -> None:
    async with line.database.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE kept IN ACCESS EXCLUSIVE MODE")
        exchange = asyncio.ensure_future(line.keep("a"))
        while not await fetch_all(
            connection,
            "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'",
            (line.name,),
        ):
            await asyncio.sleep(0.01)
        line.proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            await exchange
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", (line.name,)
        )
    await line.gone()
    assert line.wire.closed
    assert await line.kept() == []


@pytest.mark.parametrize("how", ["cut", "ended by the server"])
async def test_a_connection_that_ended_while_nobody_used_it_is_known_to_be_closed(line: Line, how: str) -> None:
    await line.keep("a")
    if how == "cut":
        line.proxy.cut()
    else:
        async with line.database.connection() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", (line.name,)
            )
    await line.gone()
    async with asyncio.timeout(10):
        while not line.wire.closed:
            await asyncio.sleep(0.01)
    with pytest.raises(psycopg.OperationalError):
        await line.keep("b")
    assert await line.kept() == ["a"]


async def test_an_answer_that_comes_in_pieces_is_read_whole(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dribble(writer: asyncio.StreamWriter, piece: bytes) -> None:
        for at in range(0, len(piece), 3):
            writer.write(piece[at : at + 3])
            await writer.drain()
            await asyncio.sleep(0)

    monkeypatch.setattr(line.proxy, "_send", dribble)
    assert await line.keep("a" * 100, "b") == ["a" * 100, "b"]
    assert await line.keep("c") == ["c"]


async def test_more_than_the_socket_takes_at_once_is_sent_while_answers_are_read(line: Line) -> None:
    line.proxy.delay = 0.002  # the server reads slower than the wire writes, and answers meanwhile
    texts = [chr(97 + n) * 3_000_000 for n in range(3)]
    assert await line.keep(*texts) == texts
    line.proxy.delay = 0.0
    assert await line.kept() == texts


async def test_a_cut_while_a_large_exchange_is_being_sent_ends_it(line: Line) -> None:
    line.proxy.delay = 0.01
    exchange = asyncio.ensure_future(line.keep("a" * 20_000_000))
    await line.heard(1_000_000)
    assert not exchange.done()
    line.proxy.cut()
    with pytest.raises(psycopg.OperationalError):
        await exchange
    assert line.wire.closed
    line.proxy.delay = 0.0
    await line.gone()
    assert await line.kept() == []


async def test_a_cancelled_exchange_closes_the_wire_as_its_outcome_is_unknown(line: Line) -> None:
    line.proxy.delay = 0.2  # it holds up the answer
    exchange = asyncio.ensure_future(line.keep("a"))
    await line.heard(1)
    exchange.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange
    assert line.wire.closed
