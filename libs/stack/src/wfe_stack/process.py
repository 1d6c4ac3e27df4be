"""One child process: a group of its own, its output in a log, and its end noticed at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from wfe_stack.faults import PartFault
from wfe_stack.guard import Guard

#: A log longer than this is moved aside when its part starts.
LOG_BYTES = 10_000_000
#: Levels of log lines that say nothing about why a process ended.
_IDLE = frozenset({"debug", "info"})


class Process:
    """A running child.

    It leads a group of its own, so that an interrupt at the terminal reaches only the stack, which ends its
    parts in order, and so that children of the child can be ended with it.

    Args:
        name: Of the part.
        arguments: Program and arguments.
        environment: The child's whole environment.
        log: File its output is appended to.
        guard: Ends it should this process die.

    Raises:
        PartFault: The program cannot be run.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path, guard: Guard
    ) -> None:
        self.name = name
        self.log = log
        self._guard = guard
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._log_from = os.fstat(handle).st_size
        try:
            self._popen = subprocess.Popen(
                arguments,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
            )
        except OSError as fault:
            raise PartFault(f"{name} cannot be started: {fault.strerror}: {arguments[0]}") from fault
        finally:
            os.close(handle)
        guard.watch(self._popen.pid)
        self._ended = asyncio.create_task(self._await_end(), name=f"end of {name}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """How it ended: an exit code, or minus the signal; None while it runs."""
        # Not poll(), which would clear the process away and free its number while others still use it.
        return self._popen.returncode

    async def wait(self) -> int:
        """Wait until it has ended and been cleared away; cancelling the wait does not touch the process."""
        return await asyncio.shield(self._ended)

    def send(self, what: signal.Signals) -> None:
        """Send a signal to the process alone; nothing happens when it has ended."""
        if self.returncode is None:
            os.kill(self.pid, what)

    def kill(self) -> None:
        """Kill the process and everything it started."""
        if self.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, seconds: float, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; kill it when it takes longer than `seconds`."""
        self.send(how)
        try:
            return await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            self.kill()
            return await self.wait()

    def outcome(self) -> str:
        """How it ended, and the last thing it said, on one line."""
        code = self.returncode
        if code is None:
            how = "is running"
        elif code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        # Nobody who is killed says why.
        said = self.last_words() if code != -signal.SIGKILL else ""
        return f"{how}: {said}" if said else how

    def last_words(self) -> str:
        """The last telling line of its log since it was started; empty when it wrote nothing."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_from, size - 16_384))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
        for line in reversed(lines):
            text = _plain(line)
            if text:
                return text if len(text) <= 300 else text[:299] + "…"
        return ""

    async def _await_end(self) -> int:
        await _exited(self.pid)
        # It is a zombie still, so its number is nobody else's: end what it left behind, then clear it away.
        with suppress(PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._guard.forget(self.pid)
        return self._popen.wait()


async def _exited(pid: int) -> None:
    """Wait until a child has ended, without clearing it away."""
    if not hasattr(os, "pidfd_open"):
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _plain(line: str) -> str:
    """A log line for people: of a JSON line its event and error; empty when all was well."""
    if line.startswith("{"):
        with suppress(ValueError):
            entry = json.loads(line)
            if entry.get("level") in _IDLE:
                return ""
            words = [str(entry[name]) for name in ("event", "error", "fault", "reason") if entry.get(name)]
            exception = str(entry.get("exception") or "").strip().splitlines()
            return ": ".join([*words, *exception[-1:]]) or line
    return line
