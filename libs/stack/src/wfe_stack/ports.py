"""Ports on the loopback interface, reserved for as long as the stack lives.

A reserved port is bound but not listened on. The kernel then never hands it out to anybody who asks for a
free one, also not as the near end of an outgoing connection, while a server that asks for this very port with
SO_REUSEADDR (all of ours do) gets it. So a part keeps its port when it is restarted, and stacks side by side
never clash.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path

from wfe_stack.faults import PortTaken, StackFault

LOOPBACK = "127.0.0.1"


class Ports:
    """The reserved ports of one stack."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def reserve(self, port: int = 0, *, host: str = LOOPBACK, what: str = "") -> int:
        """Reserve a port and return it.

        Args:
            port: The one to reserve; 0 for any free one.
            host: Address the server will listen on.
            what: How to name another one, e.g. "--port", for the message when this one is taken.

        Raises:
            PortTaken: Somebody listens on it.
        """
        held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((host, port))
        except OSError as fault:
            held.close()
            mend = f"; choose another with {what}" if what else ""
            if fault.errno == errno.EADDRINUSE:
                by = _listener(port)
                raise PortTaken(f"port {port} is taken{f' by {by}' if by else ''}{mend}") from fault
            if fault.errno != errno.EACCES:
                mend = "; name another address with --host" if what else ""
            raise StackFault(f"cannot listen on {host} port {port}: {fault.strerror}{mend}") from fault
        self._held.append(held)
        return int(held.getsockname()[1])

    def release(self) -> None:
        """Give every port back."""
        for held in self._held:
            held.close()
        self._held.clear()


def _listener(port: int) -> str:
    """Who listens on a TCP port, as "name (process id)"; empty when the system does not tell."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{columns[9]}]")
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for handle in (process / "fd").iterdir():
                if str(handle.readlink()) in inodes:
                    return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""
