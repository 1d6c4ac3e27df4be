"""Secrets through the whole engine: set, used, never seen again, missing, and sealed anew under a new key."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from wfe_stack.rest import Refused, Rest
from wfe_store.pool import Database

CANARY = "canary-51c3cf/é"
TEMPLATE = """
name: calls-with-SLUG
variables:
  url: {type: string, required: true}
  token: {type: string, sensitive: true}
steps:
  - id: review
    if: "${{ vars.url.endsWith('later') }}"
    approval: {title: "Go on?", approvers: {groups: [editors]}}
  - id: call
    http:
      method: POST
      url: "${{ vars.url }}"
      auth: {basic: {username: bot, password: "${{ secrets.NAME }}"}}
      json: {key: "k-${{ secrets.NAME }}", token: "${{ vars.token }}"}
    retry: {max_attempts: 1}
output: {body: "${{ steps.call.output.body }}"}
"""


def template_with(name: str) -> str:
    return TEMPLATE.replace("NAME", name).replace("SLUG", name.lower().replace("_", "-"))


@pytest.fixture
async def echo() -> AsyncIterator[tuple[str, list]]:
    """A site that gives back what it is sent, and what it was sent."""
    heard: list = []

    async def serve(request: web.Request) -> web.Response:
        body = await request.json()
        heard.append((dict(request.headers), body))
        said = {"headers": dict(request.headers), "body": body}
        return web.json_response(said, status=500 if request.path == "/fail" else 200)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", heard
    finally:
        await runner.cleanup()


async def ended(sam: Rest, run: str):
    return await sam.get(f"/api/v1/workflows/{run}", wait_seconds=30)


async def put(root: Rest, name: str, value: str):
    return await root.put(f"/api/v1/secrets/{name}", {"value": value})


async def test_nothing_but_the_other_side_sees_a_secret(stack, sam: Rest, root: Rest, publish, echo):
    url, heard = echo
    template = await publish(template_with("E2E_KEY"))
    start = {"template_id": template, "input": {"url": url, "token": "sensitive-" + CANARY}}
    with pytest.raises(Refused) as refusal:
        await sam.post("/api/v1/workflows", start)
    assert (refusal.value.status, refusal.value.reason) == (409, "SECRET_MISSING")
    assert "E2E_KEY" in refusal.value.message
    assert (await put(root, "E2E_KEY", CANARY))["version"] == 1
    done = await ended(sam, (await sam.post("/api/v1/workflows", start))["id"])
    assert done["status"] == "completed"
    assert heard[-1][1] == {"key": f"k-{CANARY}", "token": f"sensitive-{CANARY}"}
    assert done["output"]["body"]["body"] == {"key": "k-[redacted]", "token": "[redacted]"}
    assert done["output"]["body"]["headers"]["Authorization"] == "Basic [redacted]"
    failed = await ended(sam, (await sam.post("/api/v1/workflows", {**start, "input": {"url": url + "fail"}}))["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "HTTP_500")
    listed = await root.get("/api/v1/secrets")
    shown = json.dumps([done, failed, listed, await sam.get(f"/api/v1/workflows/{done['id']}/events")])
    for log in (stack.settings.folder / "logs").iterdir():
        shown += log.read_text(errors="replace")
    shown += await everything(stack)
    for form in (CANARY, json.dumps(CANARY)[1:-1], CANARY.encode().hex()):
        assert form not in shown


async def everything(stack) -> str:
    """All rows of all tables that mention the canary."""
    database = Database(stack.database_url, name="test", size=2)
    await database.open()
    found = ""
    try:
        async with database.connection() as connection:
            cursor = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            for (table,) in await cursor.fetchall():
                pattern = f"%{CANARY.split('/')[0]}%"
                rows = await connection.execute(
                    f"SELECT t::text FROM {table} t WHERE t::text LIKE %s".encode(), (pattern,)
                )
                found += "".join(f"{table}: {row}" for (row,) in await rows.fetchall())
    finally:
        await database.close()
    return found


async def test_a_secret_that_is_gone_when_its_step_comes_fails_the_step(
    sam: Rest, ada: Rest, root: Rest, publish, echo
):
    url, heard = echo
    template = await publish(template_with("E2E_GOES"))
    await put(root, "E2E_GOES", CANARY)
    run = await waiting(sam, template, url)
    await root.delete("/api/v1/secrets/E2E_GOES")
    await approve(ada, run)
    failed = await ended(sam, run["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "SECRET_MISSING")
    assert heard == []
    await put(root, "E2E_GOES", CANARY)
    await sam.post(f"/api/v1/workflows/{run['id']}/retry")
    assert (await ended(sam, run["id"]))["status"] == "completed"


async def waiting(sam: Rest, template: str, url: str):
    """A run that stands at its gate, with a sensitive value sealed."""
    start = {"template_id": template, "input": {"url": url + "later", "token": "sensitive-value"}}
    run = await sam.post("/api/v1/workflows", start)
    async with asyncio.timeout(30):
        while True:
            found = await sam.get(f"/api/v1/workflows/{run['id']}")
            if found["status"] == "waiting_approval":
                return found
            await asyncio.sleep(0.02)


async def approve(ada: Rest, run) -> None:
    await ada.post(f"/api/v1/workflows/{run['id']}/approvals/{run['approvals'][0]['id']}/approve")


async def test_the_key_is_exchanged_while_the_engine_runs(stack, sam: Rest, ada: Rest, root: Rest, publish, echo):
    url, heard = echo
    template = await publish(template_with("E2E_TURNS"))
    await put(root, "E2E_TURNS", CANARY)
    run = await waiting(sam, template, url)
    key_file: Path = stack.settings.folder / "seal.key"
    before = key_file.read_text()
    command = Path(sys.executable).parent / "wfe"
    process = await asyncio.create_subprocess_exec(
        command, "--home", stack.settings.folder, "admin", "secrets", "rotate-key", "--forget-old",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "sealed anew" in said.decode()
    after = key_file.read_text()
    assert before not in after
    assert after.count("\n") == 1
    await approve(ada, run)
    assert (await ended(sam, run["id"]))["status"] == "completed"
    assert heard[-1][1] == {"key": f"k-{CANARY}", "token": "sensitive-value"}
    assert (await put(root, "E2E_TURNS", "another value"))["version"] == 2
    again = await waiting(sam, template, url)
    await approve(ada, again)
    await ended(sam, again["id"])
    assert heard[-1][1]["key"] == "k-another value"


async def test_a_fork_has_the_sensitive_values_of_its_run(sam: Rest, ada: Rest, root: Rest, publish, echo):
    url, heard = echo
    template = await publish(template_with("E2E_FORKS"))
    await put(root, "E2E_FORKS", CANARY)
    run = await waiting(sam, template, url)
    snapshot = (await sam.get(f"/api/v1/workflows/{run['id']}/snapshots"))["snapshots"][0]
    fork = await sam.post(f"/api/v1/workflows/{run['id']}/fork", {"snapshot_id": snapshot["id"]})
    async with asyncio.timeout(30):
        while not (forked := await sam.get(f"/api/v1/workflows/{fork['id']}"))["approvals"]:
            await asyncio.sleep(0.02)
    await approve(ada, forked)
    done = await ended(sam, fork["id"])
    assert done["status"] == "completed", done["error"]
    assert heard[-1][1]["token"] == "sensitive-value"
