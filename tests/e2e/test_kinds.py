"""A run with a step of each kind there is, through the real engine; a new kind fails here until it is in it."""

from __future__ import annotations

from e2e_runs import decide, path_of, until
from wfe_engine import plan
from wfe_stack.testing_model import model_server, says

CHILD = 'name: e2e-kinds-child\nsteps: [{id: made, set: {from: child}}]\noutput: "${{ steps.made.output }}"'
SOURCE = """
name: e2e-kinds
variables: {witness: {type: string}, model: {type: string}, docs: {type: string}}
steps:
  - {id: called, call: {handler: echo, input: {n: 1}}, compensate: {call: {handler: echo, input: {undo: true}}}}
  - {id: fetched, http: {url: "${{ vars.witness }}/fetched"}}
  - {id: searched, mcp: {server: {url: "${{ vars.docs }}"}, tool: search, arguments: {query: kinds}}}
  - {id: asked, agent: {endpoint: "${{ vars.model }}", model: small, prompt: Say hello.}}
  - id: both
    parallel:
      branches:
        left: [{id: l, set: {side: left}}]
        right: [{id: r, emit: {name: seen, data: {n: 1}}}]
  - {id: each, foreach: {items: [1, 2], steps: [{id: one, call: {handler: echo, input: "${{ item }}"}}]}}
  - id: route
    switch:
      value: "${{ steps.called.output.n }}"
      cases: [{is: 2, steps: [{id: no, set: {x: 1}}]}]
      else: [{id: yes, set: {x: 2}}]
  - {id: count, loop: {until: "${{ index == 1 }}", max: 3, steps: [{id: turn, set: {n: "${{ index }}"}}]}}
  - id: safe
    try:
      steps: [{id: bad, fail: {code: NOPE, message: as meant}}]
      catch: [{codes: [NOPE], steps: [{id: caught, set: {code: "${{ error.code }}"}}]}]
  - {id: child, workflow: {template: e2e-kinds-child}}
  - {id: kept, checkpoint: half-way}
  - {id: nap, wait: {for: 50ms}}
  - {id: told, wait_for: {signal: go}}
  - {id: review, approval: {title: "Go on?", approvers: {groups: [editors]}}}
output:
  child: "${{ steps.child.output }}"
  caught: "${{ steps.safe.output.code }}"
  each: "${{ steps.each.output }}"
  route: "${{ steps.route.output.x }}"
  said: "${{ steps.asked.output.message.content }}"
"""


async def test_a_run_of_every_kind(sam, ada, publish, witness, docs_url):
    await publish(CHILD)
    async with model_server(says("Hello.")) as model:
        given = {"witness": witness.url, "model": model.url, "docs": docs_url}
        run = (await sam.start({"template_id": await publish(SOURCE), "input": given}))["id"]
        await until(
            sam, run, lambda found: any(s["path"] == "told" and s["status"] == "waiting" for s in found["steps"])
        )
        await sam.post(path_of(run, "signals", "go"))
        await decide(ada, await until(sam, run, "waiting_approval"), "approve")
        done = await until(sam, run, lambda found: found["status"] in ("completed", "failed"))
    assert done["status"] == "completed", done.get("error")
    assert done["output"] == {
        "child": {"from": "child"},
        "caught": "NOPE",
        "each": [1, 2],
        "route": 2,
        "said": "Hello.",
    }
    assert {step["kind"] for step in done["steps"]} == plan.KINDS
    children = (await sam.get("/api/v1/workflows", template_id=await publish(CHILD)))["workflows"]
    assert any(each["trigger_type"] == "workflow" and each["parent"]["workflow_id"] == run for each in children)
