"""Gates as policies: votes, notes, delegations, links."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from wfe_store.gate_policy import Policy
from wfe_store.migration_locks import take

revision = "0030"
down_revision = "0025"


def upgrade() -> None:
    """Add what gates need; open gates keep what they are."""
    op.execute(take("gates", "principals", "steps", "dispatch"))
    connection = op.get_bind()
    # The driver takes % for a placeholder.
    connection.exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))
    for gate, policy in connection.exec_driver_sql("SELECT id, policy FROM gates WHERE status = 'open'").all():
        connection.exec_driver_sql("UPDATE gates SET who = %s WHERE id = %s", (list(Policy.parse(policy).who()), gate))


def downgrade() -> None:
    """Possible while no gate uses what was added."""
    for table in ("gate_votes", "gate_notes", "gate_links"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION wfe_gate_bars; DROP TABLE delegations")
