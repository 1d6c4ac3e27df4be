"""The private server: makes its folder, is shared, stops, and says in one line what is wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from wfe_stack.postgres import PostgresFault, PostgresServer, create_database, drop_database
from wfe_stack.testing import TEST_SETTINGS

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server under another account")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="wfe-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def setting(url: str, name: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return row[0]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # As root's child's child it may be left unreaped where nobody is process 1.
    return " Z " in Path(f"/proc/{pid}/stat").read_text() if Path(f"/proc/{pid}/stat").exists() else True


def test_it_keeps_its_data_listens_on_a_socket_alone_and_stops(root: Path) -> None:
    with PostgresServer.start(root / "deep" / "pg") as server:
        assert server.owned
        assert (setting(server.url, "listen_addresses"), setting(server.url, "fsync")) == ("", "on")
        assert setting(server.url, "max_connections") == "200"
        assert str(setting(server.url, "server_version")).startswith("18")
        url = create_database(server.url, "wfe")
        assert create_database(server.url, "wfe") == url
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    assert not server.is_running()
    assert not (root / "deep" / "pg" / "postmaster.pid").exists()
    server.stop()
    with PostgresServer.start(root / "deep" / "pg", {"shared_buffers": "32MB"}) as server:
        assert setting(server.url, "shared_buffers") == "32MB"
        with psycopg.connect(server.database_url("wfe")) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (42,)
        drop_database(server.url, "wfe")
        drop_database(server.url, "wfe")


def test_a_second_start_shares_the_server_and_leaves_it_running(root: Path) -> None:
    with PostgresServer.start(root / "pg", TEST_SETTINGS) as first:
        with PostgresServer.start(root / "pg", TEST_SETTINGS) as second:
            assert (first.owned, second.owned) == (True, False)
            assert second.is_running()
        assert first.is_running()
        assert setting(second.url, "fsync") == "off"


def test_two_folders_side_by_side_are_two_servers(root: Path) -> None:
    with PostgresServer.start(root / "a", TEST_SETTINGS) as a, PostgresServer.start(root / "b", TEST_SETTINGS) as b:
        create_database(a.url, "only_here")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(b.database_url("only_here"))


_HOLDER = """
import sys, time
from pathlib import Path
from wfe_stack.postgres import PostgresServer
server = PostgresServer.start(Path(sys.argv[1]), {"fsync": "off"})
print((Path(sys.argv[1]) / "postmaster.pid").read_text().split()[0], flush=True)
time.sleep(60)
"""


def test_a_start_waits_for_what_a_killed_server_left(root: Path) -> None:
    first = PostgresServer.start(root / "pg", TEST_SETTINGS)
    connection = psycopg.connect(first.url)
    session = connection.info.backend_pid
    try:
        # A session that is slow to notice that its server is gone.
        os.kill(session, signal.SIGSTOP)
        os.kill(int((root / "pg" / "postmaster.pid").read_text().split("\n", 1)[0]), signal.SIGKILL)
        first.stop()
        with ThreadPoolExecutor() as threads:
            starting = threads.submit(PostgresServer.start, root / "pg", TEST_SETTINGS)
            try:
                deadline = time.monotonic() + 30
                while "pre-existing shared memory block" not in (root / "pg" / "log").read_text():
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            finally:
                os.kill(session, signal.SIGCONT)
            with starting.result(60) as again:
                assert setting(again.url, "fsync") == "off"
    finally:
        connection.close()


def test_the_server_ends_when_its_process_is_killed(root: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(root / "pg")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    holder.kill()
    holder.communicate()
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline, "the server outlived the process that started it"
        time.sleep(0.02)
    with PostgresServer.start(root / "pg", TEST_SETTINGS) as server:
        assert server.owned


def test_starting_twice_at_once_makes_one_server(root: Path) -> None:
    holders = [
        subprocess.Popen([sys.executable, "-c", _HOLDER, str(root / "pg")], stdout=subprocess.PIPE) for _ in range(3)
    ]
    pids = {holder.stdout.readline() for holder in holders if holder.stdout is not None}
    for holder in holders:
        holder.kill()
        holder.communicate()
    assert len(pids) == 1


def test_a_pid_file_left_by_a_crash_does_not_matter(root: Path) -> None:
    with PostgresServer.start(root / "pg", TEST_SETTINGS) as server:
        left = (root / "pg" / "postmaster.pid").read_text()
    lines = left.splitlines()
    lines[0] = str(os.getpid())
    (root / "pg" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    with PostgresServer.start(root / "pg", TEST_SETTINGS) as server:
        assert server.owned


@pytest.mark.parametrize("name", ["p" * 120, "with blank, comma"])
def test_a_folder_no_socket_can_lie_in_works_all_the_same(root: Path, name: str) -> None:
    with PostgresServer.start(root / name, TEST_SETTINGS) as server:
        assert setting(server.url, "fsync") == "off"
        sockets = Path(str(setting(server.url, "unix_socket_directories")))
    assert sockets.parent == Path("/tmp")
    shutil.rmtree(sockets)


@as_root
def test_as_root_the_way_to_a_closed_folder_is_opened_for_passing_only(root: Path) -> None:
    closed = root / "closed"
    closed.mkdir(mode=0o700)
    with PostgresServer.start(closed / "pg", TEST_SETTINGS):
        pass
    assert closed.stat().st_mode & 0o777 == 0o701
    assert (closed / "pg").stat().st_uid != 0


def fault(folder: Path, settings: dict[str, str] | None = None) -> str:
    with pytest.raises(PostgresFault) as raised:
        PostgresServer.start(folder, {**TEST_SETTINGS, **(settings or {})})
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_another_versions_folder_is_refused(root: Path) -> None:
    (root / "pg").mkdir()
    (root / "pg" / "PG_VERSION").write_text("16\n")
    message = fault(root / "pg")
    assert "is of PostgreSQL 16, this is 18" in message
    assert str(root / "pg") in message


def test_a_folder_with_something_else_is_refused_and_kept(root: Path) -> None:
    (root / "pg").mkdir()
    (root / "pg" / "precious").write_text("x")
    assert "holds something else" in fault(root / "pg")
    assert (root / "pg" / "precious").read_text() == "x"


def test_a_file_in_the_way_is_refused(root: Path) -> None:
    (root / "pg").write_text("x")
    assert "cannot be" in fault(root / "pg" / "deeper")


@not_as_root
def test_an_unwritable_folder_is_refused(root: Path) -> None:
    root.chmod(0o500)
    assert "cannot be made: Permission denied" in fault(root / "pg")
    root.chmod(0o700)


def test_a_setting_the_server_refuses_is_named(root: Path) -> None:
    message = fault(root / "pg", {"max_connections": "-5"})
    assert "did not start" in message
    assert "max_connections" in message
