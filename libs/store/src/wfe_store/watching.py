"""What is going on in the whole store, for metrics and for the search for runs that stand still. Reads only."""

from __future__ import annotations

from uuid import UUID

import msgspec
from psycopg import sql

from wfe_store.pool import Connection

#: Seconds without a change after which a run that nothing can move any more counts as stuck.
STUCK_SECONDS = 120.0
#: Tables whose rows come and go with every step.
HOT = ("dispatch", "timers", "executors", "children", "webhook_outbox")
#: Rows of a default partition that are counted at most; one is too many already.
_MOST_COUNTED = 10_000


class Queue(msgspec.Struct, frozen=True):
    """A queue now.

    Attributes:
        ready: Steps an executor could take at once.
        leased: Steps executors have.
        backing_off: Steps that wait for their next attempt.
        held: Steps of paused runs.
        oldest_ready: Seconds the oldest ready step has waited; 0 without any.
    """

    name: str
    ready: int
    leased: int
    backing_off: int
    held: int
    oldest_ready: float


async def queues(connection: Connection) -> list[Queue]:
    """Every queue that has live steps."""
    cursor = await connection.execute(
        """
        WITH d AS (
            SELECT queue, executor_id IS NOT NULL AS leased, held,
                executor_id IS NULL AND NOT held AND available_at <= n.now AS ready, n.now - available_at AS age
            FROM dispatch, (SELECT clock_timestamp() AS now) n
        )
        SELECT queue, count(*) FILTER (WHERE ready), count(*) FILTER (WHERE leased),
            count(*) FILTER (WHERE NOT ready AND NOT leased AND NOT held), count(*) FILTER (WHERE held AND NOT leased),
            coalesce(extract(epoch FROM max(age) FILTER (WHERE ready)), 0)::float8
        FROM d GROUP BY queue ORDER BY queue
        """
    )
    return [Queue(*row) for row in await cursor.fetchall()]


async def executors(connection: Connection) -> dict[str, tuple[int, int]]:
    """Executors by queue: (those that take steps, those that are stopping)."""
    cursor = await connection.execute(
        "SELECT q, count(*) FILTER (WHERE NOT stopping), count(*) FILTER (WHERE stopping) FROM executors,"
        " unnest(queues) AS q WHERE lease_until > clock_timestamp() GROUP BY q"
    )
    return {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}


async def runs_by_status(connection: Connection) -> dict[str, int]:
    """How many runs there are in each status; reads every run, so ask rarely."""
    cursor = await connection.execute("SELECT status, count(*) FROM runs GROUP BY status")
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def timers_late(connection: Connection) -> float:
    """Seconds by which the oldest timer nobody has decided on is late; 0 when none is."""
    cursor = await connection.execute(
        "SELECT greatest(0, extract(epoch FROM clock_timestamp() - min(due_at)))::float8 FROM timers"
    )
    row = await cursor.fetchone()
    return float(row[0] or 0.0) if row else 0.0


async def oldest_transaction(connection: Connection) -> float:
    """Seconds the oldest transaction of another session in this database has been open; 0 without any.

    While it is open, nothing that was deleted since goes. Of other roles' sessions only roles with pg_read_all_stats
    learn this.
    """
    cursor = await connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::float8 FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    row = await cursor.fetchone()
    return float(row[0] or 0.0) if row else 0.0


async def dead_rows(connection: Connection) -> dict[str, int]:
    """Rows that are over and still take room, about, by table of those that change all the time."""
    cursor = await connection.execute(
        "SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname = ANY(%s)",
        (list(HOT),),
    )
    return {str(row[0]): int(row[1]) for row in await cursor.fetchall()}


async def children_late(connection: Connection) -> float:
    """Seconds since the oldest wish of a child run, or news of its end, that nobody has carried out; 0 for none."""
    cursor = await connection.execute(
        """
        SELECT greatest(0, extract(epoch FROM clock_timestamp() - least(
            (SELECT min(wished_at) FROM children WHERE NOT done),
            (SELECT min(r.ended_at) FROM children c JOIN runs r ON r.id = c.child_id WHERE c.ended))))::float8
        """
    )
    row = await cursor.fetchone()
    return float(row[0] or 0.0) if row else 0.0


class OpenGates(msgspec.Struct, frozen=True):
    """Gates nobody has decided.

    Attributes:
        count: How many.
        oldest: Seconds the oldest has been open; 0 without any.
        untold: Decisions no scheduler has taken in yet.
        oldest_untold: Seconds since the oldest of them.
    """

    count: int
    oldest: float
    untold: int
    oldest_untold: float


async def open_gates(connection: Connection) -> OpenGates:
    """Gates that are open, of all owners; paused runs' gates count too."""
    cursor = await connection.execute(
        """
        SELECT count(*) FILTER (WHERE status = 'open'),
            coalesce(extract(epoch FROM n.now - min(created_at) FILTER (WHERE status = 'open')), 0)::float8,
            count(*) FILTER (WHERE outcome IS NOT NULL AND told_at IS NULL),
            coalesce(extract(epoch FROM n.now
                - min(decided_at) FILTER (WHERE outcome IS NOT NULL AND told_at IS NULL)), 0)::float8
        FROM (SELECT clock_timestamp() AS now) n LEFT JOIN gates ON status = 'open' OR told_at IS NULL GROUP BY n.now
        """
    )
    row = await cursor.fetchone()
    return OpenGates(*row) if row else OpenGates(0, 0.0, 0, 0.0)


class Told(msgspec.Struct, frozen=True):
    """How far behind the telling of other systems is.

    Attributes:
        outbox_oldest: Seconds since the oldest event no delivery has been made of; 0 without any.
        due: Deliveries a sender could take at once, counted up to 10,000.
        due_oldest: Seconds the longest of them has been due; 0 without any.
        webhooks: How many there are by state: enabled, failing (still told), paused (the receiver asked to be left
            alone) and disabled.
    """

    outbox_oldest: float
    due: int
    due_oldest: float
    webhooks: dict[str, int]


async def told(connection: Connection) -> Told:
    """Webhooks and what they are to be told, of all owners."""
    cursor = await connection.execute(
        """
        SELECT coalesce((
                SELECT greatest(0, extract(epoch FROM clock_timestamp() - e.at))
                FROM (SELECT run_id, first_seq FROM webhook_outbox ORDER BY id LIMIT 1) AS o
                JOIN events e ON e.run_id = o.run_id AND e.seq = o.first_seq), 0)::float8,
            d.count, coalesce(greatest(0, extract(epoch FROM clock_timestamp() - d.first)), 0)::float8
        FROM (
            SELECT count(*), min(next_at) AS first FROM (
                SELECT t.next_at FROM webhooks w JOIN webhook_deliveries t ON t.webhook_id = w.id
                WHERE w.disabled_at IS NULL AND coalesce(w.paused_until <= now(), true)
                    AND t.status = 'pending' AND NOT t.held AND t.next_at <= now() LIMIT %s) AS due) AS d
        """,
        (_MOST_COUNTED,),
    )
    outbox_oldest, due, due_oldest = await cursor.fetchone() or (0.0, 0, 0.0)
    cursor = await connection.execute(
        "SELECT CASE WHEN disabled_at IS NOT NULL THEN 'disabled' WHEN paused_until > now() THEN 'paused'"
        " WHEN failing_since IS NOT NULL THEN 'failing' ELSE 'enabled' END, count(*) FROM webhooks GROUP BY 1"
    )
    counted = {"enabled": 0, "failing": 0, "paused": 0, "disabled": 0} | dict(await cursor.fetchall())
    return Told(outbox_oldest, due, due_oldest, counted)


async def stuck_runs(connection: Connection, *, seconds: float = STUCK_SECONDS, limit: int = 100) -> list[UUID]:
    """Runs that are not over and that nothing can move any more: no step, timer, gate or wait.

    A run's own timer is its start, and from then on its total clock, which ends it and moves nothing; a step that waits
    for time has a timer, one that waits for a run a wish, a gate that opens later opens by itself. There should never
    be a stuck run. Reads every run that has not ended, so ask rarely.
    """
    cursor = await connection.execute(
        """
        SELECT r.id FROM runs r
        WHERE r.ended_at IS NULL AND r.status IN ('pending', 'running', 'waiting_approval')
            AND r.updated_at < clock_timestamp() - make_interval(secs => %s)
            AND NOT EXISTS (SELECT 1 FROM dispatch d WHERE d.run_id = r.id)
            AND NOT EXISTS (SELECT 1 FROM timers t WHERE t.run_id = r.id
                AND (t.no <> 0 OR (r.status = 'pending' AND r.started_at IS NULL)))
            AND NOT EXISTS (SELECT 1 FROM gates g WHERE g.run_id = r.id
                AND (g.status IN ('open', 'scheduled') OR (g.outcome IS NOT NULL AND g.told_at IS NULL)))
            AND NOT EXISTS (SELECT 1 FROM steps s WHERE s.run_id = r.id AND s.status = 'waiting'
                AND s.kind NOT IN ('wait', 'workflow'))
            AND NOT EXISTS (SELECT 1 FROM children c WHERE c.run_id = r.id)
        ORDER BY r.id LIMIT %s
        """,
        (seconds, limit),
    )
    return [row[0] for row in await cursor.fetchall()]


async def stray_rows(connection: Connection, tables: list[str]) -> dict[str, int]:
    """Rows in the default partitions, which partitions made ahead should keep empty; counted up to 10,000."""
    found = {}
    for table in tables:
        query = sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {}) AS d")
        cursor = await connection.execute(query.format(sql.Identifier(f"{table}_default"), _MOST_COUNTED))
        row = await cursor.fetchone()
        found[table] = int(row[0]) if row else 0
    return found


async def months_ahead(connection: Connection) -> int:
    """Months after the present one for which `runs` has a partition, without a gap."""
    cursor = await connection.execute(
        """
        SELECT count(*) FROM (
            SELECT m, to_regclass('runs_' || to_char(m, 'YYYYMM')) IS NOT NULL AS there,
                bool_and(to_regclass('runs_' || to_char(m, 'YYYYMM')) IS NOT NULL) OVER (ORDER BY m) AS whole
            FROM (SELECT date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') AS first) AS n,
                generate_series(first + interval '1 month', first + interval '24 months', interval '1 month') AS m
        ) AS ahead WHERE whole
        """
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
