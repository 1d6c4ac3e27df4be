"""Limits of an owner, as clients see them: 429 with a reason and when to try again."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from wfe_stack.rest import Refused, Rest
from wfe_stack.testing import TEST_SETTINGS
from wfe_stack.waiting import wait_for

from tools.chaos.bed import make_bed

SOURCE = """
name: parked
steps:
  - {id: go, wait_for: {signal: go}}
"""
LIMITS = {"WFE_OWNER_OPEN_RUNS": "2", "WFE_MAX_OWNER_STREAMS": "1"}
STARTS = 5


async def answer_of(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> tuple[int, str, str, str]:
    """Status, reason, Retry-After, and the run's id."""
    async with http.post(url, json=body) as answer:
        said = await answer.json()
        reason = said["details"][0]["reason"] if answer.status >= 400 else ""
        return answer.status, reason, answer.headers.get("retry-after", ""), said.get("id", "")


async def test_too_many_starts_and_too_much_at_once_are_refused_and_nothing_is_lost():
    folder = Path(tempfile.mkdtemp(prefix="wfe-limits-"))
    folder.chmod(0o755)
    limits = {"WFE_OWNER_STARTS": str(STARTS), "WFE_OVERLOAD_SECONDS": "0.3"}
    try:
        async with (
            make_bed(
                folder, lease_seconds=5.0, executors=1, postgres=TEST_SETTINGS, schedulers=1, environment=limits
            ) as bed,
            Rest(bed.stack.url, bed.keys["sam"]) as rest,
            aiohttp.ClientSession(headers={"authorization": f"Bearer {bed.keys['sam']}"}) as http,
        ):
            made = await rest.post("/api/v1/templates", {"source": SOURCE})
            await rest.post(f"/api/v1/templates/{made['id']}/publish")
            url, body = f"{bed.stack.url}/api/v1/workflows", {"template_id": made["id"]}

            answers = await asyncio.gather(*(answer_of(http, url, body) for _ in range(4 * STARTS)))
            assert {answer[:3] for answer in answers} == {(201, "", ""), (429, "TOO_MANY_STARTS", "1")}
            begun = {answer[3] for answer in answers if answer[0] == 201}
            assert STARTS <= len(begun) < 3 * STARTS

            async with await bed.connect() as store:
                # Far too slow a store: what was begun waits, and what comes then is told to come again.
                await store.execute("BEGIN; LOCK TABLE runs IN EXCLUSIVE MODE")
                waiting: list[asyncio.Task[tuple[int, str, str, str]]] = []

                async def refused() -> bool:
                    signal = f"{url}/{sorted(begun)[len(waiting) % len(begun)]}/signals/go"
                    waiting.append(asyncio.create_task(answer_of(http, signal, {})))
                    done = [task.result() for task in waiting if task.done()]
                    return (429, "OVERLOADED", "1") in {answer[:3] for answer in done}

                await wait_for(refused, what="a refusal")
                assert (await answer_of(http, url, body))[:3] == (429, "OVERLOADED", "1")
                await store.execute("ROLLBACK")
            answers = await asyncio.gather(*waiting)
            assert {answer[:2] for answer in answers} <= {(200, ""), (409, "RUN_STATE"), (429, "OVERLOADED")}
            assert (200, "") in {answer[:2] for answer in answers}
            for run in begun:
                with suppress(Refused):
                    await rest.post(f"/api/v1/workflows/{run}/signals/go", {})
                assert (await rest.wait_ended(run))["status"] == "completed"
            listed = await rest.get("/api/v1/workflows", template_id=made["id"])
            assert {run["id"] for run in listed["workflows"]} == begun
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_bodies_pages_and_messages_have_their_limits():
    folder = Path(tempfile.mkdtemp(prefix="wfe-limits-"))
    folder.chmod(0o755)
    limits = {"WFE_GATEWAY_MAX_BODY_BYTES": "65536"}
    try:
        async with (
            make_bed(
                folder, lease_seconds=5.0, executors=1, postgres=TEST_SETTINGS, schedulers=1, environment=limits
            ) as bed,
            Rest(bed.stack.url, bed.keys["sam"]) as rest,
            aiohttp.ClientSession(headers={"authorization": f"Bearer {bed.keys['sam']}"}) as http,
        ):
            body = {"source": SOURCE + "#" * 70_000}
            status, reason, _, _ = await answer_of(http, f"{bed.stack.url}/api/v1/templates", body)
            assert (status, reason) == (413, "BODY_TOO_LARGE")
            for path in ("workflows", "templates", "approvals"):
                assert (await rest.get(f"/api/v1/{path}", limit=100_000))["limit"] == 200
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
