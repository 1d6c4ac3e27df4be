"""Snapshots, rollback and fork: exactly the state of that point, and nothing of what came after it."""

from __future__ import annotations

import asyncio
import json

from e2e_runs import decide, event_of, path_of, refused, statuses, step_of, types, until
from e2e_store import Store
from wfe_engine.state import RunState, decode_state
from wfe_stack.rest import Rest
from wfe_stack.waiting import wait_for

STAGES = """
name: e2e-stages
variables: {witness: {type: string}}
timeout: 1h
steps:
  - {id: one, http: {url: "${{ vars.witness }}/one"}}
  - {id: mark, checkpoint: after one}
  - {id: two, http: {url: "${{ vars.witness }}/two"}}
  - {id: gate, approval: {title: "Go on?", approvers: {groups: [editors]}}}
  - {id: three, http: {url: "${{ vars.witness }}/three"}}
output: {one: "${{ steps.one.output.body.call }}", two: "${{ steps.two.output.body.call }}"}
"""
IN_FLIGHT = """
name: e2e-in-flight
variables: {witness: {type: string}}
steps:
  - {id: one, http: {url: "${{ vars.witness }}/one"}}
  - {id: mark, checkpoint: mark}
  - {id: two, http: {url: "${{ vars.witness }}/two"}}
  - {id: late, call: {handler: stubborn, input: {}}}
"""


def counts(witness) -> list[int]:
    return [len(witness[path].calls) for path in ("one", "two", "three")]


async def snapshots(caller: Rest, run) -> dict[str, dict]:
    """The snapshots of a run by name."""
    return {each["name"]: each for each in (await caller.get(path_of(run["id"], "snapshots")))["snapshots"]}


async def stored_at(store: Store, snapshot) -> RunState:
    return decode_state((await store.rows("SELECT state FROM snapshots WHERE id = %s", snapshot["id"]))[0][0])


def frontier(state: RunState) -> dict:
    return {key: (scope.done, scope.skipped) for key, scope in state.scopes.items()}


async def test_snapshots_rollback_and_fork(sam: Rest, ada: Rest, store: Store, start, witness):
    run = await start(STAGES, witness=witness.url)
    path = path_of(run["id"])
    waiting = await until(sam, run["id"], "waiting_approval")
    asked = await sam.post(f"{path}/snapshots", {"name": "on demand"})
    assert (asked["kind"], asked["steps_done"]) == ("demand", ["one", "mark", "two"])
    kept = await snapshots(sam, run)
    assert [(each["name"], each["kind"], each["steps_done"]) for each in kept.values()] == [
        ("after one", "checkpoint", ["one", "mark"]),
        ("gate", "gate", ["one", "mark", "two"]),
        ("on demand", "demand", ["one", "mark", "two"]),
    ]
    assert kept["on demand"] == asked
    for each in kept.values():  # a snapshot is a point of the log
        assert waiting["events_total"] + 1 >= each["seq"] == (await stored_at(store, each)).seq
    open_gate = waiting["approvals"][0]

    # Back to the checkpoint, from a gate: it is superseded, `two` runs again under another key, and the gate is new.
    back = await sam.post(f"{path}/rollback", {"snapshot_id": kept["after one"]["id"], "reason": "two was wrong"})
    assert back["notice"] == "effects outside are not undone: two (http)"
    event = event_of(back, "run.rolled_back")
    assert (event["reason"], event["data"]["to_seq"]) == ("two was wrong", kept["after one"]["seq"])
    then = await stored_at(store, kept["after one"])
    assert {key: (scope["done"], scope.get("skipped", "0")) for key, scope in event["data"]["scopes"].items()} == (
        frontier(then)
    )
    assert (back["status"], back["epoch"]) == ("running", 1)
    again = await until(sam, run["id"], "waiting_approval")
    assert [(each["path"], each["visit"], each["status"]) for each in again["steps"]] == [
        ("one", 1, "completed"),
        ("mark", 1, "completed"),
        ("two", 1, "rolled_back"),
        ("gate", 1, "rolled_back"),
        ("two", 2, "completed"),
        ("gate", 2, "waiting_approval"),
    ]
    assert frontier(decode_state(await store.state(run["id"]))) == frontier(await stored_at(store, kept["gate"]))
    assert counts(witness) == [1, 2, 0]
    assert len(set(witness["two"].keys)) == 2
    assert [each["status"] for each in again["approvals"]] == ["superseded", "open"]
    refusal = await refused(ada.post(f"{path}/approvals/{open_gate['id']}/approve"))
    assert (refusal.status, refusal.reason) == (409, "GATE_CLOSED")

    # What a rollback went behind is void; what lies before it is not.
    for name in ("gate", "on demand"):
        for action in ("rollback", "fork"):
            refusal = await refused(sam.post(f"{path}/{action}", {"snapshot_id": kept[name]["id"]}))
            assert (refusal.status, refusal.reason) == (409, "SNAPSHOT_VOID")
    await decide(ada, again, "approve")
    done = await sam.wait_ended(run["id"])
    assert (done["status"], done["output"]) == ("completed", {"one": 1, "two": 2})

    # Forks of an ended run say where they came from, and leave it as it was.
    stored = await store.everything(run["id"])
    fork = await sam.post(f"{path}/fork", {"snapshot_id": kept["after one"]["id"], "reason": "another try"})
    assert (fork["status"], fork["trigger_type"]) == ("pending", "fork")
    assert fork["notice"] == "effects outside stay, and the fork may repeat them: two (http), three (http)"
    forked = await until(sam, fork["id"], "waiting_approval")
    assert forked["forked_from"] == {"workflow_id": run["id"], "snapshot_id": kept["after one"]["id"]}
    assert event_of(forked, "run.created")["data"]["forked_from"] == run["id"]
    assert event_of(forked, "run.created")["reason"] == "another try"
    assert forked["input"] == done["input"]
    assert step_of(forked, "one")["output"] == step_of(done, "one")["output"]
    assert counts(witness) == [1, 3, 1]
    assert await store.everything(run["id"]) == stored
    await decide(ada, forked, "approve")
    assert (await sam.wait_ended(fork["id"]))["output"] == {"one": 1, "two": 3}

    # Back after the end opens a new epoch.
    back = await sam.post(f"{path}/rollback", {"snapshot_id": kept["after one"]["id"]})
    assert (back["epoch"], "ended_at" in back, "output" in back) == (2, False, False)
    assert statuses(back)["three"] == "rolled_back"
    await until(sam, run["id"], "waiting_approval")
    for each in (run, fork):
        assert await store.folded(each["id"]) == await store.state(each["id"])


async def test_a_late_result_of_what_was_rolled_back_is_refused(sam: Rest, store: Store, start, witness, tmp_path):
    release = tmp_path / "release"
    run = await start(
        IN_FLIGHT.replace("input: {}", f"input: {{file: {tmp_path / 'notes'}, until: {release}}}"), witness=witness.url
    )
    await wait_for((tmp_path / "notes").exists, what="the stubborn step")
    mark = (await snapshots(sam, run))["mark"]
    witness["two"].hold()
    back = await sam.post(path_of(run["id"], "rollback"), {"snapshot_id": mark["id"]})
    assert back["notice"] == "effects outside are not undone: two (http), late (call)"
    await wait_for(lambda: len(witness["two"].calls) == 2)
    before = await store.everything(run["id"])

    # The handler goes on although it was told to stop, and its executor hands in what it gives.
    release.touch()
    await wait_for(lambda: "gave" in (tmp_path / "notes").read_text(), what="the late result")
    await asyncio.sleep(0.3)
    after = await store.everything(run["id"])
    assert {table: rows for table, rows in after.items() if table != "dispatch"} == {
        table: rows for table, rows in before.items() if table != "dispatch"
    }
    witness["two"].release()
    done = await sam.wait_ended(run["id"])
    assert [(each["path"], each["visit"], each["status"]) for each in done["steps"]] == [
        ("one", 1, "completed"),
        ("mark", 1, "completed"),
        ("two", 1, "rolled_back"),
        ("late", 1, "rolled_back"),
        ("two", 2, "completed"),
        ("late", 2, "completed"),
    ]
    assert [step["output"]["visit"] for step in done["steps"] if step["path"] == "late" and "output" in step] == [2]
    notes = [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]
    assert len({note["key"] for note in notes}) == 2


async def test_a_rollback_of_a_paused_run_stays_paused_and_its_clock_stands(sam: Rest, store: Store, start, witness):
    run = await start(STAGES, witness=witness.url)
    await until(sam, run["id"], "waiting_approval")
    kept = await snapshots(sam, run)
    await sam.post(path_of(run["id"], "pause"))
    paused_at = decode_state(await store.state(run["id"])).paused_at
    await asyncio.sleep(0.5)
    back = await sam.post(path_of(run["id"], "rollback"), {"snapshot_id": kept["after one"]["id"]})
    assert (back["status"], counts(witness)) == ("paused", [1, 1, 0])
    state = decode_state(await store.state(run["id"]))
    assert (state.paused_at, state.deadline) == (paused_at, paused_at + 3600)
    resumed = await sam.post(path_of(run["id"], "resume"))
    assert resumed["status"] == "running"
    again = await until(sam, run["id"], "waiting_approval")
    assert counts(witness) == [1, 2, 0]
    assert types(again).count("approval.superseded") == 1
    assert await store.folded(run["id"]) == await store.state(run["id"])
