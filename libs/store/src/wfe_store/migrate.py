"""Bring a database to the newest schema, and make partitions ahead.

One process migrates at a time: an advisory lock makes the others wait, so every service may call `migrate` at start.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import OperationalError

T = TypeVar("T")

#: The oldest PostgreSQL that has what the schema and its statements use.
OLDEST = 15
#: Any number that is ours alone; names the lock in pg_locks.
_LOCK = 0x57_46_45_01
#: Seconds a change of a table waits for whoever uses it, and as long until it is tried again; how long that goes on.
LOCK_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
#: Months of partitions that exist beyond the present one.
MONTHS_AHEAD = 3
#: Tables partitioned by run id, and the storage parameters of their partitions.
PARTITIONED = {
    "runs": "fillfactor = 70",
    "steps": "fillfactor = 90",
    "events": "fillfactor = 100",
    "snapshots": "fillfactor = 100",
    "blobs": "fillfactor = 100",
}


def sqlalchemy_url(url: str) -> str:
    """The URL with SQLAlchemy's name of the driver in it."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


class StoreInUse(Exception):
    """A transaction has held a table for too long; the message names the oldest."""


class UnfitDatabase(Exception):
    """The database cannot hold the run store; the message says why."""


def migrate(url: str) -> str:
    """Migrate to the newest schema and make partitions ahead. Safe to repeat and to run from many places at once.

    A schema that this version does not know is a later version's, and is left as it is: later ones only add, so that
    services can be rolled back beneath them.

    Returns:
        The schema's revision.

    Raises:
        psycopg.OperationalError: The database cannot be reached.
        UnfitDatabase: It is too old, or its encoding does not hold every text.
        StoreInUse: Something has held a table for too long; what was done so far stays, and it can be tried again.
    """
    _check(url)
    config = _config()
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
            connection.commit()
            try:
                config.attributes["connection"] = connection
                found = _patiently(connection, lambda: _upgrade(connection, config))
            finally:
                connection.rollback()
                connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")
                connection.commit()
    finally:
        engine.dispose()
    return found


def _upgrade(connection: Connection, config: Config) -> str:
    found = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    if found is None or known(found):
        command.upgrade(config, "head")
        found = newest()
    connection.commit()
    now = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    for statement in partition_statements(now):
        connection.exec_driver_sql(statement)
    connection.commit()
    return found


def _patiently(connection: Connection, work: Callable[[], T]) -> T:
    """Do it again while somebody holds a table: whoever waits for a table keeps all others waiting behind him.

    Each migration is a transaction of its own, so that none is done twice.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        connection.commit()
        try:
            return work()
        except OperationalError as fault:
            connection.rollback()
            if not isinstance(fault.orig, psycopg.errors.LockNotAvailable):
                raise
            if time.monotonic() > deadline:
                raise StoreInUse(_held_by(connection)) from fault
        # Others get their turn.
        time.sleep(LOCK_SECONDS)


def _held_by(connection: Connection) -> str:
    oldest = connection.exec_driver_sql(
        "SELECT pid, usename, application_name FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1"
    ).one_or_none()
    who = "" if oldest is None else f"; the oldest is that of process {oldest[0]} ({oldest[1]}, {oldest[2]})"
    return f"a transaction holds a table that is to be changed{who}: end it, or try again once it is over"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def newest() -> str:
    """The revision `migrate` brings a database to."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def known(revision: str) -> bool:
    """Whether this version has a migration of that name; otherwise a later version made the schema."""
    return any(script.revision == revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _check(url: str) -> None:
    with psycopg.connect(url) as connection:
        version = connection.info.server_version // 10_000
        encoding = connection.info.parameter_status("server_encoding")
    if version < OLDEST:
        raise UnfitDatabase(f"it is PostgreSQL {version}, and {OLDEST} or newer is needed")
    if encoding != "UTF8":
        raise UnfitDatabase(f"its encoding is {encoding}, and UTF8 is needed: CREATE DATABASE … ENCODING 'UTF8'")


def partition_statements(now: dt.datetime, months_ahead: int = MONTHS_AHEAD) -> list[str]:
    """Statements that make the partitions of this month and the months ahead, where they are missing."""
    statements = []
    first = now.astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(months_ahead + 1):
        after = (first + dt.timedelta(days=32)).replace(day=1)
        for table, storage in PARTITIONED.items():
            statements.append(
                f"CREATE TABLE IF NOT EXISTS {table}_{first:%Y%m} PARTITION OF {table} "
                f"FOR VALUES FROM ('{first_id(first)}') TO ('{first_id(after)}') WITH ({storage})"
            )
        first = after
    return statements


def first_id(moment: dt.datetime) -> uuid.UUID:
    """The smallest UUIDv7 of a moment: bound of a partition."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


def main() -> int:
    """`wfe-migrate`: migrate the database of WFE_DATABASE_URL."""
    url = os.environ.get("WFE_DATABASE_URL", "")
    if not url:
        sys.stderr.write("wfe-migrate: set WFE_DATABASE_URL, e.g. postgresql://user@host/wfe\n")
        return 2
    try:
        found = migrate(url)
    except (psycopg.OperationalError, StoreInUse, UnfitDatabase) as fault:
        sys.stderr.write(f"wfe-migrate: {fault}\n")
        return 1
    if found != newest():
        sys.stderr.write(f"wfe-migrate: the schema {found} is of a later version, and was left as it is\n")
    return 0
