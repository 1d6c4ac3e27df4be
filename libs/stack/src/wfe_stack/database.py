"""The run store of a stack: an own PostgreSQL server in its folder, or somebody else's database."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from wfe_stack.faults import PartFault, StackFault
from wfe_stack.guard import Guard
from wfe_stack.keeper import FIRST_PAUSE, LONGEST_PAUSE, TRIES
from wfe_stack.postgres import PostgresFault, PostgresServer, create_database

NAME = "wfe"
#: Seconds between looks at whether the server is still there.
LOOK_SECONDS = 0.5


class RunStore:
    """The database of one stack. PostgreSQL guards its own server process, see `wfe_stack.postgres`.

    Args:
        folder: Data folder of an own server.
        url: An existing database, used as it is; None for an own server.
        settings: Over the own server's defaults.
        guard: Told to wait for the own server's end.
        say: Tells people, in one line each, what happens to the server by itself.
        lost: Called once, with the reason, when the server cannot be kept running.
    """

    def __init__(
        self,
        folder: Path,
        url: str | None,
        settings: Mapping[str, str],
        guard: Guard,
        say: Callable[[str], None],
        lost: Callable[[PartFault], None],
    ) -> None:
        self._folder = folder
        self._given = url
        self._settings = settings
        self._guard = guard
        self._say = say
        self._lost = lost
        self._server: PostgresServer | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.url = url or ""

    @property
    def is_own(self) -> bool:
        """Whether the server is the stack's own."""
        return self._given is None

    @property
    def pid(self) -> int | None:
        """Process id of the own server; None when there is none running."""
        if self._server is None or not self._server.is_running():
            return None
        with suppress(OSError, ValueError):
            return int((self._folder / "postmaster.pid").read_text().split("\n", 1)[0])
        return None

    async def start(self) -> None:
        """Start the own server if there is to be one, and bring the database to the newest schema.

        Raises:
            PartFault: The server does not start, cannot be reached, or the schema cannot be made.
        """
        # Its import takes a third of a second, which passes while the server starts.
        importing = threading.Thread(target=_import_migrate, daemon=True)
        importing.start()
        await self._start_server()
        await asyncio.to_thread(importing.join)
        await asyncio.to_thread(_migrate, self.url)

    def keep(self) -> None:
        """From now on start the own server again whenever it ends by itself."""
        if self.is_own and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="keep postgres")

    async def stop(self) -> None:
        """End the own server with a fast shutdown. Safe to repeat."""
        await self._let_go()
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.stop)

    async def kill(self) -> None:
        """Kill the own server as a crash would, and keep it down."""
        await self._let_go()
        pid, server = self.pid, self._server
        if pid is None or server is None:
            return
        os.kill(pid, signal.SIGKILL)
        self._server = None
        await asyncio.to_thread(server.stop)

    async def restart(self) -> None:
        """End the own server if it runs, and start it; its URL stays the same."""
        await self.stop()
        await self._start_server()
        self.keep()

    async def _start_server(self) -> None:
        if self._given is not None:
            return
        try:
            self._server = await asyncio.to_thread(PostgresServer.start, self._folder, self._settings)
        except PostgresFault as fault:
            raise PartFault(f"postgres: {fault}") from fault
        if (pid := self.pid) is not None:
            self._guard.await_end(pid)
        self.url = await asyncio.to_thread(create_database, self._server.url, NAME)

    async def _let_go(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._server is not None and self._server.is_running():
                continue
            self._say("postgres ended; starting it again")
            ended, self._server = self._server, None
            try:
                if ended is not None:
                    await asyncio.to_thread(ended.stop)
                await self._start_server()
            except (PartFault, StackFault) as fault:
                failures += 1
                if failures > TRIES:
                    self._lost(PartFault(str(fault)))
                    return
                await asyncio.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures))
                continue
            failures = 0
            self._say("postgres is up again")


def _import_migrate() -> None:
    import wfe_store.migrate  # noqa: F401


def _migrate(url: str) -> None:
    import psycopg
    from sqlalchemy.exc import SQLAlchemyError
    from wfe_store.migrate import StoreInUse, UnfitDatabase, migrate

    if not url.startswith(("postgresql://", "postgres://")):
        raise PartFault("the database cannot be used: its URL must begin with postgresql://")
    try:
        migrate(url)
    except (SQLAlchemyError, psycopg.Error, StoreInUse, UnfitDatabase) as fault:
        lines = str(fault).strip().splitlines()
        raise PartFault(f"the database cannot be used: {lines[0] if lines else repr(fault)}") from fault
