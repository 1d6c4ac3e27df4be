"""Links over the gateway, as scanners, browsers and programs use them: looking changes nothing, one form decides."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import aiohttp
import pytest
from e2e_runs import path_of, until
from wfe_stack.rest import Rest

NAMES = itertools.count(1)
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOSTILE = "</pre><script>alert(1)</script><img src=//evil.example onerror=alert(2)>"
ASKS = """name: page-{n}
variables: {{what: {{}}}}
steps:
  - id: g
    approval:
      title: "${{{{ vars.what }}}}"
      body: "${{{{ vars.what }}}}"
      payload: {{note: "${{{{ vars.what }}}}"}}
      approvers: {{roles: [approver]}}
      risk: low
"""
TABLES = ("gates", "gate_votes", "gate_notes", "gate_links", "runs", "steps", "events")


@pytest.fixture
async def linked(ada: Rest, start, sam: Rest):
    """Starts a run with a gate and makes a link to it: the run's id, the gate's, the link's path."""

    async def make() -> tuple[str, str, str]:
        run = (await start(ASKS.format(n=next(NAMES)), what=HOSTILE))["id"]
        gate = (await until(sam, run, "waiting_approval"))["approvals"][0]["id"]
        return run, gate, (await ada.post(f"/api/v1/approvals/{gate}/links", {}))["path"]

    return make


@pytest.fixture
async def browser(stack):
    """Calls as nobody, with what a browser sends."""
    async with aiohttp.ClientSession(stack.url, headers=BROWSER) as session:
        yield session


async def everything(store: Any, run: str) -> list[Any]:
    return [
        await store.rows(f"SELECT t::text FROM {table} t WHERE {'id' if table == 'runs' else 'run_id'} = %s", run)
        for table in TABLES
    ]


async def test_a_thousand_looks_in_either_form_change_nothing(sam: Rest, store, browser, linked):
    run, _, path = await linked()
    # The note that the link was made is taken into the log first.
    await until(sam, run, lambda found: any(e["type"] == "approval.link_issued" for e in found["events"]))
    before = await everything(store, run)
    kinds: set[tuple[str, int, str]] = set()

    async def look(number: int) -> None:
        form = ("page", "json", "head", "direct")[number % 4]
        accept = {"accept": "application/json"} if form == "json" else BROWSER
        verb = "HEAD" if form == "head" else "GET"
        async with browser.request(verb, path + "/page" * (form == "direct"), headers=accept) as answer:
            kinds.add((form, answer.status, answer.headers.get("content-type", "")))
            await answer.read()

    for first in range(0, 1000, 50):
        await asyncio.gather(*(look(number) for number in range(first, first + 50)))
    html = "text/html; charset=utf-8"
    assert kinds >= {("page", 200, html), ("direct", 200, html), ("json", 200, "application/json")}
    assert {status for form, status, _ in kinds if form != "head"} == {200}
    assert await everything(store, run) == before


async def test_the_form_decides_once_and_then_the_link_is_dead(stack, sam: Rest, browser, linked):
    run, gate, path = await linked()
    async with browser.get(path) as answer:
        page, headers = await answer.text(), answer.headers
    assert HOSTILE not in page
    assert page.count("&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;") >= 4
    assert "<script" not in page
    assert "<img" not in page
    assert headers["content-security-policy"].startswith("default-src 'none'; form-action 'self'")
    for name, value in (
        ("cache-control", "no-store"), ("referrer-policy", "no-referrer"), ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"), ("x-robots-tag", "noindex"),
    ):  # fmt: skip
        assert headers[name] == value

    async def send(decision: str, at: str = path) -> tuple[int, str]:
        async with browser.post(at, data={"decision": decision, "comment": "ja\r\nbitte"}) as answer:
            return answer.status, await answer.text()

    answers = await asyncio.gather(*(send(decision) for decision in ("approve", "reject") * 5))
    assert sorted({status for status, _ in answers}) == [200, 409]
    done = await sam.wait_ended(run)
    shown = done["approvals"][0]
    assert (shown["id"], shown["comment"], shown["decided_via"]) == (gate, "ja\nbitte", "link")
    approved = shown["status"] == "approved"
    assert (done["status"], shown["status"]) in (("completed", "approved"), ("failed", "rejected"))
    said, other = ("approve", "reject") if approved else ("reject", "approve")
    assert (await send(said))[0] == 200, "the same again, as when a page is loaded anew"
    assert (await send(other))[0] == 409
    async with browser.get(path) as answer:
        assert (answer.status, "<form" in await answer.text()) == (409, False)
    token = path.rpartition("/")[2]
    for log in (stack.settings.folder / "logs").iterdir():
        assert token not in log.read_text(errors="replace"), log


async def test_a_link_to_a_withdrawn_request_says_so_to_people_and_programs(sam: Rest, browser, linked):
    run, _, path = await linked()
    await sam.post(path_of(run, "cancel"))
    await sam.post(path_of(run, "retry"))
    await until(sam, run, "waiting_approval")
    for verb, data in (("GET", None), ("POST", {"decision": "approve"})):
        async with browser.request(verb, path, data=data) as answer:
            page = await answer.text()
            assert (answer.status, answer.content_type) == (409, "text/html")
            assert "decided or withdrawn" in page
            assert "superseded" in page
    async with browser.get(path, headers={"accept": "application/json"}) as answer:
        assert (answer.status, (await answer.json())["details"][0]["reason"]) == (409, "GATE_CLOSED")
    async with browser.get(path + "x") as answer:
        assert (answer.status, "There is no such link" in await answer.text()) == (404, True)
    async with browser.post(path, data={"nonsense": "1"}) as answer:
        assert (answer.status, answer.content_type) == (400, "text/html")
    assert (await sam.get(path_of(run)))["approvals"][1]["status"] == "open"
