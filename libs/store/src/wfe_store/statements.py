"""The statements of a commit cycle. Each takes arrays, one element a row, and is part of a commit at most once.

Moments travel as float8 seconds of Unix time. What a part is made of is said in `wfe_store.part`.
"""

from __future__ import annotations

from wfe_store.part import Part

#: Settings of a connection that runs these. The planner is to go through indexes whatever the statistics of a young
#: table say, and to plan once.
SETTINGS = (
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;"
    " SET enable_mergejoin = off; SET enable_bitmapscan = off; SET jit = off"
)

RUNS = Part(
    "id uuid, expected bigint, version bigint, status text, phase text, reason text, seq int, epoch int, state text,"
    " output text, error text, ended bool, started bool",
    """
updated_runs AS (
    UPDATE runs r SET version = d.version, status = d.status, phase = d.phase, reason = d.reason, seq = d.seq,
        epoch = d.epoch, state = d.state, output = CASE WHEN d.ended THEN coalesce(d.output, r.output) END,
        error = d.error, updated_at = {now},
        started_at = coalesce(r.started_at, CASE WHEN d.started THEN {now} END),
        ended_at = CASE WHEN d.ended THEN coalesce(r.ended_at, {now}) END
    FROM {d} WHERE r.id = d.id AND r.version = d.expected
    RETURNING 1
)
""",
    counted=("updated_runs", "runs"),
)

NEW_RUNS = Part(
    "id uuid, owner_id uuid, template_id uuid, template_name text, template_version int, status text, reason text,"
    " version bigint, seq int, epoch int, state text, input text, output text, error text, labels text,"
    " trigger_type text, created_by uuid, forked_from uuid, forked_snapshot uuid,"
    " parent_run uuid, parent_no int, created_at float8, ended bool, start_at float8",
    """
new_runs AS (
    INSERT INTO runs (id, owner_id, template_id, template_name, template_version, status, reason, version, seq, epoch,
        state, input, output, error, labels, trigger_type, created_by, forked_from, forked_snapshot, parent_run,
        parent_no, created_at, start_at, started_at, updated_at, ended_at)
    SELECT d.id, d.owner_id, d.template_id, d.template_name, d.template_version, d.status, d.reason, d.version, d.seq,
        d.epoch, d.state, d.input, d.output, d.error, d.labels::jsonb, d.trigger_type, d.created_by, d.forked_from,
        d.forked_snapshot, d.parent_run, d.parent_no, to_timestamp(d.created_at), to_timestamp(d.start_at),
        CASE WHEN d.start_at IS NULL THEN {now} END, {now}, CASE WHEN d.ended THEN {now} END
    FROM {d}
)
""",
)

EVENTS = Part(
    "run_id uuid, seq int, type text, actor text, reason text, data text",
    """
new_events AS (
    INSERT INTO events (run_id, seq, at, type, actor, reason, data)
    SELECT d.run_id, d.seq, {now}, d.type, d.actor, d.reason, d.data FROM {d}
)
""",
)

#: Runs with new events of owners that have subscriptions. The caller knows which owners those are, or, for a while
#: after it lost sight of them, asks for all: what counts is what is stored.
OUTBOX = Part(
    "owner_id uuid, run_id uuid, first_seq int, last_seq int",
    """
new_outbox AS (
    INSERT INTO webhook_outbox (owner_id, run_id, first_seq, last_seq)
    SELECT d.owner_id, d.run_id, d.first_seq, d.last_seq FROM {d}
    WHERE EXISTS (SELECT 1 FROM webhooks w WHERE w.owner_id = d.owner_id AND w.disabled_at IS NULL)
)
""",
)

STEPS = Part(
    "run_id uuid, no int, path text, scope text, iteration text, visit int, kind text, status text, seq int,"
    " input text, output text, error text, gate_id uuid, due float8, ended bool",
    """
put_steps AS (
    INSERT INTO steps (run_id, no, path, scope, iteration, visit, kind, status, seq, input, output, error, gate_id,
        due_at, created_at, started_at, ended_at)
    SELECT d.run_id, d.no, d.path, d.scope, d.iteration, d.visit, d.kind, d.status, d.seq, d.input, d.output, d.error,
        d.gate_id, to_timestamp(d.due), {now}, {now}, CASE WHEN d.ended THEN {now} END
    FROM {d}
    ON CONFLICT (run_id, no) DO UPDATE SET status = excluded.status, seq = excluded.seq, visit = excluded.visit,
        input = excluded.input, output = excluded.output, error = excluded.error, gate_id = excluded.gate_id,
        due_at = excluded.due_at, started_at = excluded.started_at, ended_at = excluded.ended_at
)
""",
)

CHANGES = Part(
    "run_id uuid, no int, status text, seq int, output text, error text, due float8, ended bool",
    """
changed_steps AS (
    UPDATE steps s SET status = d.status, seq = d.seq, output = coalesce(d.output, s.output),
        error = coalesce(d.error, s.error), due_at = to_timestamp(d.due), ended_at = CASE WHEN d.ended THEN {now} END
    FROM {d} WHERE s.run_id = d.run_id AND s.no = d.no
    RETURNING 1
)
""",
    counted=("changed_steps", "steps"),
)

DISPATCH = Part(
    "run_id uuid, no int, owner_id uuid, path text, scope text, iteration text, visit int, epoch int, kind text,"
    " queue text, priority int, request text, sealed bool, max_attempts int, clocks text, fence bigint,"
    " available_at float8, queue_deadline float8, total_deadline float8, executor_id text, approval_id uuid,"
    " digest text",
    """
new_dispatch AS (
    INSERT INTO dispatch (run_id, no, owner_id, path, scope, iteration, visit, epoch, kind, queue, priority, request,
        sealed, attempt, max_attempts, clocks, fence, available_at, queue_deadline, total_deadline, executor_id,
        leased_at, created_at, approval_id, digest)
    SELECT d.run_id, d.no, d.owner_id, d.path, d.scope, d.iteration, d.visit, d.epoch, d.kind, d.queue, d.priority,
        d.request, d.sealed, 1, d.max_attempts, d.clocks, d.fence, to_timestamp(d.available_at),
        CASE WHEN d.executor_id IS NULL THEN to_timestamp(d.queue_deadline) END, to_timestamp(d.total_deadline),
        d.executor_id, CASE WHEN d.executor_id IS NOT NULL THEN {now} END, {now}, d.approval_id, d.digest
    FROM {d}
)
""",
)

#: A step that had ended is dispatched again with the input its row recorded.
REDISPATCH = Part(
    "run_id uuid, no int, owner_id uuid, path text, scope text, iteration text, visit int, epoch int, kind text,"
    " queue text, priority int, sealed bool, max_attempts int, clocks text, fence bigint, available_at float8,"
    " queue_deadline float8, total_deadline float8, request text, approval_id uuid, digest text",
    """
dispatched_again AS (
    INSERT INTO dispatch (run_id, no, owner_id, path, scope, iteration, visit, epoch, kind, queue, priority, request,
        sealed, attempt, max_attempts, clocks, fence, available_at, queue_deadline, total_deadline, created_at,
        approval_id, digest)
    SELECT d.run_id, d.no, d.owner_id, d.path, d.scope, d.iteration, d.visit, d.epoch, d.kind, d.queue, d.priority,
        coalesce(d.request, s.input), d.sealed, 1, d.max_attempts, d.clocks, d.fence, to_timestamp(d.available_at),
        to_timestamp(d.queue_deadline), to_timestamp(d.total_deadline), s.created_at, d.approval_id, d.digest
    FROM {d} JOIN steps s ON s.run_id = d.run_id AND s.no = d.no
    RETURNING 1
)
""",
    counted=("dispatched_again", "steps to run again"),
)

#: Another attempt of a live step: the row stays and is free again later.
AGAIN = Part(
    "run_id uuid, no int, fence bigint, next_fence bigint, attempt int, available_at float8, error text",
    """
freed AS (
    UPDATE dispatch q SET executor_id = NULL, leased_at = NULL, progress = NULL, fence = d.next_fence,
        attempt = d.attempt, available_at = to_timestamp(d.available_at), error = d.error,
        queue_deadline = to_timestamp(d.available_at + (q.clocks::json ->> 'queue')::float8)
    FROM {d} WHERE q.run_id = d.run_id AND q.no = d.no AND q.fence = d.fence
    RETURNING 1
)
""",
    counted=("freed", "leases"),
)

#: Steps that ended: their dispatch row becomes their step row. `gone` tells who holds one that must be stopped.
FINISHED = Part(
    "run_id uuid, no int, expected bigint, status text, seq int, attempts int, output text, fault text,"
    " executor text, started float8, stop text",
    """
gone AS (
    DELETE FROM dispatch q USING {d}
    WHERE q.run_id = d.run_id AND q.no = d.no AND (d.expected IS NULL OR q.fence = d.expected)
    RETURNING q.run_id, q.no, q.path, q.scope, q.iteration, q.visit, q.kind, q.attempt, q.max_attempts, q.lease_losses,
        q.request, q.executor_id, q.leased_at, q.created_at, q.fence, q.error, d.status, d.seq, d.attempts, d.output,
        d.fault, d.executor, d.started, d.stop
), kept AS (
    INSERT INTO steps (run_id, no, path, scope, iteration, visit, kind, status, seq, attempts, max_attempts,
        lease_losses, input, output, error, executor, created_at, started_at, ended_at)
    SELECT run_id, no, path, scope, iteration, visit, kind, status, seq, coalesce(attempts, attempt - 1), max_attempts,
        lease_losses, request, output, CASE WHEN status = 'completed' THEN NULL ELSE coalesce(fault, error) END,
        coalesce(nullif(executor, ''), executor_id, ''), created_at, coalesce(to_timestamp(started), leased_at), {now}
    FROM gone
    ON CONFLICT (run_id, no) DO UPDATE SET status = excluded.status, seq = excluded.seq, visit = excluded.visit,
        input = excluded.input, attempts = excluded.attempts, max_attempts = excluded.max_attempts,
        lease_losses = excluded.lease_losses, output = excluded.output, error = excluded.error,
        executor = excluded.executor, started_at = excluded.started_at, ended_at = excluded.ended_at
)
""",
    counted=("gone", "leases"),
)
#: JSON of the leases that ended under executors that still hold them; null when there are none.
STOPPED = """
(SELECT json_agg(json_build_array(run_id, no, fence, executor_id, stop))
    FROM gone WHERE stop <> '' AND executor_id IS NOT NULL)
"""

TIMERS = Part(
    "run_id uuid, no int, due float8",
    """
set_timers AS (
    INSERT INTO timers (run_id, no, due_at) SELECT d.run_id, d.no, to_timestamp(d.due) FROM {d}
    ON CONFLICT (run_id, no) DO UPDATE SET due_at = excluded.due_at
)
""",
)

TIMERS_OFF = Part(
    "run_id uuid, no int",
    "cleared_timers AS (DELETE FROM timers t USING {d} WHERE t.run_id = d.run_id AND t.no = d.no)",
)

SNAPSHOTS = Part(
    "run_id uuid, id uuid, seq int, kind text, name text, state text",
    """
new_snapshots AS (
    INSERT INTO snapshots (run_id, id, seq, kind, name, state, created_at)
    SELECT d.run_id, d.id, d.seq, d.kind, d.name, d.state, {now} FROM {d}
)
""",
)

HOLD = Part(
    "run_id uuid",
    """
held_dispatch AS (UPDATE dispatch q SET held = true FROM {d} WHERE q.run_id = d.run_id),
held_gates AS (
    UPDATE gates g SET held_at = {now} FROM {d}
    WHERE g.run_id = d.run_id AND g.status IN ('open', 'scheduled')
)
""",
)

#: Everything frozen goes on, later by the length of the pause.
RELEASE = Part(
    "run_id uuid, seconds float8",
    """
released_dispatch AS (
    UPDATE dispatch q SET held = false, available_at = q.available_at + make_interval(secs => d.seconds),
        queue_deadline = q.queue_deadline + make_interval(secs => d.seconds),
        total_deadline = q.total_deadline + make_interval(secs => d.seconds)
    FROM {d} WHERE q.run_id = d.run_id
), released_gates AS (
    UPDATE gates g SET held_at = NULL, expires_at = g.expires_at + make_interval(secs => d.seconds),
        opens_at = CASE WHEN g.status = 'scheduled' THEN g.opens_at + make_interval(secs => d.seconds)
            ELSE g.opens_at END,
        next_at = g.next_at + make_interval(secs => d.seconds)
    FROM {d} WHERE g.run_id = d.run_id AND g.held_at IS NOT NULL
)
""",
)


ROLLED_BACK = Part(
    "run_id uuid, seq int",
    """
rolled_back AS (
    UPDATE steps s SET status = 'rolled_back' FROM {d}
    WHERE s.run_id = d.run_id AND s.status <> 'rolled_back' AND s.seq > d.seq
), restored AS (
    UPDATE steps s SET status = s.undone_status, undone_seq = NULL, undone_status = NULL FROM {d}
    WHERE s.run_id = d.run_id AND s.seq <= d.seq AND s.undone_seq > d.seq
)
""",
)

#: What was live at the point a run goes back to is entered anew, under another number.
UNDONE = Part(
    "run_id uuid, no int",
    "undone AS (UPDATE steps s SET status = 'rolled_back' FROM {d} WHERE s.run_id = d.run_id AND s.no = d.no)",
)

SIGNALS = Part(
    "run_id uuid, id uuid, name text, payload text",
    """
new_signals AS (
    INSERT INTO signals (run_id, id, name, payload, at) SELECT d.run_id, d.id, d.name, d.payload, {now} FROM {d}
)
""",
)

#: What steps want of their child runs; a later wish takes the place of an earlier one.
CHILDREN = Part(
    "run_id uuid, no int, child_id uuid, owner_id uuid, started_by uuid, wish text, request text",
    """
wished_children AS (
    INSERT INTO children (run_id, no, child_id, owner_id, started_by, wish, request, wished_at)
    SELECT d.run_id, d.no, d.child_id, d.owner_id, d.started_by, d.wish, d.request, {now} FROM {d}
    ON CONFLICT (run_id, no) DO UPDATE SET child_id = excluded.child_id, wish = excluded.wish, done = false,
        ended = false, wished_at = excluded.wished_at
)
""",
)

CHILDREN_DONE = Part(
    "run_id uuid, no int",
    "forgotten_children AS (DELETE FROM children c USING {d} WHERE c.run_id = d.run_id AND c.no = d.no)",
)

#: A child begins only while its parent still wants it to.
CHILDREN_BEGUN = Part(
    "id uuid",
    """
begun_children AS (
    UPDATE children c SET done = true FROM {d} WHERE c.child_id = d.id AND c.wish IN ('start', 'retry')
    RETURNING 1
)
""",
    counted=("begun_children", "parents that wait"),
)

#: A child's end is noted with it, for telling its parent.
CHILDREN_ENDED = Part(
    "id uuid",
    """
ended_children AS (
    UPDATE children c SET ended = true FROM {d} WHERE c.child_id = d.id AND c.wish IN ('start', 'retry')
)
""",
)

KEYS = Part(
    "owner_id uuid, key text, request_hash bytea, run_id uuid",
    "new_keys AS (INSERT INTO idempotency (owner_id, key, request_hash, run_id) SELECT d.* FROM {d})",
)

SEALED = Part(
    "run_id uuid, name text, ciphertext bytea",
    "new_sealed AS (INSERT INTO sealed_values (run_id, name, ciphertext) SELECT d.* FROM {d})",
)

BLOBS = Part(
    "run_id uuid, id uuid, part int, data bytea",
    "new_blobs AS (INSERT INTO blobs (run_id, id, part, data) SELECT d.* FROM {d})",
)

#: A fork begins with the finished steps of the run it came from, and its large values.
COPIES = Part(
    "run_id uuid, source uuid, seq int, live text",
    """
copied_steps AS (
    INSERT INTO steps (run_id, no, path, scope, iteration, visit, kind, status, seq, attempts, max_attempts,
        lease_losses, input, output, error, executor, gate_id, due_at, created_at, started_at, ended_at)
    SELECT d.run_id, s.no, s.path, s.scope, s.iteration, s.visit, s.kind,
        CASE WHEN s.undone_seq > d.seq THEN s.undone_status ELSE s.status END, 1, s.attempts, s.max_attempts,
        s.lease_losses, s.input, s.output, s.error, s.executor, s.gate_id, s.due_at, s.created_at, s.started_at,
        s.ended_at
    FROM {d} JOIN steps s ON s.run_id = d.source AND s.seq <= d.seq
        AND (s.status NOT IN ('rolled_back', 'pending') OR s.undone_seq > d.seq) AND NOT d.live::jsonb @> to_jsonb(s.no)
), copied_blobs AS (
    INSERT INTO blobs (run_id, id, part, data)
    SELECT d.run_id, b.id, b.part, b.data FROM {d} JOIN blobs b ON b.run_id = d.source
)
""",
)
