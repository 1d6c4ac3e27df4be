"""Steps inside of steps: each row says which scope its step is in."""

from __future__ import annotations

from alembic import op
from wfe_store.migration_locks import take

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add `scope` to steps and dispatch; what is there stands in the root scope."""
    op.execute(take("steps", "dispatch"))
    for table in ("steps", "dispatch"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN scope text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """Possible while no run uses steps inside of steps."""
    for table in ("steps", "dispatch"):
        op.execute(f"ALTER TABLE {table} DROP COLUMN scope")
