"""One person counts once: with the agents that act for him, and so do those of the starter."""

from __future__ import annotations

from alembic import op

revision = "0070"
down_revision = "0060"

_UP = """
-- The person a principal acts for; itself when it acts for nobody.
CREATE FUNCTION wfe_behind(principal uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT p.acts_for FROM principals p WHERE p.id = principal), principal)
$$;

-- Why somebody may not decide a gate although he is among its approvers; null when nothing stands against it.
CREATE OR REPLACE FUNCTION wfe_gate_bars(g gates, person uuid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN wfe_behind(g.edited_by) = wfe_behind(person) THEN 'edited'
        WHEN 'run_starter' = ANY(g.exclude) AND (wfe_behind(g.started_by) = wfe_behind(person)
            OR EXISTS (SELECT 1 FROM delegations d
                WHERE d.owner_id = g.owner_id AND d.to_id IN (person, wfe_behind(person)) AND d.revoked_at IS NULL
                    AND wfe_behind(d.from_id) = wfe_behind(g.started_by) AND (d.gate_id IS NULL OR d.gate_id = g.id)
                    AND d.starts_at <= clock_timestamp() AND coalesce(d.ends_at > clock_timestamp(), true)))
            THEN 'run_starter'
        WHEN 'previous_approvers' = ANY(g.exclude) AND EXISTS (
            SELECT 1 FROM gate_votes v JOIN gates o ON o.id = v.gate_id
            WHERE v.run_id = g.run_id AND v.gate_id <> g.id AND v.vote = 'approve' AND o.status = 'approved'
                AND wfe_behind(person) IN (wfe_behind(v.principal_id), wfe_behind(v.behalf_of)))
            THEN 'previous_approvers'
        WHEN 'template_publisher' = ANY(g.exclude) AND EXISTS (
            SELECT 1 FROM runs r JOIN template_versions t
                ON t.template_id = r.template_id AND t.version = r.template_version
            WHERE r.id = g.run_id AND wfe_behind(t.published_by) = wfe_behind(person))
            THEN 'template_publisher'
    END
$$;
"""


def upgrade() -> None:
    """Replaces a function by one that gives what it gave, and more; the version before works with it."""
    op.execute(_UP)


def downgrade() -> None:
    """Nothing to take back: what is there gives what was there."""
