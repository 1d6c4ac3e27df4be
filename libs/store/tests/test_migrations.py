"""Migrations only add, so that services of the version before go on with the schema of this one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import wfe_store
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from wfe_stack.postgres import create_database
from wfe_stack.testing import add_next_schema
from wfe_store import migrate as migrations
from wfe_store.migrate import main, migrate, newest, sqlalchemy_url

#: The schema each release came with: one line more with each. What is no longer used is taken away by a migration that
#: says so, `contracts = "0.3.0"`: the release, made already, whose services did not use it any more.
RELEASES: dict[str, str] = {}

_LITERALS = re.compile(r"'((?:[^']|'')*)'::text")
_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef OR a.attidentity <> ''
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'public'::regnamespace
    AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
"""
_CONSTRAINTS = """
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid),
    ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = k.conrelid AND attnum = ANY(k.conkey))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
"""
_UNIQUE = """
SELECT c.relname, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid),
    ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = ANY(i.indkey))
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition AND i.indisunique
"""
_FUNCTIONS = """
SELECT p.oid::regprocedure::text, pg_get_function_result(p.oid) FROM pg_proc p
WHERE pronamespace = 'public'::regnamespace
"""
_TRIGGERS = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND NOT c.relispartition
"""
_FUNCTION = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
_WIDER = "ADD CONSTRAINT gates_risk_check CHECK (risk IN ('low', 'medium', 'high', 'more'))"


@dataclass(frozen=True)
class Catalog:
    """What services rely on in a schema."""

    columns: dict[tuple[str, str], tuple[str, bool, bool]]
    rules: dict[tuple[str, str], tuple[str, tuple[str, ...]]]
    functions: dict[str, str]
    triggers: set[tuple[str, str]]

    @property
    def tables(self) -> set[str]:
        return {table for table, _ in self.columns}


def read(connection: Any) -> Catalog:
    def rows(query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.exec_driver_sql(query.replace("%", "%%")).all()]

    return Catalog(
        {(table, name): (kind, not_null, default) for table, name, kind, not_null, default in rows(_COLUMNS)},
        {(table, name): (text, tuple(columns)) for table, name, text, columns in (*rows(_CONSTRAINTS), *rows(_UNIQUE))},
        dict(rows(_FUNCTIONS)),
        set(rows(_TRIGGERS)),
    )


def narrowed(before: Catalog, after: Catalog) -> Iterator[str]:
    """What services that know the schema before cannot do any more, or cannot find, in the one after."""
    for (table, name), (kind, not_null, default) in before.columns.items():
        found = after.columns.get((table, name))
        if found is None:
            yield f"{table}.{name} is gone"
        elif found[0] != kind:
            yield f"{table}.{name} is {found[0]}"
        elif found[1] > not_null:
            yield f"{table}.{name} must not be null"
        elif default and found[1] and not found[2]:
            yield f"{table}.{name} has no default"
    for (table, name), (_, not_null, default) in after.columns.items():
        if (table, name) not in before.columns and table in before.tables and not_null and not default:
            yield f"{table}.{name} must be given"
    for (table, name), (text, columns) in after.rules.items():
        old = before.rules.get((table, name))
        new_only = bool(columns) and all((table, column) not in before.columns for column in columns)
        if table in before.tables and not new_only and not (old and _as_wide(old[0], text)):
            yield f"{table} has {name}: {text}"
    for name, result in before.functions.items():
        if after.functions.get(name) != result:
            yield f"{name} is gone, or another"
    for table, name in after.triggers - before.triggers:
        if table in before.tables:
            yield f"{table} has the trigger {name}"


def _as_wide(before: str, after: str) -> bool:
    """Whether a rule lets through what it did: it is the same, or its list of texts has grown."""
    same = _LITERALS.sub("?", before), _LITERALS.sub("?", after)
    grown = set(_LITERALS.findall(before)) <= set(_LITERALS.findall(after))
    return before == after or (grown and len({re.sub(r"\?(, \?)*", "?", text) for text in same}) == 1)


@pytest.fixture
def scratch(postgres_server: str) -> str:
    return create_database(postgres_server, f"wfe_migrations_{secrets.token_hex(4)}")


def _config(connection: Any) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(wfe_store.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def test_every_migration_only_adds(scratch: str) -> None:
    engine = create_engine(sqlalchemy_url(scratch))
    faults: dict[str, list[str]] = {}
    try:
        with engine.connect() as connection:
            config = _config(connection)
            scripts = list(ScriptDirectory.from_config(config).walk_revisions())[::-1]
            made = [script.revision for script in scripts]
            assert made[-1] == newest()
            assert set(RELEASES.values()) <= set(made)
            before = None
            for script in scripts:
                command.upgrade(config, script.revision)
                connection.commit()
                after = read(connection)
                found = list(narrowed(before, after)) if before else []
                connection.commit()
                since = getattr(script.module, "contracts", None)
                if since is None:
                    faults[script.revision] = found
                elif since not in RELEASES or made.index(RELEASES[since]) >= made.index(script.revision):
                    faults[script.revision] = [f"takes away what {since} may use: that release comes first"]
                before = after
    finally:
        engine.dispose()
    assert {revision: found for revision, found in faults.items() if found} == {}


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("ALTER TABLE runs DROP COLUMN labels", "runs.labels is gone"),
        ("ALTER TABLE runs RENAME COLUMN labels TO tags", "runs.labels is gone"),
        ("ALTER TABLE timers RENAME TO clocks", "timers.due_at is gone"),
        ("DROP TABLE run_traces", "run_traces.traceparent is gone"),
        ("ALTER TABLE dispatch ALTER COLUMN attempt TYPE bigint", "dispatch.attempt is bigint"),
        ("ALTER TABLE runs ALTER COLUMN start_at SET NOT NULL", "runs.start_at must not be null"),
        ("ALTER TABLE steps ALTER COLUMN scope DROP DEFAULT", "steps.scope has no default"),
        ("ALTER TABLE runs ADD COLUMN must text NOT NULL", "runs.must must be given"),
        ("CREATE UNIQUE INDEX one ON gates (run_id, no)", "gates has one: CREATE UNIQUE INDEX"),
        ("ALTER TABLE timers ADD CONSTRAINT late CHECK (no > 0)", "timers has late: CHECK"),
        (
            "ALTER TABLE gates DROP CONSTRAINT gates_risk_check, ADD CONSTRAINT gates_risk_check CHECK (risk = 'low')",
            "gates has gates_risk_check: CHECK",
        ),
        ("DROP FUNCTION wfe_expect", "wfe_expect(bigint,bigint,text) is gone"),
        (
            f"{_FUNCTION}; CREATE TRIGGER t BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION f()",
            "runs has the trigger t",
        ),
    ],
)
def test_what_takes_away_is_found(database_url: str, statement: str, fault: str) -> None:
    found = _changed(database_url, statement)
    assert any(each.startswith(fault) for each in found), found


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE runs ADD COLUMN may text, ADD COLUMN is_so boolean NOT NULL DEFAULT false",
        "CREATE TABLE more (id uuid PRIMARY KEY, must text NOT NULL, CHECK (must <> ''))",
        "CREATE INDEX few ON runs (created_by) WHERE ended_at IS NULL",
        "ALTER TABLE runs ADD COLUMN kind text CHECK (kind IN ('a', 'b'))",
        "ALTER TABLE timers ADD COLUMN own uuid UNIQUE",
        f"ALTER TABLE gates DROP CONSTRAINT gates_risk_check, {_WIDER}",
        "ALTER TABLE gates ALTER COLUMN title DROP NOT NULL",
    ],
)
def test_what_adds_is_let_through(database_url: str, statement: str) -> None:
    assert _changed(database_url, statement) == []


def _changed(url: str, statement: str) -> list[str]:
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.connect() as connection:
            before = read(connection)
            connection.exec_driver_sql(statement)
            found = list(narrowed(before, read(connection)))
            connection.rollback()
    finally:
        engine.dispose()
    return found


def test_a_later_schema_is_left_as_it_is(scratch: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Services are rolled back, and with them what migrates: it must not fail, and not take anything back."""
    assert migrate(scratch) == newest()
    add_next_schema(scratch)
    assert migrate(scratch) == "next"
    monkeypatch.setenv("WFE_DATABASE_URL", scratch)
    assert main() == 0
    assert "the schema next is of a later version, and was left as it is" in capsys.readouterr().err
    with psycopg.connect(scratch) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("next",)
        assert connection.execute("SELECT count(*) FROM next_table").fetchone() == (0,)


@pytest.fixture
def oldest_schema(scratch: str) -> str:
    engine = create_engine(sqlalchemy_url(scratch))
    with engine.connect() as connection:
        command.upgrade(_config(connection), "0001")
        connection.commit()
    engine.dispose()
    return scratch


def test_a_dump_beside_a_migration_stops_nobody(oldest_schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of a table waits for the dump, and whoever uses the table waits for the change: for a moment only."""
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.2)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(oldest_schema) as dump:
        dump.execute("SELECT count(*) FROM steps")
        migrating = pool.submit(migrate, oldest_schema)
        with psycopg.connect(oldest_schema, autocommit=True, options="-c statement_timeout=5s") as service:
            turns = 0
            while turns < 3:
                waits = (
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database()"
                )
                row = service.execute(waits).fetchone()
                if row and row[0]:
                    service.execute("SELECT count(*) FROM steps")
                    turns += 1
                assert not migrating.done()
        dump.rollback()
        assert migrating.result(60) == newest()


def test_a_table_that_is_held_for_too_long_is_told(
    oldest_schema: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(migrations, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setenv("WFE_DATABASE_URL", oldest_schema)
    with psycopg.connect(oldest_schema, application_name="pg_dump") as dump:
        dump.execute("SELECT count(*) FROM steps")
        assert main() == 1
        said = capsys.readouterr().err
        assert f"the oldest is that of process {dump.info.backend_pid}" in said
        assert "pg_dump" in said
    assert main() == 0
