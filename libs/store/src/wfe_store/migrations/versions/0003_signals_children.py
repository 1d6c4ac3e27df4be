"""Signals that runs wait for, and runs that runs wait for."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_UP = """
-- Signals and answers to callbacks, kept with the run that got them.
CREATE TABLE signals (
    run_id  uuid NOT NULL,
    id      uuid NOT NULL,
    name    text NOT NULL,
    payload text NOT NULL,
    at      timestamptz NOT NULL,
    PRIMARY KEY (run_id, id)
);

-- What a step that waits for a child run wants of it. Written with the parent's decision, carried out after its commit
-- or by a sweep, gone when the step has ended and nothing is left to do.
CREATE TABLE children (
    run_id     uuid NOT NULL,                      -- parent
    no         integer NOT NULL,                   -- step that waits
    child_id   uuid NOT NULL,
    owner_id   uuid NOT NULL,
    started_by uuid NOT NULL,                      -- principal behind the parent
    wish       text NOT NULL CHECK (wish IN ('start', 'retry', 'cancel', 'terminate')),
    request    text NOT NULL,
    wished_at  timestamptz NOT NULL,
    done       boolean NOT NULL DEFAULT false,     -- the wish was carried out
    ended      boolean NOT NULL DEFAULT false,     -- the child has ended, and the parent is to be told
    PRIMARY KEY (run_id, no)
) WITH (fillfactor = 70);
CREATE INDEX children_child ON children (child_id);
CREATE INDEX children_to_do ON children (wished_at) WHERE NOT done;
CREATE INDEX children_ended ON children (wished_at) WHERE ended;

ALTER TABLE runs ADD COLUMN parent_run uuid, ADD COLUMN parent_no integer;
-- Versions of the templates a version runs as children: {name: [id, version]}.
ALTER TABLE template_versions ADD COLUMN pins text NOT NULL DEFAULT '{}';
"""


def upgrade() -> None:
    """Only adds."""
    op.execute(_UP)


def downgrade() -> None:
    """Possible while no run waits for signals or children."""
    op.execute("DROP TABLE signals; DROP TABLE children")
    op.execute("ALTER TABLE runs DROP COLUMN parent_run, DROP COLUMN parent_no")
    op.execute("ALTER TABLE template_versions DROP COLUMN pins")
