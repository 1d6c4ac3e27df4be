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
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from wfe_store import schema_webhooks  # its tables are of the metadata too
from wfe_store.migrate import migrate
from wfe_store.schema import METADATA

from wfe_stack.postgres import PostgresServer, create_database, drop_database, with_database

#: Tests lose nothing when the machine does; without waiting for the disk they are several times faster.
TEST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
}


#: Tables others refer to, in the order they can be emptied in.
_REFERRED = (
    schema_webhooks.webhooks.name,
    schema_webhooks.hooks.name,
    *("group_members", "api_keys", "secrets", "template_versions", "templates", "groups", "principals", "owners"),
)


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


@dataclass(slots=True)
class DatabaseStock:
    """Databases that tests have used and left as they were made; making one costs as much as many tests.

    Attributes:
        server_url: Where they are.
        template: Name of the database they are copies of.
        idle: Names of empty ones.
    """

    server_url: str
    template: str
    idle: list[str] = field(default_factory=list)
    _relations: str = ""

    def take(self) -> str:
        """Name of an empty database."""
        if self.idle:
            return self.idle.pop()
        name = f"wfe_test_{secrets.token_hex(6)}"
        with psycopg.connect(create_database(self.server_url, name, template=self.template)) as connection:
            self._relations = _relations(connection)
        return name

    def give_back(self, name: str) -> None:
        """Empty a database for the next test; one whose tables a test has changed is dropped."""
        with psycopg.connect(with_database(self.server_url, name)) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            untouched = _relations(connection) == self._relations
            if untouched:
                for table in (*(METADATA.tables.keys() - set(_REFERRED)), *_REFERRED):
                    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        if untouched:
            self.idle.append(name)
        else:
            drop_database(self.server_url, name)


def _relations(connection: psycopg.Connection[tuple[object, ...]]) -> str:
    """A fingerprint of the tables, their columns and their indexes."""
    row = connection.execute(
        "SELECT md5(string_agg(relname || ':' || relnatts, ',' ORDER BY relname)) FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace"
    ).fetchone()
    return str(row)


@pytest.fixture(scope="session")
def database_template(postgres_server: str) -> Iterator[DatabaseStock]:
    """The migrated database of this test process, and its copies; nobody may connect to it."""
    name = f"wfe_template_{secrets.token_hex(6)}"
    url = create_database(postgres_server, name)
    migrate(url)
    if os.environ.get("WFE_TEST_NEXT_SCHEMA"):
        add_next_schema(url)
    stock = DatabaseStock(postgres_server, name)
    yield stock
    for left in (*stock.idle, name):
        drop_database(postgres_server, left)


def add_next_schema(url: str) -> None:
    """Do to a migrated database what a later version may: only add. WFE_TEST_NEXT_SCHEMA has it done to `database_url`.

    Every table gets columns, one that may be null and one that has a default, and an index of them; there is a new
    table; and the schema has a name that this version does not know.
    """
    with psycopg.connect(url) as connection:
        for table in METADATA.tables:
            connection.execute(
                sql.SQL(
                    "ALTER TABLE {table} ADD COLUMN next_null text, ADD COLUMN next_default bigint NOT NULL DEFAULT 7;"
                    "CREATE INDEX ON {table} (next_default)"
                ).format(table=sql.Identifier(table))
            )
        connection.execute("CREATE TABLE next_table (id uuid PRIMARY KEY, said text NOT NULL)")
        connection.execute("UPDATE alembic_version SET version_num = 'next'")


@pytest.fixture
def database_url(database_template: DatabaseStock) -> Iterator[str]:
    """URL of a migrated and empty database that no other test uses meanwhile."""
    name = database_template.take()
    yield with_database(database_template.server_url, name)
    database_template.give_back(name)


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
