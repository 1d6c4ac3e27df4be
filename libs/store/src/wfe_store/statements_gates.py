"""The statements of a commit cycle about gates; see `wfe_store.statements`."""

from __future__ import annotations

from wfe_store.part import Part

GATES = Part(
    "id uuid, run_id uuid, no int, owner_id uuid, path text, iteration text, title text, body text, payload text,"
    " policy text, digest text, started_by uuid, replaces uuid, expires float8, on_expiry text, who text, exclude text,"
    " risk text, bound text, round int, opens float8, next_in float8, agenda text, branch text",
    """
new_gates AS (
    INSERT INTO gates (id, run_id, no, owner_id, path, iteration, status, title, body, payload, policy, digest,
        started_by, replaces, created_at, expires_at, on_expiry, who, exclude, risk, bound, round, opens_at, next_at,
        agenda, branch)
    SELECT d.id, d.run_id, d.no, d.owner_id, d.path, d.iteration,
        CASE WHEN d.opens IS NULL THEN 'open' ELSE 'scheduled' END, d.title, d.body, d.payload, d.policy, d.digest,
        d.started_by, d.replaces, {now}, to_timestamp(d.expires), d.on_expiry,
        ARRAY(SELECT jsonb_array_elements_text(d.who::jsonb)),
        ARRAY(SELECT jsonb_array_elements_text(d.exclude::jsonb)), d.risk, d.bound, d.round, to_timestamp(d.opens),
        {now} + make_interval(secs => d.next_in), d.agenda, d.branch
    FROM {d}
)
""",
)

GATES_OFF = Part(
    "id uuid, status text, decided bool",
    """
closed_gates AS (
    UPDATE gates g SET status = CASE WHEN g.status IN ('open', 'scheduled') THEN d.status ELSE g.status END,
        decided_at = coalesce(g.decided_at, {now}), told_at = {now}, version = g.version + 1, next_at = NULL
    FROM {d}
    WHERE g.id = d.id AND (g.status IN ('open', 'scheduled') OR (d.decided AND g.outcome IS NOT NULL))
    RETURNING 1
)
""",
    counted=("closed_gates", "open gates"),
)

#: Withdrawn with the end of their run, which was retried and asks anew.
SUPERSEDED = Part(
    "id uuid",
    """
superseded_gates AS (
    UPDATE gates g SET status = 'superseded', version = g.version + 1 FROM {d}
    WHERE g.id = d.id AND g.status = 'withdrawn' RETURNING 1
)
""",
    counted=("superseded_gates", "withdrawn gates"),
)

TOLD = Part(
    "id uuid",
    "told_gates AS (UPDATE gates g SET told_at = {now} FROM {d} WHERE g.id = d.id AND g.told_at IS NULL)",
)

NOTED = Part(
    "id uuid, n bigint",
    """
told_notes AS (
    UPDATE gate_notes t SET told_at = {now} FROM {d} WHERE t.gate_id = d.id AND t.n <= d.n AND t.told_at IS NULL
)
""",
)

#: A gate sent them back: their rows are rolled back, and those of the steps inside of them.
REVISED = Part(
    "run_id uuid, seq int, scope text, path text, prefix text",
    """
revised_steps AS (
    UPDATE steps s SET status = 'rolled_back', undone_seq = d.seq, undone_status = s.status FROM {d}
    WHERE s.run_id = d.run_id AND s.status <> 'rolled_back'
        AND ((s.scope = d.scope AND s.path = d.path) OR starts_with(s.scope, d.prefix))
)
""",
)
