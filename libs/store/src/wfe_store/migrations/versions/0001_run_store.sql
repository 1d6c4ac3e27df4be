-- The run store. Postgres is the truth; everything the engine must not forget is here.
--
-- Payloads (input, output, event data, state) are JSON kept as text: exact bytes, no number is ever rounded, and
-- nothing is parsed on the way in. labels is jsonb, because it is searched.
--
-- runs, steps, events and snapshots are range-partitioned on the run id (UUIDv7, so by time of start): a month is
-- dropped, not deleted. The hot sets (dispatch, executors, timers, outbox) are small and unpartitioned.

CREATE TABLE owners (
    id          uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE principals (
    id          uuid PRIMARY KEY,
    owner_id    uuid NOT NULL REFERENCES owners,
    name        text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('person', 'agent', 'service')),
    roles       text[] NOT NULL DEFAULT '{}',
    subject     text,                              -- issuer|sub of its tokens
    disabled_at timestamptz,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (owner_id, name),
    UNIQUE (owner_id, subject)                     -- one person may work for several owners
);

CREATE TABLE groups (
    id          uuid PRIMARY KEY,
    owner_id    uuid NOT NULL REFERENCES owners,
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (owner_id, name)
);

CREATE TABLE group_members (
    group_id     uuid NOT NULL REFERENCES groups ON DELETE CASCADE,
    principal_id uuid NOT NULL REFERENCES principals ON DELETE CASCADE,
    PRIMARY KEY (group_id, principal_id)
);
CREATE INDEX group_members_principal ON group_members (principal_id);

CREATE TABLE api_keys (
    id           text PRIMARY KEY CHECK (length(id) = 8),  -- public part
    owner_id     uuid NOT NULL REFERENCES owners,
    principal_id uuid NOT NULL REFERENCES principals,
    name         text NOT NULL DEFAULT '',
    hash         bytea NOT NULL,                   -- SHA-256 of the secret part
    roles        text[],                           -- narrows the principal's; null: all of them
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    replaces     text UNIQUE REFERENCES api_keys
);
CREATE INDEX api_keys_owner ON api_keys (owner_id, created_at DESC);

CREATE TABLE templates (
    id             uuid PRIMARY KEY,
    owner_id       uuid NOT NULL REFERENCES owners,
    name           text NOT NULL,
    draft          text NOT NULL,                  -- source as it was written
    latest_version integer NOT NULL DEFAULT 0,
    deprecated_at  timestamptz,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (owner_id, name)
);

CREATE TABLE template_versions (
    template_id  uuid NOT NULL REFERENCES templates,
    version      integer NOT NULL CHECK (version > 0),
    name         text NOT NULL,
    source       text NOT NULL,
    published_by uuid NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (template_id, version)
);

CREATE TABLE runs (
    id               uuid NOT NULL,
    owner_id         uuid NOT NULL,
    template_id      uuid NOT NULL,
    template_name    text NOT NULL,
    template_version integer NOT NULL,
    status           text NOT NULL CHECK (status IN
        ('pending', 'running', 'waiting_approval', 'paused', 'completed', 'failed', 'cancelled')),
    phase            text NOT NULL DEFAULT '',
    reason           text NOT NULL DEFAULT '',
    version          bigint NOT NULL,              -- raised by every transaction that decides on the run
    seq              integer NOT NULL,             -- of the newest event
    epoch            integer NOT NULL DEFAULT 1,
    state            text NOT NULL,                -- fold of the events: the frontier, no outputs
    input            text NOT NULL,
    output           text,
    error            text,
    labels           jsonb NOT NULL DEFAULT '{}',
    trigger_type     text NOT NULL,
    created_by       uuid NOT NULL,
    forked_from      uuid,                         -- run
    forked_snapshot  uuid,
    created_at       timestamptz NOT NULL,
    started_at       timestamptz,
    updated_at       timestamptz NOT NULL,
    ended_at         timestamptz,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
-- Lists go newest first within an owner; ids are in order of start.
CREATE INDEX runs_owner ON runs (owner_id, id DESC);
CREATE INDEX runs_labels ON runs USING gin (labels jsonb_path_ops);

CREATE TABLE steps (
    run_id       uuid NOT NULL,
    no           integer NOT NULL,                 -- numbers the steps of a run in the order they were entered
    path         text NOT NULL,
    iteration    text NOT NULL DEFAULT '',
    visit        integer NOT NULL DEFAULT 1,
    kind         text NOT NULL,
    status       text NOT NULL CHECK (status IN ('pending', 'ready', 'running', 'waiting', 'waiting_approval',
        'completed', 'failed', 'skipped', 'cancelled', 'rolled_back')),
    seq          integer NOT NULL,                 -- of the event that last changed it
    attempts     integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 1,
    lease_losses integer NOT NULL DEFAULT 0,
    input        text,
    output       text,
    error        text,
    executor     text NOT NULL DEFAULT '',
    gate_id      uuid,
    due_at       timestamptz,
    created_at   timestamptz NOT NULL,
    started_at   timestamptz,
    ended_at     timestamptz,
    PRIMARY KEY (run_id, no)
) PARTITION BY RANGE (run_id);

CREATE TABLE events (
    run_id  uuid NOT NULL,
    seq     integer NOT NULL,
    at      timestamptz NOT NULL,
    type    text NOT NULL,
    actor   text NOT NULL,
    reason  text NOT NULL DEFAULT '',
    data    text NOT NULL,
    PRIMARY KEY (run_id, seq)
) PARTITION BY RANGE (run_id);

CREATE TABLE snapshots (
    run_id     uuid NOT NULL,
    id         uuid NOT NULL,
    seq        integer NOT NULL,                   -- of the last event it holds
    kind       text NOT NULL CHECK (kind IN ('gate', 'checkpoint', 'periodic', 'demand')),
    name       text NOT NULL DEFAULT '',
    state      text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (run_id, id)
) PARTITION BY RANGE (run_id);

-- Whatever falls outside the partitions made ahead lands here rather than being refused; the size of these is an alert.
CREATE TABLE runs_default PARTITION OF runs DEFAULT WITH (fillfactor = 70);
CREATE TABLE steps_default PARTITION OF steps DEFAULT;
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE TABLE snapshots_default PARTITION OF snapshots DEFAULT;

-- Executor processes. Its one row is an executor's lease on everything it holds, so a heartbeat is one narrow update
-- however many steps it holds. No index may mention lease_until: the update stays on its page.
CREATE TABLE executors (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    queues      text[] NOT NULL,
    handlers    text[] NOT NULL DEFAULT '{}',
    lease_until timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    stopping    boolean NOT NULL DEFAULT false,
    started_at  timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Steps an executor should run: ready (executor null) or leased. One row while a step is live; gone when it ended.
CREATE TABLE dispatch (
    run_id          uuid NOT NULL,
    no              integer NOT NULL,
    owner_id        uuid NOT NULL,
    path            text NOT NULL,
    iteration       text NOT NULL DEFAULT '',
    visit           integer NOT NULL DEFAULT 1,
    epoch           integer NOT NULL DEFAULT 1,
    kind            text NOT NULL,
    queue           text NOT NULL,
    priority        smallint NOT NULL DEFAULT 0,
    request         text NOT NULL,
    sealed          boolean NOT NULL DEFAULT false,
    attempt         integer NOT NULL,              -- the attempt that is due or running, 1 and up
    max_attempts    integer NOT NULL,
    clocks          text NOT NULL DEFAULT '{}',    -- spans of the step's clocks, for the executor
    lease_losses    integer NOT NULL DEFAULT 0,
    fence           bigint NOT NULL,
    available_at    timestamptz NOT NULL,          -- in the future while a retry backs off
    held            boolean NOT NULL DEFAULT false,-- the run is paused
    queue_deadline  timestamptz,
    total_deadline  timestamptz,
    executor_id     text,
    leased_at       timestamptz,
    progress        text,
    error           text,                          -- why the last attempt failed
    created_at      timestamptz NOT NULL,          -- when the step was entered
    PRIMARY KEY (run_id, no)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX dispatch_ready ON dispatch (queue, owner_id, priority DESC, available_at) WHERE executor_id IS NULL AND NOT held;
CREATE INDEX dispatch_executor ON dispatch (executor_id) WHERE executor_id IS NOT NULL;
CREATE INDEX dispatch_queue_deadline ON dispatch (queue_deadline) WHERE queue_deadline IS NOT NULL;
CREATE INDEX dispatch_total_deadline ON dispatch (total_deadline) WHERE total_deadline IS NOT NULL;

-- Moments a run waits for. A timer says what it was set for; one that comes late is a no-op.
CREATE TABLE timers (
    run_id uuid NOT NULL,
    no     integer NOT NULL,                       -- step it belongs to; 0 for the run's own total clock
    due_at timestamptz NOT NULL,
    PRIMARY KEY (run_id, no)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX timers_due ON timers (due_at);

-- Gates. Opened, superseded and withdrawn in the scheduler's transactions; decided and expired by approvals alone.
CREATE TABLE gates (
    id               uuid PRIMARY KEY,
    run_id           uuid NOT NULL,
    no               integer NOT NULL,             -- step that waits
    owner_id         uuid NOT NULL,
    path             text NOT NULL,
    iteration        text NOT NULL DEFAULT '',
    status           text NOT NULL CHECK (status IN
        ('open', 'approved', 'rejected', 'expired', 'withdrawn', 'superseded')),
    title            text NOT NULL,
    body             text NOT NULL DEFAULT '',
    payload          text,
    policy           text NOT NULL,                -- JSON, as the template says with expressions evaluated
    digest           text NOT NULL,
    started_by       uuid NOT NULL,                -- principal behind the run
    replaces         uuid,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz,
    on_expiry        text NOT NULL DEFAULT 'reject' CHECK (on_expiry IN ('reject', 'approve', 'fail')),
    held_at          timestamptz,                  -- the run is paused: expiry stands still
    decided_at       timestamptz,
    decided_by       uuid,
    outcome          text,                         -- approve, reject or fail: what the run is told
    comment          text NOT NULL DEFAULT '',
    told_at          timestamptz                   -- when the run's scheduler had taken the decision in
);
CREATE INDEX gates_run ON gates (run_id);
CREATE INDEX gates_inbox ON gates (owner_id, status, created_at);
CREATE INDEX gates_expiry ON gates (expires_at) WHERE status = 'open' AND expires_at IS NOT NULL AND held_at IS NULL;
CREATE INDEX gates_untold ON gates (decided_at) WHERE told_at IS NULL AND outcome IS NOT NULL;

-- Answers to calls with an Idempotency-Key.
CREATE TABLE idempotency (
    owner_id     uuid NOT NULL,
    key          text NOT NULL,
    request_hash bytea NOT NULL,
    run_id       uuid NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (owner_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

-- Sensitive values, encrypted; everything else holds only their names.
CREATE TABLE sealed_values (
    run_id     uuid NOT NULL,
    name       text NOT NULL,
    ciphertext bytea NOT NULL,
    PRIMARY KEY (run_id, name)
);

-- Facts to be told outside, written with what they tell of and removed once told.
CREATE TABLE outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id  uuid NOT NULL,
    subject text NOT NULL,
    body    bytea NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Refuses the whole transaction when a statement changed another number of rows than its decision stands on.
CREATE FUNCTION wfe_expect(actual bigint, expected bigint, what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION 'expected % %, found %', expected, what, actual USING ERRCODE = 'WF001';
    END IF;
END $$;
