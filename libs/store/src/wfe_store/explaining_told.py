"""Facts that say why a schedule does not fire, or a webhook is not told. Every read names the owner."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from wfe_store.pool import Connection


class ScheduleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a schedule that says why it has not fired.

    Attributes:
        now: The store's clock.
        overlap: skip, queue, cancel or allow.
        next_at: Its next firing; None while it is paused, and when there is none.
        paused_at: Since when it is paused.
        active: Runs of it that have not ended, oldest first, at most 10.
        open_at: Moment of the oldest firing that is not decided on or not started; None without one.
        open_status: due or starting.
        last_at, last_status, last_reason: Of the newest firing that is decided on.
    """

    now: datetime
    overlap: str
    next_at: datetime | None
    paused_at: datetime | None
    active: list[UUID]
    open_at: datetime | None
    open_status: str | None
    last_at: datetime | None
    last_status: str | None
    last_reason: str | None


async def schedule_facts(connection: Connection, owner: UUID, schedule: UUID) -> ScheduleFacts | None:
    """Facts of an owner's schedule; None when there is none."""
    cursor = await connection.execute(
        """
        SELECT clock_timestamp(), s.overlap, s.next_at, s.paused_at, (
                SELECT coalesce(array_agg(a.run_id ORDER BY a.at), '{}') FROM (
                    SELECT f.at, f.run_id FROM schedule_firings f JOIN runs r ON r.id = f.run_id
                    WHERE f.schedule_id = s.id AND f.status = 'started' AND r.ended_at IS NULL
                    ORDER BY f.at LIMIT 10) AS a),
            o.at, o.status, l.at, l.status, l.reason
        FROM schedules s
            LEFT JOIN LATERAL (SELECT f.at, f.status FROM schedule_firings f
                WHERE f.schedule_id = s.id AND f.status IN ('due', 'starting') ORDER BY f.at LIMIT 1) AS o ON true
            LEFT JOIN LATERAL (SELECT f.at, f.status, f.reason FROM schedule_firings f
                WHERE f.schedule_id = s.id AND f.status NOT IN ('due', 'starting')
                ORDER BY f.at DESC LIMIT 1) AS l ON true
        WHERE s.id = %s AND s.owner_id = %s
        """,
        (schedule, owner),
    )
    row = await cursor.fetchone()
    return None if row is None else ScheduleFacts(**dict(zip(ScheduleFacts.__struct_fields__, row, strict=True)))


class WebhookFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a webhook that says why it is not told.

    Attributes:
        now: The store's clock.
        active_from: Since when events are surely told; None while that is made sure of.
        failing_since: First failure after the last success.
        paused_until: The receiver asked to be left alone until then.
        disabled_at, disabled_reason: Since when and why (asked, gone or failing) it is told nothing.
        outbox_since: When the oldest event of the owner happened that no delivery has been made of.
        pending: Deliveries that are not over, counted up to 10,000.
        failed: Deliveries given up, counted up to 10,000.
        due_since: When the one of them was due that has been so the longest; None when none is.
        next_at: When the next one of those that wait is due.
        attempts: Made of the one that was tried most.
        last: JSON of the newest attempt of that one; empty without.
    """

    now: datetime
    active_from: datetime | None
    failing_since: datetime | None
    paused_until: datetime | None
    disabled_at: datetime | None
    disabled_reason: str
    outbox_since: datetime | None
    pending: int
    failed: int
    due_since: datetime | None
    next_at: datetime | None
    attempts: int
    last: str


async def webhook_facts(connection: Connection, owner: UUID, webhook: UUID) -> WebhookFacts | None:
    """Facts of an owner's webhook; None when there is none."""
    cursor = await connection.execute(
        """
        SELECT n.now, w.active_from, w.failing_since, w.paused_until, w.disabled_at, w.disabled_reason, (
                SELECT e.at FROM (SELECT run_id, first_seq FROM webhook_outbox x WHERE x.owner_id = w.owner_id
                    ORDER BY x.id LIMIT 1) AS o JOIN events e ON e.run_id = o.run_id AND e.seq = o.first_seq),
            p.pending, (SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries d
                WHERE d.webhook_id = w.id AND d.status = 'failed' LIMIT 10000) AS f),
            p.due_since, p.next_at, coalesce(t.attempts, 0), coalesce(t.log[cardinality(t.log)], '')
        FROM webhooks w CROSS JOIN (SELECT clock_timestamp() AS now) AS n
            CROSS JOIN LATERAL (
                SELECT count(*) AS pending,
                    min(d.next_at) FILTER (WHERE d.next_at <= n.now AND NOT d.held) AS due_since,
                    min(d.next_at) FILTER (WHERE d.next_at > n.now) AS next_at
                FROM (SELECT next_at, held FROM webhook_deliveries x
                    WHERE x.webhook_id = w.id AND x.status = 'pending' LIMIT 10000) AS d) AS p
            LEFT JOIN LATERAL (SELECT d.attempts, d.log FROM webhook_deliveries d
                WHERE d.webhook_id = w.id AND d.status = 'pending' AND d.attempts > 0
                ORDER BY d.attempts DESC, d.next_at LIMIT 1) AS t ON true
        WHERE w.id = %s AND w.owner_id = %s
        """,
        (webhook, owner),
    )
    row = await cursor.fetchone()
    return None if row is None else WebhookFacts(**dict(zip(WebhookFacts.__struct_fields__, row, strict=True)))
