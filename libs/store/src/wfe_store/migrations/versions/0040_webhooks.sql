-- Webhooks: subscriptions of other systems to events, and hooks by which they start and signal runs. Written by approvals alone,
-- but for webhook_outbox, which the scheduler fills in the transaction of the events themselves.

-- Subscriptions. Schedulers write the outbox for owners that have one here without disabled_at.
CREATE TABLE webhooks (
    id             uuid PRIMARY KEY,
    owner_id       uuid NOT NULL REFERENCES owners,
    name           text NOT NULL,
    url            text NOT NULL,
    event_types    text[] NOT NULL,                -- names, or a prefix with * at its end
    filter         text NOT NULL DEFAULT '',       -- CEL over event; empty takes all
    ordered        boolean NOT NULL DEFAULT false, -- events of one run one after the other
    version        integer NOT NULL DEFAULT 1,     -- raised by every change senders must see
    active_from    timestamptz,                    -- events from here on are surely told; null: being made sure
    failing_since  timestamptz,                    -- first failure after the last success
    paused_until   timestamptz,                    -- the receiver asked to be left alone
    disabled_at    timestamptz,
    disabled_reason text NOT NULL DEFAULT '' CHECK (disabled_reason IN ('', 'asked', 'gone', 'failing')),
    created_by     uuid NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((disabled_at IS NULL) = (disabled_reason = ''))
);
CREATE INDEX webhooks_owner ON webhooks (owner_id, created_at);
CREATE INDEX webhooks_enabled ON webhooks (owner_id) WHERE disabled_at IS NULL;

-- Keys deliveries are signed with, sealed. The newest, and its predecessors until they expire.
CREATE TABLE webhook_secrets (
    webhook_id uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    id         uuid NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('v1', 'v1a')),  -- HMAC-SHA256, ed25519
    ciphertext bytea NOT NULL,
    public_key text NOT NULL DEFAULT '',           -- of v1a: whpk_…
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    PRIMARY KEY (webhook_id, id)
);

-- Runs with new events of owners with subscriptions; each row goes when its events have become deliveries.
-- One run's rows are in the order of its events: ids are given under the lock on the run.
CREATE TABLE webhook_outbox (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id  uuid NOT NULL,
    run_id    uuid NOT NULL,
    first_seq integer NOT NULL,
    last_seq  integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

-- What is told: one row for all subscriptions it goes to.
CREATE TABLE webhook_messages (
    id         text PRIMARY KEY,                   -- the webhook-id header, the same over all attempts
    owner_id   uuid NOT NULL,
    type       text NOT NULL,
    run_id     uuid,
    seq        integer NOT NULL DEFAULT 0,
    body       text NOT NULL,                      -- the very bytes that are signed
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX webhook_messages_age ON webhook_messages (created_at);

-- One message to one subscription. A sender that takes it moves next_at on by its lease and raises claim; an outcome
-- under an older claim changes nothing.
CREATE TABLE webhook_deliveries (
    id          uuid PRIMARY KEY,
    owner_id    uuid NOT NULL,
    webhook_id  uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    message_id  text NOT NULL,
    run_id      uuid,
    seq         integer NOT NULL DEFAULT 0,
    status      text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed', 'filtered')),
    held        boolean NOT NULL DEFAULT false,    -- ordered: an earlier event of the run is still pending
    unfiltered  boolean NOT NULL DEFAULT false,    -- the filter is evaluated by the sender: it may take long
    attempts    integer NOT NULL DEFAULT 0,
    claim       integer NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_at    timestamptz,                       -- begin of the first attempt
    ended_at    timestamptz,
    log         text[] NOT NULL DEFAULT '{}'       -- JSON of each attempt, with request and response
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_at) WHERE status = 'pending' AND NOT held;
CREATE INDEX webhook_deliveries_run ON webhook_deliveries (webhook_id, run_id, seq) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_held ON webhook_deliveries (webhook_id, run_id) WHERE status = 'pending' AND held;
CREATE UNIQUE INDEX webhook_deliveries_message ON webhook_deliveries (webhook_id, message_id);
CREATE INDEX webhook_deliveries_list ON webhook_deliveries (webhook_id, created_at DESC, id DESC);
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (created_at);

-- Doors by which another system starts runs, or sends signals to them, with a signed call.
CREATE TABLE hooks (
    id          uuid PRIMARY KEY,
    owner_id    uuid NOT NULL REFERENCES owners,
    name        text NOT NULL,
    scheme      text NOT NULL CHECK (scheme IN ('standard', 'github')),
    template_id uuid,                              -- what it starts; null when it sends signals
    version     integer,                           -- of the template; null for the newest
    signal      text NOT NULL DEFAULT '',          -- name of the signal it sends; empty when it starts runs
    workflow    text NOT NULL DEFAULT '',          -- CEL over body and headers: id of the run to signal
    filter      text NOT NULL DEFAULT '',          -- CEL over body and headers; empty takes all
    input       text NOT NULL DEFAULT '{}',        -- JSON: CEL by variable, or by key of the signal's payload
    secret      bytea NOT NULL,                    -- sealed
    created_by  uuid NOT NULL,                     -- principal behind the runs
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((template_id IS NULL) = (signal <> '')),
    CHECK ((signal = '') = (workflow = ''))
);
CREATE INDEX hooks_owner ON hooks (owner_id, created_at);

-- Calls that were let in, so that a call sent again starts nothing again.
CREATE TABLE hook_receipts (
    hook_id     uuid NOT NULL REFERENCES hooks ON DELETE CASCADE,
    message_id  text NOT NULL,
    status      text NOT NULL CHECK (status IN ('started', 'signalled', 'filtered')),
    run_id      uuid,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (hook_id, message_id)
);
CREATE INDEX hook_receipts_age ON hook_receipts (received_at);
