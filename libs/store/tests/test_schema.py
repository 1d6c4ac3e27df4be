"""The metadata and the migrated database are one schema."""

from __future__ import annotations

import wfe_store.schema_webhooks  # noqa: F401 - adds its tables to the metadata
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from wfe_store.migrate import PARTITIONED
from wfe_store.pool import Database, fetch_all
from wfe_store.schema import METADATA

_dialect = PGDialect_psycopg()


async def test_metadata_and_database_agree(database: Database) -> None:
    async with database.connection() as connection:
        rows = await fetch_all(
            connection,
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull"
            " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
            " AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND c.relname <> 'alembic_version'",
        )
    here = {
        (name, column.name, column.type.compile(_dialect).lower(), bool(column.nullable))
        for name, table in METADATA.tables.items()
        for column in table.columns
    }
    assert here == set(rows)


async def test_partitioned_tables_have_a_partition_for_now(database: Database) -> None:
    async with database.connection() as connection:
        for table in PARTITIONED:
            rows = await fetch_all(
                connection,
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass",
                (table,),
            )
            names = {name for (name,) in rows}
            assert f"{table}_default" in names
            assert len(names) >= 4
