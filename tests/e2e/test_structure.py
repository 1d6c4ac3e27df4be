"""Steps inside of steps, signals and child runs, on the real engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from wfe_stack.rest import Refused, Rest

KINDS = """
name: structure
variables:
  items: {type: array, default: [1, 2, 3]}
steps:
  - id: both
    parallel:
      branches:
        left: [{id: l, call: {handler: echo, input: {side: left}}}]
        right:
          steps: [{id: r, call: {handler: echo, input: {side: right}}}]
          output: {said: "${{ steps.r.output.side }}"}
  - id: each
    foreach:
      items: "${{ vars.items }}"
      concurrency: 2
      steps:
        - {id: double, call: {handler: echo, input: {n: "${{ item * 2 }}", at: "${{ index }}"}}}
      output: "${{ steps.double.output.n }}"
  - id: route
    switch:
      value: "${{ steps.both.output.right.said }}"
      cases:
        - {is: left, steps: [{id: no, fail: {code: WRONG, message: no}}]}
        - {is: [right], steps: [{id: yes, set: {ok: true}}]}
  - id: count
    loop:
      until: "${{ steps.next.output.n >= 3 }}"
      max: 5
      steps:
        - id: next
          set: {n: "${{ steps.count.output == null ? 1 : steps.count.output.n + 1 }}"}
  - id: safe
    try:
      steps: [{id: bad, fail: {code: NOPE, message: "as meant"}}]
      catch: [{codes: [NOPE], steps: [{id: caught, set: {code: "${{ error.code }}"}}]}]
      finally: [{id: last, set: {seen: true}}]
output:
  both: "${{ steps.both.output }}"
  each: "${{ steps.each.output }}"
  route: "${{ steps.route.output }}"
  count: "${{ steps.count.output }}"
  safe: "${{ steps.safe.output }}"
"""

WAITS = """
name: waits-for-signal
steps:
  - {id: first, wait_for: {signals: [go, stop], timeout: {after: 60s}}}
  - {id: second, wait_for: {signal: early, timeout: {after: 60s}}}
output: {first: "${{ steps.first.output }}", second: "${{ steps.second.output.payload }}"}
"""

CHILD = """
name: child
variables: {n: {type: integer, required: true}}
steps:
  - {id: work, call: {handler: echo, input: {n: "${{ vars.n }}"}}}
  - {id: hold, if: "${{ vars.n < 0 }}", wait: {for: 1h}}
output: {twice: "${{ vars.n * 2 }}"}
"""
PARENT = """
name: parent
variables: {ns: {type: array, required: true}}
steps:
  - id: all
    foreach:
      items: "${{ vars.ns }}"
      steps: [{id: sub, workflow: {template: child, input: {n: "${{ item }}"}}}]
      output: "${{ steps.sub.output.twice }}"
output: "${{ steps.all.output }}"
"""


async def start(rest: Rest, template: str, given: dict[str, Any] | None = None) -> str:
    """Starts a run; gives its id."""
    return str((await rest.post("/api/v1/workflows", {"template_id": template, "input": given or {}}))["id"])


async def ended(rest: Rest, run: str) -> dict[str, Any]:
    """The run once it has ended."""
    found = await rest.get(f"/api/v1/workflows/{run}", wait_seconds=30)
    assert found["status"] in ("completed", "failed", "cancelled"), found
    return found


async def until(rest: Rest, run: str, met: Any) -> dict[str, Any]:
    """The run once something holds of it."""
    async with asyncio.timeout(30):
        while True:
            found = await rest.get(f"/api/v1/workflows/{run}")
            if met(found):
                return found
            await asyncio.sleep(0.05)


async def test_every_structure_runs_and_gives_its_output(sam, publish):
    found = await ended(sam, await start(sam, await publish(KINDS)))
    assert found["status"] == "completed", found.get("error")
    assert found["output"] == {
        "both": {"left": {"side": "left"}, "right": {"said": "right"}},
        "each": [2, 4, 6],
        "route": {"ok": True},
        "count": {"n": 3},
        "safe": {"code": "NOPE"},
    }
    keys = [(step["path"], step["iteration"], step["visit"]) for step in found["steps"]]
    assert len(keys) == len(set(keys))
    assert ("each/double", "2", 1) in keys


async def test_a_thousand_items(sam, publish):
    template = await publish(KINDS)
    found = await ended(sam, await start(sam, template, {"items": list(range(1000))}))
    assert found["status"] == "completed", found.get("error")
    assert found["output"]["each"] == [2 * n for n in range(1000)]


async def test_a_signal_is_taken_and_an_early_one_is_kept(sam, publish):
    run = await start(sam, await publish(WAITS))
    await until(sam, run, lambda found: any(step["status"] == "waiting" for step in found["steps"]))
    await sam.post(f"/api/v1/workflows/{run}/signals/early", {"payload": {"n": 1}})
    await sam.post(f"/api/v1/workflows/{run}/signals/stop", {"payload": "now"})
    found = await ended(sam, run)
    assert found["output"] == {"first": {"name": "stop", "payload": "now"}, "second": {"n": 1}}
    with pytest.raises(Refused) as refusal:
        await sam.post(f"/api/v1/workflows/{run}/signals/go", {})
    assert refusal.value.status == 409


async def test_child_runs_give_their_output_and_are_cancelled_with_their_parent(sam, publish):
    await publish(CHILD)
    template = await publish(PARENT)
    found = await ended(sam, await start(sam, template, {"ns": [1, 2, 3]}))
    assert found["output"] == [2, 4, 6]
    run = await start(sam, template, {"ns": [-1]})
    await until(sam, run, lambda found: any(step["kind"] == "workflow" for step in found["steps"]))

    async def child() -> dict[str, Any] | None:
        listed = (await sam.get("/api/v1/workflows", limit=200))["workflows"]
        return next((one for one in listed if one.get("parent", {}).get("workflow_id") == run), None)

    async with asyncio.timeout(30):
        while (await child()) is None:
            await asyncio.sleep(0.05)
    await sam.post(f"/api/v1/workflows/{run}/cancel", {})
    async with asyncio.timeout(30):
        while (await child())["status"] != "cancelled":
            await asyncio.sleep(0.05)


COMPENSATED = """
name: compensated
steps:
  - id: reserve
    call: {handler: echo, input: {id: r1}}
    compensate: {call: {handler: echo, input: {release: "${{ steps.reserve.output.id }}"}}}
  - id: charge
    call: {handler: echo, input: {id: c1}}
    compensate: {call: {handler: echo, input: {refund: "${{ steps.charge.output.id }}"}}}
  - {id: ship, fail: {code: NO_STOCK, message: nothing left}}
"""


async def test_what_was_done_is_taken_back_in_reverse_order_when_the_run_fails(sam, publish):
    found = await ended(sam, await start(sam, await publish(COMPENSATED)))
    assert (found["status"], found["error"]["code"]) == ("failed", "NO_STOCK")
    steps = {step["path"]: step for step in found["steps"]}
    assert steps["charge~"]["output"] == {"refund": "c1"}
    assert steps["reserve~"]["output"] == {"release": "r1"}
    order = [event["data"]["step"] for event in found["events"] if event["type"] == "step.completed"]
    assert order == ["reserve", "charge", "charge~", "reserve~"]
    with pytest.raises(Refused) as refusal:
        await sam.post(f"/api/v1/workflows/{found['id']}/retry", {})
    assert refusal.value.status == 409


MENDED = """
name: mended
variables: {n: {type: integer, default: 1}}
steps:
  - {id: a, call: {handler: echo, input: {n: "${{ vars.n }}"}}}
  - {id: b, wait_for: {signal: never}}
  - {id: c, call: {handler: echo, input: {from: "${{ steps.b.output }}"}}}
output: "${{ steps.c.output }}"
"""


async def test_a_step_is_completed_by_hand_and_a_run_is_rerun_from_a_step(sam, root, publish):
    run = await start(sam, await publish(MENDED))
    found = await until(sam, run, lambda found: any(step["status"] == "waiting" for step in found["steps"]))
    no = next(step["no"] for step in found["steps"] if step["path"] == "b")
    with pytest.raises(Refused) as refusal:
        await sam.post(f"/api/v1/workflows/{run}/steps/{no}/complete", {"output": 7, "reason": "known"})
    assert refusal.value.status == 403
    await root.post(f"/api/v1/workflows/{run}/steps/{no}/complete", {"output": 7, "reason": "known"})
    found = await ended(sam, run)
    assert found["output"] == {"from": 7}
    edited = next(event for event in found["events"] if event["type"] == "step.edited")
    assert (edited["reason"], edited["data"]["after"]) == ("known", 7)
    again = (await sam.post(f"/api/v1/workflows/{run}/rerun", {"from_step": "c", "reason": "once more"}))["id"]
    found = await ended(sam, again)
    assert found["output"] == {"from": 7}
    assert [step["path"] for step in found["steps"]] == ["a", "b", "c"]
    assert found["forked_from"]["workflow_id"] == run


async def test_many_runs_are_cancelled_at_once(sam, publish):
    template = await publish(MENDED)
    runs = [await start(sam, template) for _ in range(3)]
    body = {"action": "cancel", "template_id": template, "status": "running", "reason": "clean up"}
    answer = await sam.post("/api/v1/workflows/bulk", body)
    assert {result["id"] for result in answer["results"] if result["ok"]} >= set(runs)
    for run in runs:
        assert (await ended(sam, run))["status"] == "cancelled"
