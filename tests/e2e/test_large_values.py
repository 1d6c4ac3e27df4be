"""Values above 256 KB through the whole engine: out of line in the store, whole to expressions and executors."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from wfe_stack.rest import Refused, Rest

SIZE = 3_000_000
SOURCE = """
name: large-values
variables:
  bytes: {type: integer, required: true}
  failures: {type: integer, default: 0}
steps:
  - id: make
    call: {handler: work, input: {seconds: 0, pieces: 1, bytes: "${{ vars.bytes }}"}}
    retry: {max_attempts: 1}
  - id: review
    approval: {title: "Go on?", approvers: {groups: [editors]}}
  - {id: larger, call: {handler: work, input: {seconds: 0, pieces: 1, bytes: 9000000}}}
  - id: pass
    call: {handler: echo, input: {text: "${{ steps.make.output.text }}", note: small}}
  - id: size
    set: {size: "${{ size(steps.pass.output.text) }}"}
  - id: looked
    if: "${{ steps.larger.output.pieces == 1 && steps.larger.output.?more.orValue(true) }}"
    set: {seen: true}
output: {size: "${{ steps.size.output.size }}", all: "${{ steps.pass.output }}"}
"""


async def started(sam: Rest, template: str, size: int):
    return await sam.post("/api/v1/workflows", {"template_id": template, "input": {"bytes": size}})


async def until(caller: Rest, run: str, status: str):
    async with asyncio.timeout(60):
        while True:
            found = await caller.get(f"/api/v1/workflows/{run}")
            if found["status"] in (status, "failed"):
                return found
            await asyncio.sleep(0.05)


async def whole(caller: Rest, run: str, reference):
    """A large value, read range by range."""
    assert set(reference) == {"$blob", "bytes"}
    data = b""
    while len(data) < reference["bytes"]:
        path = f"/api/v1/workflows/{run}/blobs/{reference['$blob']}"
        part = await caller.get(path, offset=len(data))
        assert part["total"] == reference["bytes"]
        data += base64.b64decode(part["data"])
    return json.loads(data)


async def test_a_large_value_goes_all_the_way(sam: Rest, ada: Rest, stranger: Rest, publish):
    template = await publish(SOURCE)
    run = (await started(sam, template, SIZE))["id"]
    waiting = await until(sam, run, "waiting_approval")
    made = waiting["steps"][0]["output"]
    assert await whole(sam, run, made) == {"pieces": 1, "text": "x" * SIZE}
    with pytest.raises(Refused) as refusal:
        await stranger.get(f"/api/v1/workflows/{run}/blobs/{made['$blob']}")
    assert refusal.value.status == 404
    await ada.post(f"/api/v1/workflows/{run}/approvals/{waiting['approvals'][0]['id']}/approve")
    done = await until(sam, run, "completed")
    assert done["status"] == "completed", done["error"]
    expected = {"text": "x" * SIZE, "note": "small"}
    output = await whole(sam, run, done["output"])
    assert output == {"size": SIZE, "all": expected}
    assert next(step["output"] for step in done["steps"] if step["path"] == "looked") == {"seen": True}
    passed = next(step for step in done["steps"] if step["path"] == "pass")
    assert await whole(sam, run, passed["input"]) == {"handler": "echo", "input": expected}
    assert await whole(sam, run, passed["output"]) == expected
    snapshot = (await sam.get(f"/api/v1/workflows/{run}/snapshots"))["snapshots"][0]
    fork = (await sam.post(f"/api/v1/workflows/{run}/fork", {"snapshot_id": snapshot["id"]}))["id"]
    forked = await until(sam, fork, "waiting_approval")
    assert await whole(sam, fork, forked["steps"][0]["output"]) == {"pieces": 1, "text": "x" * SIZE}
    await ada.post(f"/api/v1/workflows/{fork}/approvals/{forked['approvals'][0]['id']}/approve")
    assert (await until(sam, fork, "completed"))["status"] == "completed"


async def test_beyond_the_limit_the_step_says_so(sam: Rest, publish):
    run = (await started(sam, await publish(SOURCE), 17_000_000))["id"]
    failed = await until(sam, run, "failed")
    assert failed["error"]["code"] == "OUTPUT_TOO_LARGE"
    assert "16777216" in failed["error"]["message"]


INPUT = """
name: large-input
variables: {data: {type: object, required: true}}
steps:
  - id: size
    call: {handler: echo, input: {size: "${{ size(vars.data.text) }}"}}
  - {id: go, wait_for: {signal: go}}
  - {id: again, call: {handler: echo, input: {size: "${{ size(vars.data.text) }}"}}}
output: "${{ steps.again.output.size }}"
"""


async def test_a_large_input_of_a_run_is_out_of_line_in_its_row_and_its_log(sam: Rest, publish, store):
    data = {"text": "y" * 700_000}
    body, key = {"template_id": await publish(INPUT), "input": {"data": data}}, "large-input-once"
    started = await sam.start(body, key=key)
    assert started["input"] == {"data": data}
    path = f"/api/v1/workflows/{started['id']}"
    async with asyncio.timeout(30):
        while len((found := await sam.get(path))["steps"]) < 2:
            await asyncio.sleep(0.05)
    assert await whole(sam, started["id"], found["input"]) == {"data": data}
    assert found["events"][0]["data"]["input"] == found["input"]
    ((row, event),) = await store.rows(
        "SELECT octet_length(r.input), octet_length(e.data) FROM runs r JOIN events e ON e.run_id = r.id AND e.seq = 1"
        " WHERE r.id = %s",
        started["id"],
    )
    assert (row < 200, event < 2000) == (True, True)
    assert await sam.start(body, key=key) == started, "the same start again"
    assert (await store.folded(started["id"])) == (await store.state(started["id"]))
    # It waited, so it is read back from the store for what follows.
    await sam.post(f"{path}/signals/go")
    done = await until(sam, started["id"], "completed")
    assert (done["status"], done["output"]) == ("completed", 700_000)
    snapshot = (await sam.post(f"{path}/snapshots", {"name": "end"}))["id"]
    fork = (await sam.post(f"{path}/fork", {"snapshot_id": snapshot}))["id"]
    assert await whole(sam, fork, (await sam.get(f"/api/v1/workflows/{fork}"))["input"]) == {"data": data}
    numbers = {"data": {"numbers": [1] * 120_000}}
    assert (await sam.start({**body, "input": numbers}))["input"] == numbers, "small as JSON, large as a message"


GATE = """
name: large-payload
steps:
  - {id: make, call: {handler: work, input: {seconds: 0, pieces: 1, bytes: 600000}}}
  - {id: review, approval: {title: "Go on?", payload: "${{ steps.make.output }}", approvers: {groups: [editors]}}}
"""


async def test_a_large_payload_of_a_gate_is_fetched_by_who_decides(sam: Rest, ada: Rest, publish, store):
    run = (await sam.start({"template_id": await publish(GATE)}))["id"]
    waiting = await until(sam, run, "waiting_approval")
    gate = await ada.get(f"/api/v1/approvals/{waiting['approvals'][0]['id']}")
    assert gate["payload"] == waiting["approvals"][0]["payload"]
    assert await whole(ada, run, gate["payload"]) == {"pieces": 1, "text": "x" * 600_000}
    ((size,),) = await store.rows("SELECT octet_length(payload) FROM gates WHERE run_id = %s", run)
    assert size < 200
    body = {"expected_digest": gate["digest"]}
    await ada.post(f"/api/v1/workflows/{run}/approvals/{gate['id']}/approve", body)
    assert (await until(sam, run, "completed"))["status"] == "completed"


EDITED = """
name: large-edited
variables: {pad: {type: integer, required: true}}
steps:
  - {id: make, call: {handler: work, input: {seconds: 0, pieces: 1, bytes: "${{ vars.pad }}"}}}
  - {id: draft, set: {why: "${{ revision.reason }}", text: "${{ steps.make.output.text }}"}}
  - id: review
    approval:
      title: Send it?
      approvers: {groups: [editors]}
      revise: {step: draft, max_rounds: 2}
      form: {editable: [/input/amount, /input/note]}
  - id: send
    call: {handler: echo, input: {amount: 5, note: "", why: "${{ steps.draft.output.why }}",
           text: "${{ steps.draft.output.text }}"}}
    approved_by: review
  - {id: size, set: {size: "${{ size(steps.send.output.text) }}"}}
"""


async def gate_of(caller: Rest, run: str, round_: int = 0):
    async with asyncio.timeout(60):
        while True:
            found = (await caller.get(f"/api/v1/workflows/{run}"))["approvals"]
            if found and (found[-1]["status"], found[-1]["round"]) == ("open", round_):
                return await caller.get(f"/api/v1/approvals/{found[-1]['id']}")
            await asyncio.sleep(0.05)


async def test_a_large_payload_is_edited_sent_back_compared_and_run_as_approved(sam: Rest, ada: Rest, publish, store):
    run = (await sam.start({"template_id": await publish(EDITED), "input": {"pad": 400_000}}))["id"]
    first = await gate_of(sam, run)
    assert set(first["payload"]) == {"$blob", "bytes"}
    preview = await ada.get(f"/api/v1/approvals/{first['id']}/preview")
    assert next((s["path"], s["target"]) for s in preview["outcomes"][0]["steps"]) == ("send", "echo")
    back = {"decision": "revise", "comment": "say why"}
    await ada.post(f"/api/v1/approvals/{first['id']}/decide", back)
    second = await gate_of(sam, run, 1)
    seen = await ada.get(f"/api/v1/approvals/{second['id']}")
    assert seen["diff"] == [{"op": "replace", "path": "/input/why", "value": "say why"}]
    assert seen["diff_left_out"] == ""
    note = "n" * 300_000
    edits = [{"path": "/input/amount", "value": 4}, {"path": "/input/note", "value": note}]
    path = f"/api/v1/approvals/{second['id']}/decide"
    with pytest.raises(Refused) as refusal:
        await ada.post(path, {"decision": "approve", "edits": [{"path": "/input/text", "value": ""}]})
    assert refusal.value.status == 400
    done = await ada.post(path, {"decision": "approve", "edits": edits, "expected_digest": seen["digest"]})
    assert done["status"] == "approved"
    expected = {"amount": 4, "note": note, "why": "say why", "text": "x" * 400_000}
    assert await whole(ada, run, done["edited_payload"]) == {"handler": "echo", "input": expected}
    patched = {one["path"]: one["value"] for one in await whole(ada, run, done["patch"])}
    assert patched == {"/input/amount": 4, "/input/note": note}
    sizes = await store.rows(
        "SELECT octet_length(payload), octet_length(edited), octet_length(patch) FROM gates WHERE id = %s", second["id"]
    )
    assert all(size < 200 for size in sizes[0]), sizes
    finished = await until(sam, run, "completed")
    assert finished["status"] == "completed", finished["error"]
    sent = next(step for step in finished["steps"] if step["path"] == "send")
    assert await whole(sam, run, sent["output"]) == expected, "what ran is what was approved"
    assert await store.state(run) == await store.folded(run)


async def test_a_payload_beyond_the_limit_is_refused_and_a_diff_of_two_large_ones_says_why(
    sam: Rest, ada: Rest, publish
):
    template = await publish(EDITED)
    run = (await sam.start({"template_id": template, "input": {"pad": 9_000_000}}))["id"]
    first = await gate_of(sam, run)
    await ada.post(f"/api/v1/approvals/{first['id']}/decide", {"decision": "revise", "comment": "again"})
    second = await gate_of(sam, run, 1)
    assert "diff" not in second
    assert "16777216" in second["diff_left_out"]
    await sam.post(f"/api/v1/workflows/{run}/cancel")
    limit = EDITED.replace("large-edited", "large-refused").replace('note: ""', 'note: "${{ steps.make.output.text }}"')
    run = (await sam.start({"template_id": await publish(limit), "input": {"pad": 9_000_000}}))["id"]
    failed = await until(sam, run, "failed")
    assert failed["error"]["code"] == "INPUT_TOO_LARGE"
    assert "16777216" in failed["error"]["message"]
    assert failed["approvals"] == []
