"""Limits of an owner, as clients see them: 429 with a reason and when to try again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import aiohttp
from wfe_stack.rest import Rest
from wfe_stack.testing import TEST_SETTINGS
from wfe_stack.waiting import wait_for

from tools.chaos.bed import make_bed

SOURCE = """
name: parked
steps:
  - {id: go, wait_for: {signal: go}}
"""
LIMITS = {"WFE_OWNER_OPEN_RUNS": "2", "WFE_MAX_OWNER_STREAMS": "1"}


async def test_an_owner_is_told_of_its_limits_and_let_in_again():
    folder = Path(tempfile.mkdtemp(prefix="wfe-limits-"))
    folder.chmod(0o755)
    try:
        async with (
            make_bed(
                folder, lease_seconds=5.0, executors=1, postgres=TEST_SETTINGS, schedulers=1, environment=LIMITS
            ) as bed,
            Rest(bed.stack.url, bed.keys["sam"]) as rest,
            aiohttp.ClientSession(headers={"authorization": f"Bearer {bed.keys['sam']}"}) as http,
        ):
            made = await rest.post("/api/v1/templates", {"source": SOURCE})
            await rest.post(f"/api/v1/templates/{made['id']}/publish")
            body = {"template_id": made["id"]}
            runs = [(await rest.start(body))["id"] for _ in range(2)]

            async def start() -> tuple[int, str, str]:
                async with http.post(f"{bed.stack.url}/api/v1/workflows", json=body) as answer:
                    said = await answer.json()
                    reason = said["details"][0]["reason"] if answer.status == 429 else ""
                    return answer.status, reason, answer.headers.get("retry-after", "")

            assert await start() == (429, "TOO_MANY_OPEN_RUNS", "5")
            await rest.post(f"/api/v1/workflows/{runs[0]}/signals/go", {})
            await rest.wait_ended(runs[0])

            async def let_in() -> bool:
                return (await start())[0] == 201

            await wait_for(let_in, what="room for a run")

            watch = f"{bed.stack.url}/api/v1/workflows/{runs[1]}/watch"
            async with http.get(watch) as first:
                assert first.status == 200
                await first.content.readline()
                async with http.get(watch) as second:
                    assert (second.status, second.headers["retry-after"]) == (429, "5")
                    assert (await second.json())["details"][0]["reason"] == "TOO_MANY_STREAMS"

            async def watched() -> bool:
                async with http.get(watch) as again:
                    return again.status == 200

            await wait_for(watched, what="room for a watcher")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
