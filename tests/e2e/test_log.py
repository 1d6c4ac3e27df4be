"""The event log: who, when and why of every change, without gaps, equal to the state; and no secret in anything."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from typing import Any

from e2e_runs import decide, event_of, moment, path_of, step_of, until
from e2e_store import Store
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_stack.rest import Rest

EVENTFUL = """
name: e2e-eventful
variables: {skip: {type: boolean, default: true}}
steps:
  - {id: flaky, call: {handler: flaky, input: {failures: 1}}, retry: {max_attempts: 2, initial: 10ms, jitter: none}}
  - {id: nap, needs: [flaky], wait: {for: 50ms}}
  - {id: never, needs: [flaky], if: "${{ !vars.skip }}", set: {x: 1}}
  - {id: mark, needs: [nap, never], checkpoint: mark}
  - {id: gate, approval: {title: "Go on?", approvers: {groups: [editors]}, expires: {after: 1h, then: reject}}}
  - {id: last, set: {x: 1}}
"""
SHAPE = re.compile(
    r"(principal:[0-9a-f-]{36}|executor:.+|run:[0-9a-f-]{36}|schedule:[0-9a-f-]{36}|callback|timer|system)"
)

CANARY = "canary-51d0c4"
SECRETIVE = """
name: e2e-secretive
variables:
  witness: {type: string}
  token: {type: string, sensitive: true, required: true}
  card: {type: object, sensitive: true, required: true}
defaults: {retry: {max_attempts: 1}}
steps:
  - id: spill
    needs: []
    call: {handler: spill, input: {secret: "${{ vars.token }}", seconds: 1.5}}
  - id: echoed
    needs: []
    http:
      method: POST
      url: "${{ vars.witness }}/secret"
      headers: {authorization: "Bearer ${{ vars.token }}"}
      json: {card: "${{ vars.card }}", text: "<${{ vars.token }}>"}
  - {id: gate, needs: [spill, echoed], approval: {title: "Go on?", approvers: {groups: [editors]}}}
  - {id: fails, call: {handler: spill, input: {secret: "${{ vars.token }}", fail: FAIL}}}
output: {spilled: "${{ steps.spill.output }}"}
"""


async def test_every_change_has_its_actor_moment_and_reason(sam: Rest, ada: Rest, root: Rest, store: Store, start):
    people = {each["name"]: f"principal:{each['id']}" for each in (await root.get("/api/v1/principals"))["principals"]}
    run = await start(EVENTFUL)
    path = path_of(run["id"])
    await until(sam, run["id"], "waiting_approval")
    assert await store.folded(run["id"]) == await store.state(run["id"])
    await sam.post(f"{path}/pause", {"reason": "lunch"})
    assert await store.folded(run["id"]) == await store.state(run["id"])
    await sam.post(f"{path}/resume", {"reason": "back"})
    waiting = await until(sam, run["id"], "waiting_approval")
    await decide(ada, waiting, "reject", comment="no")
    await until(sam, run["id"], "failed")
    again = await sam.post(f"{path}/retry", {"reason": "ask again"})
    await decide(ada, again, "approve", comment="yes")
    await until(sam, run["id"], "completed")
    mark = (await sam.get(f"{path}/snapshots"))["snapshots"][0]
    await sam.post(f"{path}/rollback", {"snapshot_id": mark["id"], "reason": "once more"})
    await sam.post(f"{path}/snapshots", {"name": "kept"})
    await sam.post(f"{path}/cancel", {"reason": "enough"})
    ended = await sam.get(path)

    said = [(event["type"], event["actor"].split(":")[0], event["reason"]) for event in ended["events"]]
    assert said == [
        ("run.created", "principal", ""),
        ("run.started", "principal", ""),
        ("step.ready", "principal", ""),
        ("step.retrying", "executor", ""),
        ("step.completed", "executor", ""),
        ("step.waiting", "executor", ""),
        ("step.skipped", "executor", ""),
        ("step.completed", "timer", ""),
        ("step.completed", "timer", ""),
        ("snapshot.created", "timer", ""),
        ("snapshot.created", "timer", ""),
        ("approval.requested", "timer", ""),
        ("run.paused", "principal", "lunch"),
        ("run.resumed", "principal", "back"),
        ("approval.rejected", "principal", "no"),
        ("step.failed", "principal", "no"),
        ("run.failed", "principal", "no"),
        ("run.retried", "principal", "ask again"),
        ("snapshot.created", "principal", "ask again"),
        ("approval.requested", "principal", "ask again"),
        ("approval.approved", "principal", "yes"),
        ("step.completed", "principal", "yes"),
        ("step.completed", "principal", "yes"),
        ("run.completed", "principal", "yes"),
        ("run.rolled_back", "principal", "once more"),
        ("snapshot.created", "principal", "once more"),
        ("approval.requested", "principal", "once more"),
        ("snapshot.created", "principal", ""),
        ("approval.withdrawn", "principal", "enough"),
        ("step.cancelled", "principal", "enough"),
        ("run.cancelled", "principal", "enough"),
    ]
    assert event_of(ended, "run.paused")["actor"] == people["sam"]
    assert (
        event_of(ended, "approval.rejected")["actor"] == event_of(ended, "approval.approved")["actor"] == people["ada"]
    )
    moments = [moment(event["at"]) for event in ended["events"]]
    assert moments == sorted(moments)
    assert [event["seq"] for event in ended["events"]] == list(range(1, ended["events_total"] + 1))
    assert await store.folded(run["id"]) == await store.state(run["id"])


async def test_every_log_in_the_store_is_whole_and_folds_to_its_state(store: Store):
    """Whatever the tests before this one have done to their runs."""
    runs = [str(row[0]) for row in await store.rows("SELECT id FROM runs ORDER BY id")]
    events = await store.rows("SELECT run_id::text, seq, at, actor, type FROM events ORDER BY run_id, seq")
    logs = {run: list(group) for run, group in itertools.groupby(events, key=lambda row: row[0])}
    assert set(logs) == set(runs)
    for run, log in logs.items():
        assert [row[1] for row in log] == list(range(1, len(log) + 1)), run
        assert all(SHAPE.fullmatch(row[3]) for row in log), run
        assert [row[2] for row in log] == sorted(row[2] for row in log), run
    for run in runs:
        if await store.folded(run) != (state := await store.state(run)):
            # It may have been going on in between.
            assert await store.folded(run) == await store.state(run) != state
    rows = await store.rows("SELECT id::text, seq, status, state FROM runs")
    assert [run for run, seq, _, state in rows if json.loads(state)["seq"] != seq] == []


async def test_sensitive_values_are_nowhere(stack, sam: Rest, ada: Rest, store: Store, grpc_as, publish, witness):
    given = {"witness": witness.url, "token": CANARY, "card": {"number": f"{CANARY}-card", "until": "12/29"}}

    async def told(fail: str, version: int) -> list[Any]:
        """Everything the API says of a run and its fork."""
        body = {"template_id": template, "version": version, "input": given, "labels": {"fail": fail.split()[0]}}
        run = await sam.start(body)
        path = path_of(run["id"])
        busy = await until(sam, run["id"], lambda found: step_of(found, "spill").get("progress"))
        waiting = await until(sam, run["id"], "waiting_approval")
        watching = asyncio.create_task(_watched(grpc_as("sam"), run["id"]))
        decided = await decide(ada, waiting, "approve")
        ended = await sam.wait_ended(run["id"])
        assert ended["status"] == ("completed" if fail == "false" else "failed")
        kept = await sam.get(f"{path}/snapshots")
        fork = await sam.post(f"{path}/fork", {"snapshot_id": kept["snapshots"][0]["id"]})
        forked = await until(sam, fork["id"], "waiting_approval")
        gone = await sam.post(path_of(fork["id"], "cancel"))
        events = await sam.get(f"{path}/events", limit=200)
        return [run, busy, waiting, await watching, decided, ended, kept, fork, forked, gone, events]

    cases = ("false", "on purpose", "unexpected")
    for fail in cases:
        template = await publish(SECRETIVE.replace("FAIL", fail))
    answers = await asyncio.gather(*(told(fail, version) for version, fail in enumerate(cases, 1)))
    answers.append([await sam.get("/api/v1/workflows", limit=200), await ada.get("/api/v1/approvals", limit=200)])
    # Steps worked with the value itself, also after the failure of another.
    assert len(witness["secret"].calls) == 3
    for call in witness["secret"].calls:
        assert call.headers["authorization"] == f"Bearer {CANARY}"
        assert call.body == {"card": given["card"], "text": f"<{CANARY}>"}
    assert [step_of(run, "fails")["error"]["code"] for *_, run in (told[:6] for told in answers[1:3])] == [
        "SPILLED", "HANDLER_ERROR"
    ]  # fmt: skip

    assert CANARY not in json.dumps(answers, default=str)
    dump = await store.dump()
    assert b"e2e-secretive" in dump
    assert CANARY.encode() not in dump
    assert CANARY.encode().hex().encode() not in dump
    for log in (stack.settings.folder / "logs").iterdir():
        assert CANARY not in log.read_text(errors="replace"), log.name
    # Nor on disk: the files of the database hold old rows and what was sent to it.
    for file in (stack.settings.folder / "postgres").rglob("*"):
        if file.is_file():
            assert CANARY.encode() not in file.read_bytes(), file.name


async def _watched(stubs, run: str) -> list[str]:
    return [str(event) async for event in stubs.workflows.WatchWorkflow(pb.WatchWorkflowRequest(id=run), timeout=30)]
