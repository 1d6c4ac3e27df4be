"""Fixtures with the real parts: PostgreSQL databases and a NATS server, private to each test process.

Import the fixtures a package's tests need into its conftest. WFE_TEST_DATABASE_URL names a server to use
instead of a private one; its role must be able to create databases. Nothing has a fixed port or name, so
clones and the workers of pytest-xdist run side by side.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from wfe_store.migrate import migrate

from wfe_stack.postgres import PostgresServer, create_database, drop_database

#: Tests lose nothing when the machine does; without waiting for the disk they are several times faster.
TEST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server for this test process."""
    given = os.environ.get("WFE_TEST_DATABASE_URL")
    if given:
        yield given
        return
    # Not pytest's folder: that one is closed to the account the server runs under when tests run as root.
    root = Path(tempfile.mkdtemp(prefix="wfe-test-"))
    try:
        with PostgresServer.start(root / "pg", TEST_SETTINGS) as server:
            yield server.url
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def database_template(postgres_server: str) -> Iterator[str]:
    """Name of a migrated database to copy; nobody may connect to it."""
    name = f"wfe_template_{secrets.token_hex(6)}"
    migrate(create_database(postgres_server, name))
    yield name
    drop_database(postgres_server, name)


@pytest.fixture
def database_url(postgres_server: str, database_template: str) -> Iterator[str]:
    """URL of a fresh, migrated and empty database of the test's own."""
    name = f"wfe_test_{secrets.token_hex(6)}"
    yield create_database(postgres_server, name, template=database_template)
    drop_database(postgres_server, name)


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """URL of a NATS server for this test process, on a port the system picks."""
    binary = Path(sys.executable).parent / "nats-server"
    with tempfile.TemporaryDirectory(prefix="wfe-nats-") as folder:
        arguments = [str(binary), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield _nats_address(process, Path(folder))
        finally:
            process.terminate()
            process.wait(10)


def _nats_address(process: subprocess.Popen[bytes], folder: Path) -> str:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        for path in folder.glob("*.ports"):
            text = path.read_text()
            if text.endswith("}"):
                return str(json.loads(text)["nats"][0])
        time.sleep(0.01)
    raise RuntimeError(f"nats-server did not start: {(folder / 'log').read_text()}")
