"""Schedules, and the moments at which they were due."""

from __future__ import annotations

from alembic import op

revision = "0060"
down_revision = "0050"

_UP = """
-- What starts runs of a template by cron. A schedule's row is locked while its firings are decided on.
CREATE TABLE schedules (
    id               uuid PRIMARY KEY,
    owner_id         uuid NOT NULL REFERENCES owners,
    name             text NOT NULL,
    template_id      uuid NOT NULL REFERENCES templates,
    template_version integer,                      -- null: the newest at each firing
    input            text NOT NULL,
    labels           text NOT NULL,
    cron             text NOT NULL,
    time_zone        text NOT NULL,
    overlap          text NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel', 'allow')),
    catch_up_seconds integer NOT NULL,
    revision         integer NOT NULL DEFAULT 1,
    next_at          timestamptz,                  -- null while it is paused, and when there is none
    reckoned_at      timestamptz NOT NULL,         -- moment from which next_at was reckoned
    paused_at        timestamptz,
    created_by       uuid NOT NULL,
    starter          uuid NOT NULL,                -- principal behind its runs
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (owner_id, name)
);
CREATE INDEX schedules_next ON schedules (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX schedules_reckoned ON schedules (reckoned_at) WHERE next_at IS NOT NULL;

-- One row for each moment a schedule was due at: whoever decides on it first writes it, and nobody can a second time.
-- due: may wait for an earlier run; starting: its run is to be started, under a key made of schedule and moment.
CREATE TABLE schedule_firings (
    schedule_id uuid NOT NULL REFERENCES schedules ON DELETE CASCADE,
    at          timestamptz NOT NULL,
    status      text NOT NULL CHECK (status IN ('due', 'starting', 'started', 'skipped', 'missed', 'failed')),
    run_id      uuid,
    reason      text NOT NULL DEFAULT '',
    PRIMARY KEY (schedule_id, at)
);
CREATE INDEX schedule_firings_open ON schedule_firings (schedule_id) WHERE status IN ('due', 'starting');

-- Moment a run was to start at, as its start said; null for at once.
ALTER TABLE runs ADD COLUMN start_at timestamptz;
"""


def upgrade() -> None:
    """Only adds."""
    op.execute(_UP)


def downgrade() -> None:
    """Remove the tables, and every schedule with them; runs stay."""
    op.execute("DROP TABLE schedule_firings; DROP TABLE schedules")
    op.execute("ALTER TABLE runs DROP COLUMN start_at")
