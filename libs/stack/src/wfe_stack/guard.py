"""Nothing outlives its stack: a small process of its own that ends the children when their parent is gone.

The parent holds the only writing end of a pipe. However the parent ends, the kernel closes it; the guard then
asks every child to end, waits, kills what is left, and only then gives up the folder's lock. A parent-death
signal would be shorter, but it also fires when the *thread* that started a child ends, and setting it needs
code between fork and exec, which is unsafe beside threads.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress

#: Seconds children may take to end after the parent is gone.
SECONDS = 10

_SCRIPT = """
trap '' INT TERM HUP
groups= others=
while read -r what pid; do
  case $what in
    group) groups="$groups $pid" ;;
    other) others="$others $pid" ;;
    gone) left=; for g in $groups; do [ "$g" = "$pid" ] || left="$left $g"; done; groups=$left ;;
    end) exit 0 ;;
  esac
done
for g in $groups; do kill -s TERM "$g"; done
tries=$(($1 * 10))
while [ $tries -gt 0 ]; do
  alive=
  for p in $groups $others; do kill -s 0 "$p" && alive=1; done
  [ -z "$alive" ] && break
  sleep 0.1
  tries=$((tries - 1))
done
for g in $groups; do kill -s KILL -- "-$g"; done
"""


class Guard:
    """The guard of one stack's children.

    Args:
        lock: File descriptor of the folder's lock. The guard holds it too, so that nobody starts in the
            folder while children of a killed stack are still ending.
    """

    def __init__(self, lock: int) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sh", str(SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            pass_fds=(lock,),
            start_new_session=True,
            bufsize=0,
        )

    def watch(self, pid: int) -> None:
        """Guard a process that leads a group of its own: ask it to end, then kill the whole group."""
        self._say(f"group {pid}")

    def await_end(self, pid: int) -> None:
        """Wait for a process that ends by itself when the parent is gone."""
        self._say(f"other {pid}")

    def forget(self, pid: int) -> None:
        """Guard a process no more; call it once its end was seen, before the number can be another's."""
        self._say(f"gone {pid}")

    def close(self) -> None:
        """End the guard, leaving what it guards alone."""
        self._say("end")
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        # Somebody may have killed the guard; the stack goes on without it.
        with suppress(OSError):
            self._process.stdin.write(line.encode() + b"\n")
