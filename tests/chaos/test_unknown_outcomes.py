"""What was asked for is done and its answer is lost on the way: asked again with the same key, it is done once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from typer.testing import CliRunner
from wfe_cli.main import app
from wfe_stack.rest import Rest
from wfe_stack.testing import TEST_SETTINGS

from tools.chaos.bed import Bed, make_bed

SOURCE = """
name: unknown-outcome
steps:
  - {id: go, wait_for: {signal: go}}
"""


@pytest.fixture(scope="module")
async def bed() -> AsyncIterator[Bed]:
    folder = Path(tempfile.mkdtemp(prefix="wfe-unknown-"))
    folder.chmod(0o755)
    try:
        async with make_bed(folder, lease_seconds=3.0, executors=1, postgres=TEST_SETTINGS) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def direct(bed: Bed) -> AsyncIterator[Rest]:
    """The starter, past the proxy."""
    async with Rest(bed.stack.url, bed.keys["sam"]) as rest:
        yield rest


@pytest.fixture
async def template(direct: Rest) -> str:
    """A template without any runs."""
    source = SOURCE.replace("unknown-outcome", f"unknown-outcome-{uuid.uuid4().hex[:8]}")
    made = await direct.post("/api/v1/templates", {"source": source})
    await direct.post(f"/api/v1/templates/{made['id']}/publish")
    return str(made["id"])


@pytest.fixture(autouse=True)
def calm(bed: Bed):
    yield
    bed.clients.calm()
    bed.store.calm()


async def runs_of(direct: Rest, template: str) -> list[str]:
    listed = await direct.get("/api/v1/workflows", template_id=template)
    return [run["id"] for run in listed["workflows"]]


async def test_without_a_second_try_the_client_cannot_know(bed: Bed, direct: Rest, template: str):
    headers = {"authorization": f"Bearer {bed.keys['sam']}", "idempotency-key": "mine-" + template}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def start() -> str:
            async with session.post(f"{bed.url}/api/v1/workflows", json={"template_id": template}) as answer:
                assert answer.status == 201
                return str((await answer.json())["id"])

        lost = bed.clients.lost
        bed.clients.lose(1)
        with pytest.raises(aiohttp.ClientError):
            await start()
        assert bed.clients.lost == lost + 1
        (run,) = await runs_of(direct, template)
        assert await start() == run
    assert await runs_of(direct, template) == [run]


@pytest.mark.parametrize("times", [1, 3])
async def test_the_client_asks_again_by_itself(bed: Bed, direct: Rest, template: str, times: int):
    lost = bed.clients.lost
    async with Rest(bed.url, bed.keys["sam"]) as rest:
        bed.clients.lose(times)
        run = await rest.start({"template_id": template})
    assert bed.clients.lost == lost + times
    assert await runs_of(direct, template) == [run["id"]]


async def test_a_signal_is_given_once(bed: Bed, direct: Rest, template: str):
    run = (await direct.start({"template_id": template}))["id"]
    lost = bed.clients.lost
    async with Rest(bed.url, bed.keys["sam"]) as rest:
        bed.clients.lose(2)
        await rest.post(f"/api/v1/workflows/{run}/signals/go", {"payload": 1}, key="once")
    assert bed.clients.lost == lost + 2
    ended = await direct.wait_ended(run)
    assert [event["type"] for event in ended["events"]].count("signal.received") == 1


async def test_the_command_line_asks_again_by_itself(bed: Bed, direct: Rest, template: str, tmp_path: Path):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "WFE_URL": bed.url,
        "WFE_API_KEY": bed.keys["sam"],
    }
    # The template is looked up first; only answers to what was done are lost.
    everything, bed.clients.done = bed.clients.done, lambda _: b"HTTP/1.1 201"
    lost = bed.clients.lost
    try:
        bed.clients.lose(2)
        ended = await asyncio.to_thread(CliRunner().invoke, app, ["runs", "start", template, "--json"], env=environment)
    finally:
        bed.clients.done = everything
    assert ended.exit_code == 0, ended.output
    assert bed.clients.lost == lost + 2
    assert await runs_of(direct, template) == [json.loads(ended.stdout)["id"]]


async def test_a_scheduler_finds_out_by_itself_whether_its_commit_happened(bed: Bed, direct: Rest, template: str):
    """The callers learn nothing of it: their runs are there, once."""
    lost = bed.store.lost
    bed.store.lose(2)
    runs = [await direct.post("/api/v1/workflows", {"template_id": template}) for _ in range(4)]
    assert bed.store.lost == lost + 2
    assert sorted(await runs_of(direct, template)) == sorted(run["id"] for run in runs)
