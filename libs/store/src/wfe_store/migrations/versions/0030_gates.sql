-- A gate as a policy: quorum, edits, rounds, and everything people do at it before it is decided.
ALTER TABLE gates DROP CONSTRAINT gates_status_check, DROP CONSTRAINT gates_on_expiry_check;
ALTER TABLE gates
    ADD CONSTRAINT gates_status_check CHECK (status IN
        ('scheduled', 'open', 'approved', 'rejected', 'revise', 'expired', 'withdrawn', 'superseded')),
    ADD CONSTRAINT gates_on_expiry_check CHECK (on_expiry IN ('reject', 'approve', 'fail', 'branch')),
    ADD COLUMN version     bigint NOT NULL DEFAULT 1,         -- every change of the row raises it
    ADD COLUMN who         text[] NOT NULL DEFAULT '{}',      -- u:user, g:group, r:role; * for every approver
    ADD COLUMN exclude     text[] NOT NULL DEFAULT '{run_starter}',
    ADD COLUMN risk        text NOT NULL DEFAULT 'medium' CHECK (risk IN ('low', 'medium', 'high')),
    ADD COLUMN bound       text NOT NULL DEFAULT '',          -- JSON: what of the digest is not the payload
    ADD COLUMN round       integer NOT NULL DEFAULT 0,        -- revisions before this one
    ADD COLUMN level       integer NOT NULL DEFAULT 0,        -- escalations that have happened
    ADD COLUMN opens_at    timestamptz,                       -- of a scheduled one
    ADD COLUMN next_at     timestamptz,                       -- when the first entry of the agenda is due
    ADD COLUMN agenda      text NOT NULL DEFAULT '[]',        -- JSON: [[seconds after the one before, what, which]]
    ADD COLUMN edited      text,                              -- the payload as edited; payload stays what it was
    ADD COLUMN patch       text,                              -- JSON Patch from payload to edited
    ADD COLUMN edited_by   uuid,                              -- who edited beyond the limits: cannot approve that
    ADD COLUMN form        text,                              -- JSON: what the deciding vote filled in
    ADD COLUMN branch      text NOT NULL DEFAULT '',          -- of a rejection that does not fail
    ADD COLUMN reason_code text NOT NULL DEFAULT '',
    ADD COLUMN decided_via text NOT NULL DEFAULT '',          -- vote, link, batch, bypass, expiry, unreachable
    ADD COLUMN claimed_by  uuid,
    ADD COLUMN claimed_at  timestamptz;
CREATE INDEX gates_who ON gates USING gin (who) WHERE status = 'open';
CREATE INDEX gates_next ON gates (next_at)
    WHERE status IN ('open', 'scheduled') AND next_at IS NOT NULL AND held_at IS NULL;
UPDATE gates SET exclude = '{}' WHERE status = 'open' AND policy LIKE '%"exclude_starter":false%';

-- One row for each person that has voted at a gate. What he was then is kept.
CREATE TABLE gate_votes (
    gate_id      uuid NOT NULL,
    principal_id uuid NOT NULL,
    run_id       uuid NOT NULL,
    name         text NOT NULL,
    kind         text NOT NULL,
    roles        text[] NOT NULL,
    groups       text[] NOT NULL,
    behalf_of    uuid,                    -- whose standing it counts with, when not the voter's own
    behalf_name  text NOT NULL DEFAULT '',
    vote         text NOT NULL CHECK (vote IN ('approve', 'reject', 'revise')),
    branch       text NOT NULL DEFAULT '',
    comment      text NOT NULL DEFAULT '',
    reason_code  text NOT NULL DEFAULT '',
    digest       text NOT NULL,           -- what he saw; a vote for another payload does not count
    via          text NOT NULL DEFAULT 'vote',
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (gate_id, principal_id)
);
CREATE INDEX gate_votes_run ON gate_votes (run_id, principal_id);

-- What happened at a gate before its decision; the run's scheduler makes events of its log of them.
CREATE TABLE gate_notes (
    gate_id uuid NOT NULL,
    n       bigint NOT NULL,              -- the gate's version with it
    run_id  uuid NOT NULL,
    type    text NOT NULL,                -- reminded, voted, claimed, …
    actor   text NOT NULL,
    reason  text NOT NULL DEFAULT '',
    data    text NOT NULL DEFAULT '{}',   -- JSON
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    told_at timestamptz,
    PRIMARY KEY (gate_id, n)
);
CREATE INDEX gate_notes_untold ON gate_notes (at) WHERE told_at IS NULL;
CREATE INDEX gate_notes_run ON gate_notes (run_id) WHERE told_at IS NULL;

-- Who decides in whose place: at one gate, or at all for a while.
CREATE TABLE delegations (
    id         uuid PRIMARY KEY,
    owner_id   uuid NOT NULL,
    from_id    uuid NOT NULL,
    to_id      uuid NOT NULL,
    gate_id    uuid,
    reason     text NOT NULL DEFAULT '',
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz,
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz
);
CREATE INDEX delegations_to ON delegations (owner_id, to_id) WHERE revoked_at IS NULL;
CREATE INDEX delegations_from ON delegations (owner_id, from_id) WHERE revoked_at IS NULL;

-- One-time links. Only the hash of a token is here.
CREATE TABLE gate_links (
    hash         bytea PRIMARY KEY,
    id           uuid NOT NULL,
    gate_id      uuid NOT NULL,
    run_id       uuid NOT NULL,
    owner_id     uuid NOT NULL,
    principal_id uuid NOT NULL,
    digest       text NOT NULL,
    created_by   uuid NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz,
    used_for     text NOT NULL DEFAULT ''
);
CREATE INDEX gate_links_gate ON gate_links (gate_id);

-- The person an agent or a service account works for: what it starts, he has started.
ALTER TABLE principals ADD COLUMN acts_for uuid;
-- A step that a gate sent back: since which event it does not count any more, and what it was. A run that goes back
-- behind that event has it again.
ALTER TABLE steps ADD COLUMN undone_seq integer, ADD COLUMN undone_status text;
-- The approval a step runs under, and the digest of exactly what was approved.
ALTER TABLE dispatch ADD COLUMN approval_id uuid, ADD COLUMN digest text NOT NULL DEFAULT '';

-- Why somebody may not decide a gate although he is among its approvers; null when nothing stands against it.
CREATE FUNCTION wfe_gate_bars(g gates, person uuid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN g.edited_by = person THEN 'edited'
        WHEN 'run_starter' = ANY(g.exclude) AND (g.started_by = person
            OR EXISTS (SELECT 1 FROM principals p WHERE p.id = g.started_by AND p.acts_for = person)
            OR EXISTS (SELECT 1 FROM principals p WHERE p.id = person AND p.acts_for = g.started_by)
            OR EXISTS (SELECT 1 FROM delegations d LEFT JOIN principals p ON p.id = g.started_by
                WHERE d.owner_id = g.owner_id AND d.to_id = person AND d.revoked_at IS NULL
                    AND d.from_id IN (g.started_by, p.acts_for) AND (d.gate_id IS NULL OR d.gate_id = g.id)
                    AND d.starts_at <= clock_timestamp() AND coalesce(d.ends_at > clock_timestamp(), true)))
            THEN 'run_starter'
        WHEN 'previous_approvers' = ANY(g.exclude) AND EXISTS (
            SELECT 1 FROM gate_votes v JOIN gates o ON o.id = v.gate_id
            WHERE v.run_id = g.run_id AND v.gate_id <> g.id AND v.vote = 'approve' AND o.status = 'approved'
                AND person IN (v.principal_id, v.behalf_of))
            THEN 'previous_approvers'
        WHEN 'template_publisher' = ANY(g.exclude) AND EXISTS (
            SELECT 1 FROM runs r JOIN template_versions t
                ON t.template_id = r.template_id AND t.version = r.template_version
            WHERE r.id = g.run_id AND t.published_by = person)
            THEN 'template_publisher'
    END
$$;
