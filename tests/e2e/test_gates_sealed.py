"""A sensitive value in what is approved: nobody sees it, and what runs has it."""

from __future__ import annotations

import asyncio
import json

from wfe_stack.rest import Rest

CANARY = "canary-0d41aa"
SOURCE = """name: gates-sealed
variables:
  token: {type: string, sensitive: true, required: true}
steps:
  - {id: g, approval: {title: Send it?, approvers: {roles: [approver]}, form: {editable: [/input/n]}}}
  - {id: send, call: {handler: echo, input: {auth: "Bearer ${{ vars.token }}", n: 1}}, approved_by: g}
"""


async def test_a_sealed_value_is_approved_unseen_and_runs(sam: Rest, ada: Rest, publish):
    body = {"template_id": await publish(SOURCE), "input": {"token": CANARY}}
    run = (await sam.post("/api/v1/workflows", body))["id"]
    async with asyncio.timeout(20):
        while not (gates := (await ada.get("/api/v1/approvals", workflow_id=run))["approvals"]):
            await asyncio.sleep(0.02)
    seen = await ada.get(f"/api/v1/approvals/{gates[0]['id']}")
    assert seen["payload"]["input"]["n"] == 1
    assert CANARY not in json.dumps(seen)
    edits = [{"path": "/input/n", "value": 2}]
    done = await ada.post(f"/api/v1/approvals/{seen['id']}/decide", {"decision": "approve", "edits": edits})
    assert done["status"] == "approved"
    ended = await sam.get(f"/api/v1/workflows/{run}", wait_seconds=20)
    assert ended["status"] == "completed", ended
    sent = next(step for step in ended["steps"] if step["path"] == "send")
    assert sent["output"]["n"] == 2
    assert CANARY not in json.dumps(ended)
