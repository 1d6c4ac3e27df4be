"""Secrets of owners; large values out of line."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0003"


def upgrade() -> None:
    """Add the tables."""
    op.execute(
        """
        -- Versions of secrets. Only the newest one has a value, sealed like sealed_values; a replaced one keeps
        -- the record of who set it and when.
        CREATE TABLE secrets (
            owner_id    uuid NOT NULL REFERENCES owners,
            name        text NOT NULL,
            version     integer NOT NULL CHECK (version > 0),
            ciphertext  bytea,
            created_by  uuid NOT NULL,
            created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
            replaced_at timestamptz,
            PRIMARY KEY (owner_id, name, version),
            CHECK ((ciphertext IS NULL) = (replaced_at IS NOT NULL))
        )
        """
    )
    op.execute("CREATE UNIQUE INDEX secrets_present ON secrets (owner_id, name) WHERE replaced_at IS NULL")
    op.execute(
        """
        -- Parts of values that are too large for a row; a reference stands there.
        CREATE TABLE blobs (
            run_id uuid NOT NULL,
            id     uuid NOT NULL,
            part   integer NOT NULL,
            data   bytea NOT NULL,
            PRIMARY KEY (run_id, id, part)
        ) PARTITION BY RANGE (run_id)
        """
    )
    op.execute("CREATE TABLE blobs_default PARTITION OF blobs DEFAULT")


def downgrade() -> None:
    """Remove the tables, and every secret and large value with them."""
    op.execute("DROP TABLE blobs")
    op.execute("DROP TABLE secrets")
