"""Webhooks out and hooks in."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0040"
down_revision = "0030"


def upgrade() -> None:
    """Add the tables; nothing that stands is changed."""
    # The driver takes % for a placeholder.
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))


def downgrade() -> None:
    """Drop them, and every subscription with them."""
    tables = "hook_receipts, hooks, webhook_deliveries, webhook_messages, webhook_outbox, webhook_secrets, webhooks"
    op.get_bind().exec_driver_sql(f"DROP TABLE {tables}")
