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
