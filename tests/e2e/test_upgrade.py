"""From the oldest schema to the newest, with runs under way and with load on the run store meanwhile."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
import tempfile
import threading
import uuid
from pathlib import Path

import psycopg
from test_restore import program
from wfe_stack.postgres import create_database
from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_stack.waiting import wait_for
from wfe_store.migrate import migrate, newest

OLDEST = Path(__file__).with_name("oldest_schema.sql")
#: Seconds a statement may wait behind the migration; a service of the old version gives up later than that.
PATIENCE = 5

_RUN = (
    "INSERT INTO runs (id, owner_id, template_id, template_name, template_version, status, version, seq, state, input,"
    " trigger_type, created_by, created_at, updated_at) VALUES (%(run)s, %(run)s, %(run)s, 'load', 1, 'running', 1, 1,"
    " '{}', '{}', 'api', %(run)s, clock_timestamp(), clock_timestamp())"
)
_READY = (
    "INSERT INTO dispatch (run_id, no, owner_id, path, kind, queue, request, attempt, max_attempts, fence,"
    " available_at, created_at) VALUES (%(run)s, 1, %(run)s, 'a', 'call', 'load', '{}', 1, 1, 1, clock_timestamp(),"
    " clock_timestamp())"
)
_DONE = (
    "WITH gone AS (DELETE FROM dispatch WHERE run_id = %(run)s AND no = 1 RETURNING *) INSERT INTO steps (run_id, no,"
    " path, kind, status, seq, created_at) SELECT run_id, no, path, kind, 'completed', 2, created_at FROM gone"
)
_EVENT = (
    "INSERT INTO events (run_id, seq, at, type, actor, data) VALUES (%(run)s, 1, clock_timestamp(), 'x', 'y', '{}')"
)
_END = (
    "UPDATE runs SET status = 'completed', version = version + 1, ended_at = clock_timestamp() WHERE id = %(run)s"
    " AND version = 1"
)


class Load:
    """What services of the oldest version do to the run store, in threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.runs = 0
        self.faults: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(3)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self):
        with psycopg.connect(self.url, options=f"-c statement_timeout={PATIENCE}s") as connection:
            while not self._over.is_set():
                given = {"run": uuid.UUID(int=(0x01A20FB3 << 96) | uuid.uuid4().int >> 32)}
                try:
                    for statements in ((_RUN, _READY, _EVENT), (_DONE, _END)):
                        with connection.transaction():
                            for statement in statements:
                                connection.execute(statement, given)
                    self.runs += 1
                except psycopg.Error as fault:
                    self.faults.append(str(fault))


async def test_runs_of_the_oldest_schema_go_on_after_an_upgrade_under_load(stack):
    target = create_database(stack.database_url, f"wfe_oldest_{secrets.token_hex(4)}")
    line = [program("psql"), "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", target, "--file", str(OLDEST)]
    await asyncio.to_thread(subprocess.run, line, check=True, timeout=60, stdout=subprocess.DEVNULL)
    with Load(target) as load:
        await wait_for(lambda: load.runs > 20)
        before = load.runs
        await asyncio.to_thread(migrate, target)
        assert load.runs > before, "the store stood still for the length of the migration"
        after = load.runs
        await wait_for(lambda: load.runs > after + 20)
    assert load.faults == []
    with psycopg.connect(target, autocommit=True) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (newest(),)
        written = "SELECT count(*) FROM runs r JOIN steps s ON s.run_id = r.id WHERE template_name = 'load'"
        assert connection.execute(written).fetchone() == (load.runs,)
        names = "SELECT template_name, id::text FROM runs WHERE template_name <> 'load'"
        runs = dict(connection.execute(names).fetchall())
    folder = Path(tempfile.mkdtemp(prefix="wfe-upgraded-"))
    try:
        settings = StackSettings(
            folder=folder / "data",
            database_url=target,
            environment={"WFE_LEASE_SECONDS": "3"},
            executor_environment={"WFE_HEARTBEAT_SECONDS": "0.5"},
            restarts=False,
        )
        async with Stack(settings) as other, Rest(other.url, other.keys["sam"]) as sam:
            async with Rest(other.url, other.keys["ada"]) as ada:
                (gate,) = (await sam.get(f"/api/v1/workflows/{runs['gated']}"))["approvals"]
                await ada.post(f"/api/v1/workflows/{runs['gated']}/approvals/{gate['id']}/approve")
            await sam.post(f"/api/v1/workflows/{runs['paused']}/resume")
            await sam.post(f"/api/v1/workflows/{runs['failed']}/retry")
            for name in ("gated", "paused", "ready", "waits"):
                ended = await sam.wait_ended(runs[name], 60)
                assert ended["status"] == "completed", (name, ended)
            # A retry has a fresh budget, and the handler fails the first attempt of each.
            assert (await sam.wait_ended(runs["failed"], 60))["error"]["code"] == "FLAKY"
            await sam.post(f"/api/v1/workflows/{runs['gated']}/fork", {"snapshot_id": await first(sam, runs["gated"])})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def first(sam, run):
    return (await sam.get(f"/api/v1/workflows/{run}/snapshots"))["snapshots"][-1]["id"]
