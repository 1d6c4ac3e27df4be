"""Lists of runs by status and by template, however many others an owner has."""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0020"


def upgrade() -> None:
    """Only adds.

    A run's row moves within its page while it goes on; a change of status now writes it to the indexes as well. That
    is once or a few times in a run's life, and a page of the few failed runs among a million others is read for it.
    """
    op.execute("CREATE INDEX runs_status ON runs (owner_id, status, id DESC)")
    op.execute("CREATE INDEX runs_template ON runs (owner_id, template_id, id DESC)")


def downgrade() -> None:
    """Always possible."""
    op.execute("DROP INDEX runs_status; DROP INDEX runs_template")
