"""The disk of Postgres is full: starts are refused by name, nothing is lost, and all goes on once it is."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from wfe_stack.rest import Refused, Rest, Unreachable
from wfe_stack.testing import TEST_SETTINGS

from tools.chaos.bed import Bed, make_bed

MEGABYTES = 176
SOURCE = """
name: disk-full
variables: {text: {type: string, required: true}}
steps:
  - {id: echo, call: {handler: echo, input: {size: "${{ size(vars.text) }}"}}}
output: {size: "${{ steps.echo.output.size }}"}
"""
TEXT = "x" * 100_000
#: Little WAL is kept ready, so that what is written soon needs room.
SMALL = {**TEST_SETTINGS, "max_wal_size": "32MB", "min_wal_size": "32MB", "wal_recycle": "off"}


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder with a small file system of its own where the database will lie."""
    folder = Path(tempfile.mkdtemp(prefix="wfe-full-"))
    folder.chmod(0o755)
    disk = folder / "disk"
    disk.mkdir()
    options = f"size={MEGABYTES}m,mode=0777"
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can make a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        size = 1 << 20
        while size >= 4096:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


async def start_many(rest: Rest, template: str, started: list[str], refused: Counter[str], until_refused: int) -> None:
    """Start runs until so many starts were refused."""
    deadline = time.monotonic() + 60
    while sum(refused.values()) < until_refused:
        assert time.monotonic() < deadline, f"nothing was refused: {refused}, {len(started)} started"
        try:
            run = await rest.post("/api/v1/workflows", {"template_id": template, "input": {"text": TEXT}})
        except Refused as refusal:
            refused[f"{refusal.status} {refusal.reason}"] += 1
            await asyncio.sleep(0.05)
        except Unreachable as fault:
            refused[f"no answer: {fault}"] += 1
        else:
            started.append(run["id"])


@pytest.mark.slow
async def test_a_full_disk_refuses_starts_and_loses_nothing(small_disk: Path):
    async with make_bed(
        small_disk, lease_seconds=5.0, executors=1, postgres=SMALL, schedulers=1, disk=small_disk / "disk"
    ) as bed:
        await _check(bed, small_disk / "disk" / "ballast")


async def _check(bed: Bed, ballast: Path) -> None:
    started: list[str] = []
    refused: Counter[str] = Counter()
    async with Rest(bed.stack.url, bed.keys["sam"]) as rest:
        made = await rest.post("/api/v1/templates", {"source": SOURCE})
        await rest.post(f"/api/v1/templates/{made['id']}/publish")
        await rest.wait_ended((await rest.start({"template_id": made["id"], "input": {"text": TEXT}}))["id"])

        await asyncio.to_thread(fill, ballast)
        await start_many(rest, made["id"], started, refused, 20)
        print(f"\nfull: {len(started)} started, then {dict(refused)}")
        if bed.postgres.is_running():
            assert set(refused) == {"503 STORE_FULL"}
        else:
            assert set(refused) <= {"503 STORE_FULL", "503 STORE_DOWN", "503 STORE_BUSY", "429 OVERLOADED"}

        ballast.unlink()
        if not bed.postgres.is_running():
            # It gives up when it has no room for its log; whatever runs it starts it again.
            await bed.postgres.kill()
            await bed.postgres.start()
        run = await rest.start({"template_id": made["id"], "input": {"text": TEXT}})
        for id_ in (*started, run["id"]):
            ended = await rest.wait_ended(id_)
            assert (ended["status"], ended["output"]) == ("completed", {"size": len(TEXT)})
        listed = await rest.get("/api/v1/workflows", template_id=made["id"])
        print(f"freed: {listed['total']} runs")
    async with await bed.connect() as store:
        cursor = await store.execute(
            "SELECT count(*) FROM runs r WHERE seq <> (SELECT count(*) FROM events e WHERE e.run_id = r.id)"
        )
        assert await cursor.fetchone() == (0,)
