"""`make parked`: what the sweep of a scheduler costs beside a million runs that wait; exit code 1 above 1 ms at p99."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from wfe_stack.postgres import PostgresServer, create_database
from wfe_store import leases
from wfe_store.migrate import migrate
from wfe_store.pool import Database

from tools.chaos.recovery import percentile

#: Seconds at p99.
GOAL = 0.001
_PASSES = 2_000
# Every second run has a timer that is far away, every fourth a gate; the others wait for signals.
_RUNS = """
INSERT INTO runs (id, owner_id, template_id, template_name, template_version, status, version, seq, state, input,
    trigger_type, created_by, created_at, started_at, updated_at)
SELECT md5('run' || n)::uuid, md5('owner' || n %% 10)::uuid, md5('template')::uuid, 'parked', 1, 'running', 3, 4,
    '{"status":"running"}', '{}', 'api', md5('person')::uuid, now(), now(), now() FROM generate_series(1, %s) AS n
"""
_STEPS = """
INSERT INTO steps (run_id, no, path, kind, status, seq, created_at)
SELECT md5('run' || n)::uuid, 1, 'go', 'wait_for', 'waiting', 4, now() FROM generate_series(1, %s) AS n
"""
_TIMERS = """
INSERT INTO timers (run_id, no, due_at)
SELECT md5('run' || n)::uuid, 1, now() + make_interval(secs => 86400 + n) FROM generate_series(2, %s, 2) AS n
"""
_GATES = """
INSERT INTO gates (id, run_id, no, owner_id, path, status, title, policy, digest, started_by, created_at, expires_at)
SELECT md5('gate' || n)::uuid, md5('run' || n)::uuid, 1, md5('owner' || n %% 10)::uuid, 'go', 'open', 'Go?', '{}', '',
    md5('person')::uuid, now(), now() + make_interval(secs => 86400 + n) FROM generate_series(4, %s, 4) AS n
"""


async def measure(url: str, runs: int) -> list[float]:
    """Seconds of each pass of a sweep, with so many runs parked."""
    database = Database(url, name="parked", size=2)
    await database.open()
    try:
        async with database.connection() as connection:
            await connection.execute("SET statement_timeout = 0")
            for statement in (_RUNS, _STEPS, _TIMERS, _GATES):
                await connection.execute(statement, (runs,))
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")
            took = []
            for _ in range(_PASSES):
                began = time.perf_counter()
                await leases.reap(connection, 15.0, 5)
                await leases.sweep(connection)
                took.append(time.perf_counter() - began)
                await asyncio.sleep(0.001)
            return took
    finally:
        await database.close()


def main() -> int:
    """Do it, and say what came of it."""
    runs = int(os.environ.get("PARKED_RUNS", "1000000"))
    folder = Path(tempfile.mkdtemp(prefix="wfe-parked-"))
    folder.chmod(0o755)
    try:
        with PostgresServer.start(folder / "postgres", {"fsync": "off"}) as server:
            url = create_database(server.url, "wfe")
            migrate(url)
            took = uvloop.run(measure(url, runs))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    print(f"{runs} parked runs: a sweep takes p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms, of {len(took)}")
    return 0 if p99 < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
