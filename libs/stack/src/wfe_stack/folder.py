"""The data folder of a stack: who may use it, what lies where, and the secrets in it."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from wfe_stack.faults import FolderInUse, StackFault

#: Seconds to wait for the parts of a stack that was killed and are still ending.
ENDING_SECONDS = 20.0


class Folder:
    """A data folder this process has for itself. Make one with `take`, give it back with `release`.

    Attributes:
        path: The folder.
        lock: File descriptor of its lock.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock

    @classmethod
    def take(cls, path: Path) -> Folder:
        """Make the folder if it is missing, and lock it. Blocks while the parts of a killed stack end.

        Raises:
            FolderInUse: Another stack runs in it.
            StackFault: It cannot be made or written.
        """
        path = path.expanduser().resolve()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise StackFault(f"the folder {path} cannot be used: {fault.strerror}; name another with --home") from fault
        deadline = time.monotonic() + ENDING_SECONDS
        while not _try_lock(lock):
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
            if _is_alive(holder) or time.monotonic() > deadline:
                os.close(lock)
                raise FolderInUse(
                    f"another stack runs in {path} (process {holder or 'unknown'}); "
                    "stop it, or name another folder with --home"
                )
            time.sleep(0.05)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        folder = cls(path, lock)
        folder.logs.mkdir(mode=0o700, exist_ok=True)
        return folder

    @property
    def postgres(self) -> Path:
        """Where the run store keeps its files."""
        return self.path / "postgres"

    @property
    def logs(self) -> Path:
        """Where the parts' logs are."""
        return self.path / "logs"

    @property
    def seal_key(self) -> Path:
        """The key sensitive values are sealed with. Made once: without it they cannot be opened again."""
        path = self.path / "seal.key"
        if not path.exists():
            write_private(path, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        return path

    @property
    def keys(self) -> Path:
        """API keys of the seeded people, by name."""
        return self.path / "keys.json"

    @property
    def address(self) -> Path:
        """Where a running stack can be reached; see `read_address`."""
        return self.path / "stack.json"

    def release(self) -> None:
        """Let others use the folder. Safe to repeat."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def read_address(folder: Path) -> dict[str, Any]:
    """What the stack running in the folder says of itself: `url`, `grpc`, `process`. Empty when none runs."""
    try:
        address = json.loads((folder / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    return address if isinstance(address, dict) and _is_alive(str(address.get("process", ""))) else {}


def read_keys(path: Path) -> dict[str, str]:
    """Keys by person. Empty when the file is missing.

    Raises:
        StackFault: The file cannot be read, or holds something else.
    """
    try:
        keys = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as fault:
        raise StackFault(f"{path} cannot be read: {fault}") from fault
    if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
        raise StackFault(f"{path} is not a JSON object of keys by name; remove it, and the next start makes new keys")
    return keys


def key_of(path: Path, name: str) -> str:
    """The key of a person.

    Raises:
        StackFault: The file has none; the message says what to do.
    """
    keys = read_keys(path)
    if name not in keys:
        known = f"; it has those of {', '.join(keys)}" if keys else "; start the engine with `wfe up` to make it"
        raise StackFault(f"there is no key of {name!r} in {path}{known}")
    return keys[name]


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner may read; it appears whole or not at all.

    Raises:
        StackFault: It cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with suppress(FileNotFoundError):
            fresh.unlink()
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as fault:
        raise StackFault(f"{path} cannot be written: {fault.strerror}") from fault


def is_open(path: Path) -> bool:
    """Whether others than its owner may read or write a file."""
    return bool(path.stat().st_mode & 0o077)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
