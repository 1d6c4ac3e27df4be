"""The main job: start, watch, approve, completed; and what keeps it from being done wrongly."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from wfe_engine.events import decode_event
from wfe_engine.evolve import fold
from wfe_engine.state import decode_state
from wfe_stack.rest import Refused, Rest
from wfe_store.pool import Database

CANARY = "canary-7f1c9e"


async def started(caller: Rest, template: str, **body):
    return await caller.post("/api/v1/workflows", {"template_id": template, **body})


async def until(caller: Rest, run: str, *statuses: str):
    """The run once it has one of these statuses."""
    async with asyncio.timeout(20):
        while True:
            found = await caller.get(f"/api/v1/workflows/{run}")
            if found["status"] in statuses:
                return found
            await asyncio.sleep(0.02)


def article():
    return {"input": {"text": "A text worth publishing", "token": CANARY}}


async def test_start_approve_completed(sam: Rest, ada: Rest, sample):
    run = await started(sam, await sample("publish-article"), **article())
    assert (run["status"], run["trigger_type"], run["template"]["name"]) == ("pending", "api", "publish-article")
    waiting = await until(sam, run["id"], "waiting_approval")
    gate = waiting["approvals"][0]
    assert gate["status"] == "open"
    await ada.post(f"/api/v1/workflows/{run['id']}/approvals/{gate['id']}/approve", {"comment": "fine"})
    done = await sam.get(f"/api/v1/workflows/{run['id']}", wait_seconds=20)
    assert done["status"] == "completed"
    assert done["output"]["summary"]
    assert [step["status"] for step in done["steps"]] == ["completed"] * 3
    assert [event["seq"] for event in done["events"]] == list(range(1, len(done["events"]) + 1))


async def test_reject_fails_with_its_reason_and_retry_asks_anew(sam: Rest, ada: Rest, sample):
    run = await started(sam, await sample("publish-article"), **article())
    gate = (await until(sam, run["id"], "waiting_approval"))["approvals"][0]
    await ada.post(f"/api/v1/workflows/{run['id']}/approvals/{gate['id']}/reject", {"comment": "too short"})
    failed = await until(sam, run["id"], "failed")
    assert failed["reason"] == "approval_rejected"
    await sam.post(f"/api/v1/workflows/{run['id']}/retry")
    again = await until(sam, run["id"], "waiting_approval")
    assert again["approvals"][-1]["replaces"] == gate["id"]
    assert again["approvals"][-1]["status"] == "open"


async def test_who_may_not_decide_changes_nothing(sam: Rest, ada: Rest, stranger: Rest, sample):
    run = await started(sam, await sample("publish-article"), **article())
    other = await started(sam, await sample("publish-article"), **article())
    gate = (await until(sam, run["id"], "waiting_approval"))["approvals"][0]
    path = f"/api/v1/workflows/{run['id']}/approvals/{gate['id']}/approve"
    for caller, where, status in (
        (sam, path, 403),
        (stranger, path, 404),
        (ada, path.replace(run["id"], other["id"]), 404),
        (ada, path.replace(gate["id"], str(uuid.uuid4())), 404),
    ):
        with pytest.raises(Refused) as refusal:
            await caller.post(where)
        assert refusal.value.status == status
    assert (await sam.get(f"/api/v1/workflows/{run['id']}"))["approvals"][0]["status"] == "open"
    await sam.post(f"/api/v1/workflows/{run['id']}/cancel")
    with pytest.raises(Refused) as refusal:
        await ada.post(path)
    assert refusal.value.status == 409


async def test_pause_resume_cancel_and_their_refusals(sam: Rest, sample):
    run = await started(sam, await sample("publish-article"), **article())
    await until(sam, run["id"], "waiting_approval")
    act = f"/api/v1/workflows/{run['id']}/"
    assert (await sam.post(act + "pause"))["status"] == "paused"
    with pytest.raises(Refused) as refusal:
        await sam.post(act + "pause")
    assert refusal.value.status == 409
    assert (await sam.post(act + "resume"))["status"] == "waiting_approval"
    assert (await sam.post(act + "cancel", {"reason": "changed my mind"}))["status"] == "cancelled"
    with pytest.raises(Refused) as refusal:
        await sam.post(act + "resume")
    assert refusal.value.status == 409


async def test_rollback_and_fork_from_the_gates_snapshot(sam: Rest, ada: Rest, sample):
    run = await started(sam, await sample("publish-article"), **article())
    gate = (await until(sam, run["id"], "waiting_approval"))["approvals"][0]
    path = f"/api/v1/workflows/{run['id']}"
    await ada.post(f"{path}/approvals/{gate['id']}/approve")
    await until(sam, run["id"], "completed")
    snapshot = (await sam.get(f"{path}/snapshots"))["snapshots"][0]
    assert snapshot["steps_done"] == ["summarise"]
    back = await sam.post(f"{path}/rollback", {"snapshot_id": snapshot["id"]})
    assert back["status"] == "waiting_approval"
    assert [(s["path"], s["status"]) for s in back["steps"]] == [
        ("summarise", "completed"),
        ("review", "rolled_back"),
        ("publish", "rolled_back"),
        ("review", "waiting_approval"),
    ]
    fork = await sam.post(f"{path}/fork", {"snapshot_id": snapshot["id"]})
    forked = await until(sam, fork["id"], "waiting_approval")
    assert forked["forked_from"] == {"workflow_id": run["id"], "snapshot_id": snapshot["id"]}


async def test_the_log_folds_to_the_state_and_nothing_holds_the_secret(stack, sam: Rest, sample):
    run = await started(sam, await sample("publish-article"), **article())
    await until(sam, run["id"], "waiting_approval")
    database = Database(stack.database_url, name="test", size=2)
    await database.open()
    try:
        async with database.connection() as connection:
            rows = await (
                await connection.execute(
                    "SELECT type, data, extract(epoch FROM at)::float8 FROM events WHERE run_id = %s ORDER BY seq",
                    (run["id"],),
                )
            ).fetchall()
            state = await (await connection.execute("SELECT state FROM runs WHERE id = %s", (run["id"],))).fetchone()
            tables = await (
                await connection.execute(
                    "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename !~ 'p[0-9]'"
                )
            ).fetchall()
            for (table,) in tables:
                found = await (
                    await connection.execute(
                        f"SELECT 1 FROM {table} t WHERE t::text LIKE '%{CANARY}%' LIMIT 1".encode()
                    )
                ).fetchone()
                assert found is None, table
    finally:
        await database.close()
    folded = fold([(decode_event(kind, data), at) for kind, data, at in rows])
    stored = decode_state(state[0])
    assert (folded.seq, folded.status, folded.scopes.keys()) == (stored.seq, stored.status, stored.scopes.keys())
    assert folded.scopes[""].done == stored.scopes[""].done
    assert CANARY not in json.dumps(await sam.get(f"/api/v1/workflows/{run['id']}"))
    for log in (stack.settings.folder / "logs").iterdir():
        assert CANARY not in log.read_text(errors="replace")


async def test_the_same_key_gives_the_same_run_and_another_body_is_refused(sam: Rest, sample):
    template = await sample("hello")
    key = uuid.uuid4().hex
    body = {"template_id": template}
    answers = await asyncio.gather(*(sam.post("/api/v1/workflows", body, key=key) for _ in range(5)))
    assert len({answer["id"] for answer in answers}) == 1
    with pytest.raises(Refused) as refusal:
        await sam.post("/api/v1/workflows", {**body, "labels": {"a": "b"}}, key=key)
    assert refusal.value.status == 409
