"""The run store as first released."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    # The driver takes % for a placeholder.
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))


def downgrade() -> None:
    """There is nothing before the first release."""
    raise NotImplementedError("the first migration cannot be undone; drop the database")
