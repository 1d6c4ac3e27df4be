"""The statements of a commit cycle. Each takes arrays, one element a row, and is sent at most once a cycle.

Parameters are bound in binary (`%b`): psycopg's text form of an array costs 20 times as much. Moments travel as
float8 seconds of Unix time. A statement a decision stands on ends in `wfe_expect`, which refuses the transaction when
it changed another number of rows; the cycle then decides its runs one by one (see `cycle.Commit`).
"""

from __future__ import annotations

#: Settings of a connection that runs these. The planner is to go through indexes whatever the statistics of a young
#: table say, and to plan once.
SETTINGS = (
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;"
    " SET enable_mergejoin = off; SET enable_bitmapscan = off; SET jit = off"
)

INSERT_RUNS = """
INSERT INTO runs (id, owner_id, template_id, template_name, template_version, status, reason, version, seq, epoch,
    state, input, output, error, labels, trigger_type, created_by, forked_from, forked_snapshot, created_at,
    started_at, updated_at, ended_at)
SELECT d.id, d.owner_id, d.template_id, d.template_name, d.template_version, d.status, d.reason, d.version, d.seq,
    d.epoch, d.state, d.input, d.output, d.error, d.labels::jsonb, d.trigger_type, d.created_by, d.forked_from,
    d.forked_snapshot, n.now, n.now, n.now, CASE WHEN d.ended THEN n.now END
FROM unnest(%b::uuid[], %b::uuid[], %b::uuid[], %b::text[], %b::int[], %b::text[], %b::text[], %b::bigint[], %b::int[],
    %b::int[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::uuid[], %b::uuid[],
    %b::uuid[], %b::bool[])
    AS d (id, owner_id, template_id, template_name, template_version, status, reason, version, seq, epoch, state,
    input, output, error, labels, trigger_type, created_by, forked_from, forked_snapshot, ended),
    (SELECT to_timestamp(%b::float8) AS now) n
"""

UPDATE_RUNS = """
WITH d AS (
    SELECT * FROM unnest(%b::uuid[], %b::bigint[], %b::bigint[], %b::text[], %b::text[], %b::int[], %b::int[],
        %b::text[], %b::text[], %b::text[], %b::bool[])
        AS d (id, expected, version, status, reason, seq, epoch, state, output, error, ended)
), u AS (
    UPDATE runs r SET version = d.version, status = d.status, reason = d.reason, seq = d.seq, epoch = d.epoch,
        state = d.state, output = CASE WHEN d.ended THEN coalesce(d.output, r.output) END, error = d.error,
        updated_at = to_timestamp(%b::float8),
        ended_at = CASE WHEN d.ended THEN coalesce(r.ended_at, to_timestamp(%b::float8)) END
    FROM d WHERE r.id = d.id AND r.version = d.expected
    RETURNING 1
)
SELECT wfe_expect((SELECT count(*) FROM u), %b::bigint, 'runs')
"""

INSERT_EVENTS = """
INSERT INTO events (run_id, seq, at, type, actor, reason, data)
SELECT d.run_id, d.seq, to_timestamp(%b::float8), d.type, d.actor, d.reason, d.data
FROM unnest(%b::uuid[], %b::int[], %b::text[], %b::text[], %b::text[], %b::text[])
    AS d (run_id, seq, type, actor, reason, data)
"""

#: Runs with new events of owners that have subscriptions. The caller knows which owners those are, or, for a while
#: after it lost sight of them, asks for all: what counts is what is stored.
INSERT_OUTBOX = """
INSERT INTO webhook_outbox (owner_id, run_id, first_seq, last_seq)
SELECT d.owner_id, d.run_id, d.first_seq, d.last_seq
FROM unnest(%b::uuid[], %b::uuid[], %b::int[], %b::int[]) AS d (owner_id, run_id, first_seq, last_seq)
WHERE EXISTS (SELECT 1 FROM webhooks w WHERE w.owner_id = d.owner_id AND w.disabled_at IS NULL)
"""

PUT_STEPS = """
INSERT INTO steps (run_id, no, path, iteration, visit, kind, status, seq, input, output, error, gate_id, due_at,
    created_at, started_at, ended_at)
SELECT d.run_id, d.no, d.path, d.iteration, d.visit, d.kind, d.status, d.seq, d.input, d.output, d.error, d.gate_id,
    to_timestamp(d.due), n.now, n.now, CASE WHEN d.ended THEN n.now END
FROM unnest(%b::uuid[], %b::int[], %b::text[], %b::text[], %b::int[], %b::text[], %b::text[], %b::int[], %b::text[],
    %b::text[], %b::text[], %b::uuid[], %b::float8[], %b::bool[])
    AS d (run_id, no, path, iteration, visit, kind, status, seq, input, output, error, gate_id, due, ended),
    (SELECT to_timestamp(%b::float8) AS now) n
ON CONFLICT (run_id, no) DO UPDATE SET status = excluded.status, seq = excluded.seq, visit = excluded.visit,
    input = excluded.input, output = excluded.output, error = excluded.error, gate_id = excluded.gate_id,
    due_at = excluded.due_at, started_at = excluded.started_at, ended_at = excluded.ended_at
"""

CHANGE_STEPS = """
WITH u AS (
    UPDATE steps s SET status = d.status, seq = d.seq, output = coalesce(d.output, s.output),
        error = coalesce(d.error, s.error), due_at = to_timestamp(d.due),
        ended_at = CASE WHEN d.ended THEN to_timestamp(%b::float8) END
    FROM unnest(%b::uuid[], %b::int[], %b::text[], %b::int[], %b::text[], %b::text[], %b::float8[], %b::bool[])
        AS d (run_id, no, status, seq, output, error, due, ended)
    WHERE s.run_id = d.run_id AND s.no = d.no
    RETURNING 1
)
SELECT wfe_expect((SELECT count(*) FROM u), %b::bigint, 'steps')
"""

INSERT_DISPATCH = """
INSERT INTO dispatch (run_id, no, owner_id, path, iteration, visit, epoch, kind, queue, priority, request, sealed,
    attempt, max_attempts, clocks, fence, available_at, queue_deadline, total_deadline, executor_id, leased_at,
    created_at)
SELECT d.run_id, d.no, d.owner_id, d.path, d.iteration, d.visit, d.epoch, d.kind, d.queue, d.priority, d.request,
    d.sealed, 1, d.max_attempts, d.clocks, d.fence, to_timestamp(d.available_at),
    CASE WHEN d.executor_id IS NULL THEN to_timestamp(d.queue_deadline) END, to_timestamp(d.total_deadline),
    d.executor_id, CASE WHEN d.executor_id IS NOT NULL THEN n.now END, n.now
FROM unnest(%b::uuid[], %b::int[], %b::uuid[], %b::text[], %b::text[], %b::int[], %b::int[], %b::text[], %b::text[],
    %b::int[], %b::text[], %b::bool[], %b::int[], %b::text[], %b::bigint[], %b::float8[], %b::float8[], %b::float8[],
    %b::text[])
    AS d (run_id, no, owner_id, path, iteration, visit, epoch, kind, queue, priority, request, sealed, max_attempts,
    clocks, fence, available_at, queue_deadline, total_deadline, executor_id),
    (SELECT to_timestamp(%b::float8) AS now) n
"""

#: A step that had ended is dispatched again with the input its row recorded.
REDISPATCH = """
WITH d AS (
    SELECT * FROM unnest(%b::uuid[], %b::int[], %b::uuid[], %b::text[], %b::text[], %b::int[], %b::int[], %b::text[],
        %b::text[], %b::int[], %b::bool[], %b::int[], %b::text[], %b::bigint[], %b::float8[], %b::float8[],
        %b::float8[])
        AS d (run_id, no, owner_id, path, iteration, visit, epoch, kind, queue, priority, sealed, max_attempts,
        clocks, fence, available_at, queue_deadline, total_deadline)
), i AS (
    INSERT INTO dispatch (run_id, no, owner_id, path, iteration, visit, epoch, kind, queue, priority, request, sealed,
        attempt, max_attempts, clocks, fence, available_at, queue_deadline, total_deadline, created_at)
    SELECT d.run_id, d.no, d.owner_id, d.path, d.iteration, d.visit, d.epoch, d.kind, d.queue, d.priority, s.input,
        d.sealed, 1, d.max_attempts, d.clocks, d.fence, to_timestamp(d.available_at), to_timestamp(d.queue_deadline),
        to_timestamp(d.total_deadline), s.created_at
    FROM d JOIN steps s ON s.run_id = d.run_id AND s.no = d.no
    RETURNING 1
)
SELECT wfe_expect((SELECT count(*) FROM i), %b::bigint, 'steps to run again')
"""

#: Another attempt of a live step: the row stays and is free again later.
AGAIN = """
WITH u AS (
    UPDATE dispatch q SET executor_id = NULL, leased_at = NULL, progress = NULL, fence = d.next_fence,
        attempt = d.attempt, available_at = to_timestamp(d.available_at), error = d.error,
        queue_deadline = to_timestamp(d.available_at + (q.clocks::json ->> 'queue')::float8)
    FROM unnest(%b::uuid[], %b::int[], %b::bigint[], %b::bigint[], %b::int[], %b::float8[], %b::text[])
        AS d (run_id, no, fence, next_fence, attempt, available_at, error)
    WHERE q.run_id = d.run_id AND q.no = d.no AND q.fence = d.fence
    RETURNING 1
)
SELECT wfe_expect((SELECT count(*) FROM u), %b::bigint, 'leases')
"""

#: Steps that ended: their dispatch row becomes their step row. Answers who holds one that must be stopped.
FINISH = """
WITH gone AS (
    DELETE FROM dispatch q
    USING unnest(%b::uuid[], %b::int[], %b::bigint[], %b::text[], %b::int[], %b::int[], %b::text[], %b::text[],
        %b::text[], %b::float8[], %b::text[])
        AS d (run_id, no, expected, status, seq, attempts, output, fault, executor, started, stop)
    WHERE q.run_id = d.run_id AND q.no = d.no AND (d.expected IS NULL OR q.fence = d.expected)
    RETURNING q.run_id, q.no, q.path, q.iteration, q.visit, q.kind, q.attempt, q.max_attempts, q.lease_losses,
        q.request, q.executor_id, q.leased_at, q.created_at, q.fence, q.error, d.status, d.seq, d.attempts, d.output,
        d.fault, d.executor, d.started, d.stop
), kept AS (
    INSERT INTO steps (run_id, no, path, iteration, visit, kind, status, seq, attempts, max_attempts, lease_losses,
        input, output, error, executor, created_at, started_at, ended_at)
    SELECT run_id, no, path, iteration, visit, kind, status, seq, coalesce(attempts, attempt - 1), max_attempts,
        lease_losses, request, output, CASE WHEN status = 'completed' THEN NULL ELSE coalesce(fault, error) END,
        coalesce(nullif(executor, ''), executor_id, ''), created_at, coalesce(to_timestamp(started), leased_at),
        to_timestamp(%b::float8)
    FROM gone
    ON CONFLICT (run_id, no) DO UPDATE SET status = excluded.status, seq = excluded.seq, visit = excluded.visit,
        attempts = excluded.attempts, max_attempts = excluded.max_attempts, lease_losses = excluded.lease_losses,
        output = excluded.output, error = excluded.error, executor = excluded.executor,
        started_at = excluded.started_at, ended_at = excluded.ended_at
)
SELECT wfe_expect(count(*), %b::bigint, 'leases'),
    array_agg(run_id) FILTER (WHERE stop <> '' AND executor_id IS NOT NULL),
    array_agg(no) FILTER (WHERE stop <> '' AND executor_id IS NOT NULL),
    array_agg(fence) FILTER (WHERE stop <> '' AND executor_id IS NOT NULL),
    array_agg(executor_id) FILTER (WHERE stop <> '' AND executor_id IS NOT NULL),
    array_agg(stop) FILTER (WHERE stop <> '' AND executor_id IS NOT NULL)
FROM gone
"""

SET_TIMERS = """
INSERT INTO timers (run_id, no, due_at)
SELECT d.run_id, d.no, to_timestamp(d.due) FROM unnest(%b::uuid[], %b::int[], %b::float8[]) AS d (run_id, no, due)
ON CONFLICT (run_id, no) DO UPDATE SET due_at = excluded.due_at
"""

CLEAR_TIMERS = """
DELETE FROM timers t USING unnest(%b::uuid[], %b::int[]) AS d (run_id, no) WHERE t.run_id = d.run_id AND t.no = d.no
"""

INSERT_GATES = """
INSERT INTO gates (id, run_id, no, owner_id, path, iteration, status, title, body, payload, policy, digest, started_by,
    replaces, created_at, expires_at, on_expiry)
SELECT d.id, d.run_id, d.no, d.owner_id, d.path, d.iteration, 'open', d.title, d.body, d.payload, d.policy, d.digest,
    d.started_by, d.replaces, to_timestamp(%b::float8), to_timestamp(d.expires), d.on_expiry
FROM unnest(%b::uuid[], %b::uuid[], %b::int[], %b::uuid[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
    %b::text[], %b::text[], %b::uuid[], %b::uuid[], %b::float8[], %b::text[])
    AS d (id, run_id, no, owner_id, path, iteration, title, body, payload, policy, digest, started_by, replaces,
    expires, on_expiry)
"""

CLOSE_GATES = """
WITH u AS (
    UPDATE gates g SET status = d.status, decided_at = to_timestamp(%b::float8), told_at = to_timestamp(%b::float8)
    FROM unnest(%b::uuid[], %b::text[]) AS d (id, status)
    WHERE g.id = d.id AND g.status = 'open'
    RETURNING 1
)
SELECT wfe_expect((SELECT count(*) FROM u), %b::bigint, 'open gates')
"""

TOLD_GATES = """
UPDATE gates g SET told_at = to_timestamp(%b::float8) FROM unnest(%b::uuid[]) AS d (id)
WHERE g.id = d.id AND g.told_at IS NULL
"""

INSERT_SNAPSHOTS = """
INSERT INTO snapshots (run_id, id, seq, kind, name, state, created_at)
SELECT d.run_id, d.id, d.seq, d.kind, d.name, d.state, to_timestamp(%b::float8)
FROM unnest(%b::uuid[], %b::uuid[], %b::int[], %b::text[], %b::text[], %b::text[])
    AS d (run_id, id, seq, kind, name, state)
"""

HOLD_DISPATCH = """
UPDATE dispatch q SET held = true FROM unnest(%b::uuid[]) AS d (run_id) WHERE q.run_id = d.run_id
"""

HOLD_GATES = """
UPDATE gates g SET held_at = to_timestamp(%b::float8) FROM unnest(%b::uuid[]) AS d (run_id)
WHERE g.run_id = d.run_id AND g.status = 'open'
"""

#: Everything frozen goes on, later by the length of the pause.
RELEASE_DISPATCH = """
UPDATE dispatch q SET held = false, available_at = q.available_at + make_interval(secs => d.seconds),
    queue_deadline = q.queue_deadline + make_interval(secs => d.seconds),
    total_deadline = q.total_deadline + make_interval(secs => d.seconds)
FROM unnest(%b::uuid[], %b::float8[]) AS d (run_id, seconds) WHERE q.run_id = d.run_id
"""

RELEASE_GATES = """
UPDATE gates g SET held_at = NULL, expires_at = g.expires_at + make_interval(secs => d.seconds)
FROM unnest(%b::uuid[], %b::float8[]) AS d (run_id, seconds) WHERE g.run_id = d.run_id AND g.held_at IS NOT NULL
"""

ROLL_BACK_STEPS = """
UPDATE steps s SET status = 'rolled_back'
FROM unnest(%b::uuid[], %b::int[]) AS d (run_id, seq)
WHERE s.run_id = d.run_id AND s.status <> 'rolled_back'
    AND (s.seq > d.seq OR s.status NOT IN ('completed', 'skipped'))
"""

INSERT_KEYS = """
INSERT INTO idempotency (owner_id, key, request_hash, run_id)
SELECT * FROM unnest(%b::uuid[], %b::text[], %b::bytea[], %b::uuid[])
"""

INSERT_SEALED = """
INSERT INTO sealed_values (run_id, name, ciphertext) SELECT * FROM unnest(%b::uuid[], %b::text[], %b::bytea[])
"""

#: A fork begins with the finished steps of the run it came from.
COPY_STEPS = """
INSERT INTO steps (run_id, no, path, iteration, visit, kind, status, seq, attempts, max_attempts, lease_losses, input,
    output, error, executor, gate_id, due_at, created_at, started_at, ended_at)
SELECT d.run_id, s.no, s.path, s.iteration, s.visit, s.kind, s.status, 1, s.attempts, s.max_attempts, s.lease_losses,
    s.input, s.output, s.error, s.executor, s.gate_id, s.due_at, s.created_at, s.started_at, s.ended_at
FROM unnest(%b::uuid[], %b::uuid[], %b::int[]) AS d (run_id, source, seq)
JOIN steps s ON s.run_id = d.source AND s.seq <= d.seq AND s.status IN ('completed', 'skipped')
"""

#: Likewise its sealed values.
COPY_SEALED = """
INSERT INTO sealed_values (run_id, name, ciphertext)
SELECT d.run_id, v.name, v.ciphertext FROM unnest(%b::uuid[], %b::uuid[]) AS d (run_id, source)
JOIN sealed_values v ON v.run_id = d.source
"""
