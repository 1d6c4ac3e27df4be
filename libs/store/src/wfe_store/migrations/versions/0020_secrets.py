"""Secrets of owners."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0003"


def upgrade() -> None:
    """Add the table of secrets."""
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


def downgrade() -> None:
    """Remove the table, and every secret with it."""
    op.execute("DROP TABLE secrets")
