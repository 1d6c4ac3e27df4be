"""Callbacks over the gateway: one token, one answer; early, late, twice and after the end each have theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest
from e2e_runs import event_of, path_of, refused, step_of, types, until
from wfe_engine.kinds.waiting import callback_name
from wfe_scheduler.callbacks import Callbacks
from wfe_stack.rest import Rest
from wfe_store.sealing import read_keys

SOURCE = """name: callbacks-{n}
steps:
  - {{id: first, wait_for: {{signal: go}}}}
  - {{id: scanned, wait_for: {{callback: scan{more}}}}}
  - {{id: told, set: {{pages: "${{{{ steps.scanned.output.payload.pages }}}}"}}}}
"""


@pytest.fixture
def address(stack) -> Callable[[str], str]:
    """Where the other side answers for a run: the engine tells it to nobody but the step that is to pass it on."""
    callbacks = Callbacks(read_keys(stack.settings.folder / "seal.key"), "")
    return lambda run: callbacks.url(UUID(run), callback_name("scan", ""))


@pytest.fixture
async def outside(stack) -> AsyncIterator[Rest]:
    """The other side, which has no key."""
    async with Rest(stack.url, None) as rest:
        yield rest


@pytest.fixture
def waiting(sam: Rest, start):
    """A run that waits for its callback, or for what comes before it."""
    count = iter(range(100))

    async def begin(more: str = "", *, there: bool = True) -> str:
        run = await start(
            SOURCE.format(n=f"{more.strip(' ,').partition(':')[0] or 'plain'}-{next(count)}-{there}".lower(), more=more)
        )
        if there:
            await sam.post(path_of(run["id"], "signals", "go"), {})
            await until(sam, run["id"], lambda found: any(s["path"] == "scanned" for s in found["steps"]))
        return str(run["id"])

    return begin


async def test_it_succeeds_once(sam: Rest, outside: Rest, waiting, address):
    run = await waiting()
    assert await outside.post(address(run), {"payload": {"pages": 3}}) == {"status": "accepted"}
    done = await sam.wait_ended(run)
    assert (done["status"], step_of(done, "told")["output"]) == ("completed", {"pages": 3})
    for again in (
        {"payload": {"pages": 3}},
        {"outcome": "fail", "code": "NO", "message": "m"},
        {"outcome": "heartbeat"},
    ):
        refusal = await refused(outside.post(address(run), again))
        assert refusal.status == 409
        assert refusal.reason in ("CALLBACK_ANSWERED", "RUN_STATE")


async def test_twice_while_the_run_goes_on_is_refused_and_changes_nothing(sam: Rest, outside: Rest, waiting, address):
    run = await waiting(there=False)
    await outside.post(address(run), {"payload": {"pages": 1}})
    for again in ({"payload": {"pages": 2}}, {"outcome": "fail"}, {"outcome": "heartbeat"}):
        refusal = await refused(outside.post(address(run), again))
        assert (refusal.status, refusal.reason) == (409, "CALLBACK_ANSWERED")
    await sam.post(path_of(run, "signals", "go"), {})
    assert step_of(await sam.wait_ended(run), "told")["output"] == {"pages": 1}, "the early one is kept for its step"


async def test_it_fails_with_the_code_it_names_or_with_that_of_callbacks(sam: Rest, outside: Rest, waiting, address):
    for said, code in (({"code": "PAPER_JAM", "message": "in tray two"}, "PAPER_JAM"), ({}, "CALLBACK_FAILED")):
        run = await waiting()
        await outside.post(address(run), {"outcome": "fail", **said})
        failed = await sam.wait_ended(run)
        assert (failed["status"], failed["error"]["code"]) == ("failed", code)
        assert said.get("message", "") in failed["error"]["message"]


async def test_signs_of_life_move_the_deadline_and_tell_of_progress(sam: Rest, outside: Rest, waiting, address):
    run = await waiting(", heartbeat: 2s")
    before = event_of(await sam.get(path_of(run)), "step.waiting")["data"]["due"]
    await outside.post(address(run), {"outcome": "heartbeat", "progress": {"pages": 2}})
    alive = event_of(await sam.get(path_of(run)), "callback.alive")
    assert alive["data"]["due"] > before
    assert alive["data"]["progress"] == {"pages": 2}
    failed = await sam.wait_ended(run)
    assert failed["error"]["code"] == "HEARTBEAT_TIMEOUT"
    # Late: the step has failed for want of it.
    refusal = await refused(outside.post(address(run), {"payload": {"pages": 3}}))
    assert (refusal.status, refusal.reason) == (409, "RUN_STATE")


async def test_after_a_cancel_nothing_is_taken_and_a_retry_waits_anew(sam: Rest, outside: Rest, waiting, address):
    run = await waiting()
    await sam.post(path_of(run, "cancel"))
    for said in ({"payload": {"pages": 1}}, {"outcome": "fail"}, {"outcome": "heartbeat"}):
        assert (await refused(outside.post(address(run), said))).status == 409
    cancelled = await sam.get(path_of(run))
    assert cancelled["status"] == "cancelled"
    assert types(cancelled).count("signal.received") == 1, "that it began with"
    await sam.post(path_of(run, "retry"))
    await outside.post(address(run), {"payload": {"pages": 4}})
    assert step_of(await sam.wait_ended(run), "told")["output"] == {"pages": 4}


async def test_a_token_that_is_none_is_missing_whatever_it_looks_like(outside: Rest, waiting, address):
    run = await waiting(there=False)
    for token in ("x", address(run).rpartition("/")[2] + "x", address(run).rpartition("/")[2][:-3] + "abc"):
        refusal = await refused(outside.post(f"/api/v1/callbacks/{token}", {}))
        assert (refusal.status, refusal.reason) == (404, "CALLBACK_UNKNOWN")
