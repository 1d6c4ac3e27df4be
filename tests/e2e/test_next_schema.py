"""The services of a version work with its schema and with the next one: what is rolled out or back never stands still.

That migrations only add is the matter of libs/store/tests/test_migrations.py.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from wfe_stack.postgres import create_database
from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_stack.testing import add_next_schema
from wfe_stack.waiting import wait_for
from wfe_store.migrate import migrate

ROOT = Path(__file__).resolve().parents[2]
#: Whose tests send every statement there is.
SUITES = ("libs/store/tests", "services/scheduler/tests", "services/approvals/tests")
#: That this version knows every table and column there is, is not to be so.
NOT = (
    "--deselect=libs/store/tests/test_schema.py::test_metadata_and_database_agree",
    "--deselect=libs/store/tests/test_retention.py::test_every_table_says_what_makes_its_rows_go",
)
SOURCE = """
name: {name}
steps:
  - {{id: first, call: {{handler: echo, input: {{n: 1}}}}}}
  - {{id: go, wait_for: {{signal: go}}}}
  - {{id: review, approval: {{title: "Go on?", approvers: {{roles: [approver]}}}}}}
  - {{id: last, call: {{handler: echo, input: {{n: 2}}}}}}
"""


@pytest.mark.slow
def test_every_statement_of_this_version_runs_on_the_next_schema():
    """Also what comes with a schema is not counted on: no statement depends on how many columns a table has."""
    line = [sys.executable, "-m", "pytest", *SUITES, *NOT, "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"]
    environment = os.environ | {"WFE_TEST_NEXT_SCHEMA": "1"}
    ended = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=1_200)
    assert ended.returncode == 0, ended.stdout[-5_000:]


@asynccontextmanager
async def engine(folder: Path, database: str, pythonpath: str = ""):
    """An engine on a database; with a path, its services are those of another version."""
    other = {"PYTHONPATH": pythonpath} if pythonpath else {}
    settings = StackSettings(folder=folder / "data", database_url=database, environment=other, restarts=False)
    async with Stack(settings) as stack:  # noqa: SIM117 - its keys are there once it runs
        async with Rest(stack.url, stack.keys["sam"]) as sam, Rest(stack.url, stack.keys["ada"]) as ada:
            yield sam, ada


async def begin(sam: Rest) -> str:
    """A run that waits for its signal."""
    name = f"n{secrets.token_hex(6)}"
    template = await sam.post("/api/v1/templates", {"source": SOURCE.format(name=name)})
    await sam.post(f"/api/v1/templates/{template['id']}/publish")
    run = (await sam.start({"template_id": template["id"]}))["id"]
    await wait_for(lambda: waits(sam, run), what="a run that waits")
    return run


async def reach_gate(sam: Rest, run: str) -> None:
    """Send it its signal, and wait until it waits for people."""
    await sam.post(f"/api/v1/workflows/{run}/signals/go", {})
    await wait_for(lambda: is_at_gate(sam, run), what="a gate")


async def finish(sam: Rest, ada: Rest, run: str) -> None:
    """Approve it, and see it complete with every step done once."""
    (gate,) = (await sam.get(f"/api/v1/workflows/{run}"))["approvals"]
    await ada.post(f"/api/v1/workflows/{run}/approvals/{gate['id']}/approve")
    ended = await sam.wait_ended(run, 60)
    assert ended["status"] == "completed", ended
    assert [(step["path"], step["status"]) for step in ended["steps"]] == [
        (path, "completed") for path in ("first", "go", "review", "last")
    ]


async def waits(sam: Rest, run: str) -> bool:
    steps = (await sam.get(f"/api/v1/workflows/{run}"))["steps"]
    return any((step["path"], step["status"]) == ("go", "waiting") for step in steps)


async def is_at_gate(sam: Rest, run: str) -> bool:
    return bool((await sam.get(f"/api/v1/workflows/{run}"))["status"] == "waiting_approval")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="wfe-next-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def database(stack) -> str:
    return create_database(stack.database_url, f"wfe_next_{secrets.token_hex(4)}")


async def test_runs_go_on_when_the_schema_becomes_the_next_one_beneath_them(folder, database):
    async with engine(folder, database) as (sam, ada):
        runs = [await begin(sam) for _ in range(3)]
        await reach_gate(sam, runs[0])
        await asyncio.to_thread(add_next_schema, database)
        await finish(sam, ada, runs[0])
        await reach_gate(sam, runs[1])
        await finish(sam, ada, runs[1])
    # As after a rollback: services of this version start on a schema of a later one.
    async with engine(folder, database) as (sam, ada):
        await reach_gate(sam, runs[2])
        await finish(sam, ada, runs[2])
        again = await begin(sam)
        await reach_gate(sam, again)
        await finish(sam, ada, again)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("next",)


def previous() -> str:
    """The release before this version, of WFE_TEST_PREVIOUS or the newest tag behind this commit; empty if none."""
    if given := os.environ.get("WFE_TEST_PREVIOUS"):
        return given
    line = ["git", "describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^"]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def release_before(folder) -> str:
    """A path with the code of the release before."""
    found = previous()
    if not found:
        pytest.skip("no release before this version is tagged here")
    code = folder / "before"
    with (folder / "before.tar").open("w+b") as archive:
        subprocess.run(["git", "archive", found, "libs", "services"], cwd=ROOT, stdout=archive, check=True)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as packed:
            packed.extractall(code, filter="data")
    path = os.pathsep.join(str(each) for each in (*code.glob("libs/*/src"), *code.glob("services/*/src")))
    look = [sys.executable, "-c", "import wfe_scheduler, wfe_store; print(wfe_scheduler.__file__, wfe_store.__file__)"]
    said = subprocess.run(look, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert said.stdout.count(str(code)) == 2, "it would not be the release before that runs"
    return path


async def test_services_of_the_release_before_work_on_this_schema(folder, database, release_before):
    """Migrated first, then rolled: what the old ones begin the new ones end, and the other way round."""
    await asyncio.to_thread(migrate, database)
    async with engine(folder, database, release_before) as (sam, ada):
        runs = [await begin(sam) for _ in range(3)]
        await reach_gate(sam, runs[0])
        await reach_gate(sam, runs[1])
        await finish(sam, ada, runs[1])
    async with engine(folder, database) as (sam, ada):
        await finish(sam, ada, runs[0])
        newer = [await begin(sam) for _ in range(2)]
        await reach_gate(sam, newer[0])
    async with engine(folder, database, release_before) as (sam, ada):
        await finish(sam, ada, newer[0])
        for run in (runs[2], newer[1]):
            await reach_gate(sam, run)
            await finish(sam, ada, run)
