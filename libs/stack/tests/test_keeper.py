"""Parts as processes: started, noticed, started again, ended with all they started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from wfe_stack import keeper as keeper_module
from wfe_stack.faults import PartFault
from wfe_stack.folder import Folder
from wfe_stack.guard import Guard
from wfe_stack.keeper import Keeper
from wfe_stack.parts import Part
from wfe_stack.ports import Ports

SERVER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    server.accept()[0].close()
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)
    return found


class Keepers:
    """Makes keepers, and ends their processes."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.guard = Guard(folder.lock)
        self.said: list[str] = []
        self.lost: list[PartFault] = []
        self.made: list[Keeper] = []

    def __call__(self, *arguments: str, port: int | None = None, stop_seconds: float = 5.0) -> Keeper:
        part = Part(
            name="part",
            arguments=arguments,
            environment=dict(os.environ),
            port=port,
            rank=0,
            stop_seconds=stop_seconds,
        )
        made = Keeper(part, self.folder.logs, self.guard, self.said.append, self.lost.append)
        self.made.append(made)
        return made


@pytest.fixture
async def keepers(tmp_path):
    folder = Folder.take(tmp_path)
    found = Keepers(folder)
    yield found
    for each in found.made:
        await each.stop()
    found.guard.close()
    folder.release()


@pytest.fixture
def port():
    ports = Ports()
    yield ports.reserve()
    ports.release()


async def test_a_part_is_up_when_it_listens(keepers, port):
    keeper = keepers(sys.executable, "-c", SERVER, str(port), port=port)
    keeper.start()
    await keeper.up()
    assert (keepers.folder.logs / "part.log").read_text() == "listening\n"


async def test_a_part_that_cannot_start_says_its_last_line(keepers, port):
    keeper = keepers("sh", "-c", "echo first; echo the disk is full >&2; exit 3", port=port)
    keeper.start()
    with pytest.raises(PartFault, match=r"^part ended with exit code 3: the disk is full \(log: .*part\.log\)$"):
        await keeper.up()


async def test_of_a_json_log_line_the_event_is_said(keepers, port):
    line = '{"level":"error","event":"cannot_connect","exception":"Traceback\\nOSError: no route"}'
    keeper = keepers("sh", "-c", f"printf '%s\\n' '{line}'; exit 1", port=port)
    keeper.start()
    with pytest.raises(PartFault, match="cannot_connect: OSError: no route"):
        await keeper.up()


async def test_a_log_line_that_says_all_is_well_is_not_said(keepers, port):
    keeper = keepers("sh", "-c", """echo '{"level":"info","event":"serving"}'; exit 1""", port=port)
    keeper.start()
    with pytest.raises(PartFault, match=r"^part ended with exit code 1 \("):
        await keeper.up()


async def test_what_an_earlier_process_said_is_not_repeated(keepers, port):
    (keepers.folder.logs / "part.log").write_text("an old complaint\n")
    keeper = keepers("sh", "-c", "exit 1", port=port)
    keeper.start()
    with pytest.raises(PartFault, match=r"^part ended with exit code 1 \("):
        await keeper.up()


async def test_a_program_that_is_missing_is_one_clear_line(keepers):
    with pytest.raises(PartFault, match="part cannot be started: No such file or directory: /no/such/program"):
        keepers("/no/such/program").start()


async def test_a_part_that_dies_is_started_again_and_said(keepers, port):
    keeper = keepers(sys.executable, "-c", SERVER, str(port), port=port)
    keeper.start()
    await keeper.up()
    keeper.keep()
    first = keeper.process.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: "part is up again" in keepers.said)
    assert keeper.process.pid != first
    assert keepers.said[0].startswith("part was ended by SIGKILL; starting it again in")


async def test_a_part_that_never_stays_up_is_given_up(keepers, monkeypatch):
    monkeypatch.setattr(keeper_module, "FIRST_PAUSE", 0.001)
    keeper = keepers("sh", "-c", "echo no licence; exit 1")
    keeper.start()
    keeper.keep()
    (fault,) = await until(lambda: keepers.lost)
    assert str(fault).startswith("part ended with exit code 1: no licence")
    assert len(keepers.said) == keeper_module.TRIES


async def test_a_part_that_was_stopped_stays_stopped(keepers, port):
    keeper = keepers(sys.executable, "-c", SERVER, str(port), port=port)
    keeper.start()
    await keeper.up()
    keeper.keep()
    await keeper.stop()
    await keeper.stop()
    assert keeper.process.returncode == -signal.SIGTERM
    assert keepers.said == []


async def test_a_part_that_ignores_the_request_is_killed(keepers):
    keeper = keepers("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done", stop_seconds=0.2)
    keeper.start()
    await until(lambda: (keepers.folder.logs / "part.log").read_text() == "ready\n")
    await keeper.stop()
    assert keeper.process.returncode == -signal.SIGKILL


async def test_what_a_part_started_ends_with_it(keepers):
    keeper = keepers("sh", "-c", "sleep 600 & echo $!; wait")
    keeper.start()
    child = int(await until(lambda: (keepers.folder.logs / "part.log").read_text().strip()))
    assert alive(child)
    await keeper.stop()
    await until(lambda: not alive(child))


ORPHAN = """
import asyncio, os, sys
from pathlib import Path
from wfe_stack.folder import Folder
from wfe_stack.guard import Guard
from wfe_stack.process import Process

async def main():
    folder = Folder.take(Path(sys.argv[1]))
    child = Process("child", sys.argv[2:], dict(os.environ), folder.logs / "child.log", Guard(folder.lock))
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "child", ["exec sleep 600", "trap 'exit 0' TERM; while :; do sleep 0.05; done"], ids=["plain", "with a trap"]
)
async def test_no_child_outlives_a_parent_that_is_killed(tmp_path, child):
    command = [sys.executable, "-c", ORPHAN, str(tmp_path), "sh", "-c", child]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        parent.wait()
        await until(lambda: not alive(pid))
    # The lock is free once they are gone, not before.
    folder = await asyncio.to_thread(Folder.take, tmp_path)
    assert not alive(pid)
    folder.release()
