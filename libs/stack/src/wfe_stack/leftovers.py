"""Ends what a stack left behind that was killed together with its guards.

Guards end the children of a killed stack. Where they were killed too, say for want of memory, the next stack in the
folder ends what is left: it holds the folder's lock, so nobody else can be using it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

#: Variable in every part's environment; its value is the stack's folder.
MARK = "WFE_STACK_FOLDER"
#: Seconds they may take to end before they are killed.
SECONDS = 10.0


def clear(folder: Path, postgres: Path) -> int:
    """End the parts of an earlier stack in the folder, its database server last. Returns how many there were.

    Finds nothing where there is no /proc. Needs the folder's lock.
    """
    parts = _marked(folder)
    _end(parts, signal.SIGTERM)
    server = _server(postgres)
    # A fast shutdown; the polite one would wait for whoever is connected.
    _end(server, signal.SIGINT)
    return len(parts) + len(server)


def _marked(folder: Path) -> list[int]:
    mark = f"{MARK}={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # Other people's processes cannot be read, and are not ours.
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return [pid for pid in found if pid != os.getpid()]


def _server(postgres: Path) -> list[int]:
    with suppress(OSError, ValueError):
        pid = int((postgres / "postmaster.pid").read_text().split("\n", 1)[0])
        if Path(f"/proc/{pid}/comm").read_text().strip() == "postgres":
            return [pid]
    return []


def _end(pids: Iterable[int], how: signal.Signals) -> None:
    """Signal them, wait, and kill those that stay."""
    for what in (how, signal.SIGKILL):
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, what)
        deadline = time.monotonic() + SECONDS
        while (pids := [pid for pid in pids if _runs(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not pids:
            return


def _runs(pid: int) -> bool:
    try:
        # After the name, which may hold anything, stands the state; a zombie has ended.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
