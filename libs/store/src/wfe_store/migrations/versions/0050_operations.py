"""Trace contexts of runs, and switches operators set."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0050"
down_revision = "0040"


def upgrade() -> None:
    """Add tables."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))


def downgrade() -> None:
    """Drop them; nothing a run needs is in them."""
    op.drop_table("run_traces")
    op.drop_table("switches")
