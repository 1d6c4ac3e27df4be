"""Agents through the whole engine: tools of both kinds, people in between, limits, and a death in the middle."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from e2e_runs import decide, moment, path_of, step_of, types, until
from wfe_stack.rest import Rest
from wfe_stack.testing_model import calls, model_server, says

KEY = "canary-77-agent"
AGENT = """
name: {name}
variables:
  endpoint: {{type: string, required: true}}
  mcp: {{type: string, default: ""}}
steps:
  - id: work
    agent:
      endpoint: "${{{{ vars.endpoint }}}}"
      model: large
      api_key: "${{{{ secrets.E2E_AGENT_KEY }}}}"
      system: You handle refunds.
      prompt: Order 7 is broken.
      tools:
{tools}
      limits: {limits}
      prices: {{input: 1000000, output: 0}}
{more}
    retry: {{max_attempts: 2, initial: 20ms}}
output:
  said: "${{{{ steps.work.output.message.content }}}}"
  turns: "${{{{ steps.work.output.turns }}}}"
  output: "${{{{ steps.work.output.?output.orValue(null) }}}}"
"""
ECHO = "        - {{call: {{handler: echo, name: {0}, description: Does it., parameters: {{type: object}}}}{1}}}\n"
MCP = '        - {mcp: {server: {url: "${{ vars.mcp }}"}, tools: [search], prefix: docs}}\n'


def source(name: str, tools: str = ECHO.format("find", ""), limits: str = "{turns: 4}", more: str = "") -> str:
    if "required" in tools:
        more += "      approval: {approvers: {groups: [editors]}}"
    return AGENT.format(name=f"{name}-{uuid.uuid4().hex[:8]}", tools=tools.rstrip("\n"), limits=limits, more=more)


@pytest.fixture
async def begin(sam: Rest, root: Rest, publish):
    """Starts a run of an agent with a model server."""
    await root.put("/api/v1/secrets/E2E_AGENT_KEY", {"value": KEY})

    async def start(text: str, model, **more: Any) -> str:
        given = {"endpoint": model.url, **more}
        return (await sam.start({"template_id": await publish(text), "input": given}))["id"]

    return start


def over(run: dict[str, Any]) -> bool:
    return run["status"] in ("completed", "failed")


def told(model, name: str = "tool") -> list[str]:
    """What the last request said in messages of a role."""
    return [message["content"] for message in model.requests[-1]["messages"] if message["role"] == name]


async def test_tools_of_both_kinds_and_an_answer_of_a_shape(sam: Rest, begin, docs_url: str):
    schema = "      schema: {type: object, properties: {ok: {type: boolean}}, required: [ok]}"
    replies = [calls(("find", {"order": 7}), ("docs_search", {"query": "refunds"})), says('{"ok": true}')]
    async with model_server(*replies, key=KEY) as model:
        run = await begin(source("tools", ECHO.format("find", "") + MCP, more=schema), model, mcp=docs_url)
        done = await until(sam, run, over)
        assert (done["status"], done["output"]["output"], done["output"]["turns"]) == ("completed", {"ok": True}, 2), (
            done.get("error")
        )
        offered = [tool["function"]["name"] for tool in model.requests[0]["tools"]]
        assert offered == ["find", "docs_search"]
        found, searched = told(model)
        assert json.loads(found) == {"order": 7}
        assert "found: refunds" in searched
    assert step_of(done, "work/model")["iteration"] == "1"
    assert KEY not in json.dumps(done)


@pytest.mark.parametrize("what", ["approve", "reject"])
async def test_a_person_allows_or_refuses_one_call_with_its_arguments(sam: Rest, ada: Rest, begin, what: str):
    tools = ECHO.format("find", "") + ECHO.format("refund", ", approval: required")
    replies = [calls(("find", {"order": 7})), calls(("refund", {"order": 7, "amount": 12.5})), says("Done.")]
    async with model_server(*replies, key=KEY) as model:
        run = await begin(source("allowed", tools), model)
        waiting = await until(sam, run, "waiting_approval")
        gate = waiting["approvals"][-1]
        assert "12.5" in json.dumps(gate), "the one who decides sees the arguments"
        assert len(model.requests) == 2, "the model waits for the person"
        await decide(ada, waiting, what, comment="as you like")
        done = await until(sam, run, over)
        assert (done["status"], done["output"]["said"]) == ("completed", "Done."), done.get("error")
        answer = told(model)[-1]
    ran = [step for step in done["steps"] if step["path"] == "work/tools/do/2/run" and step["status"] == "completed"]
    if what == "approve":
        assert json.loads(answer) == {"order": 7, "amount": 12.5}
        assert len(ran) == 1
    else:
        assert ran == []
        assert "12.5" not in answer


@pytest.mark.parametrize(
    ("limits", "asked"), [("{turns: 3}", 3), ("{turns: 9, tokens: 25}", 2), ("{turns: 9, cost: 15}", 2)]
)
async def test_limits_of_turns_tokens_and_cost_end_it(sam: Rest, begin, limits: str, asked: int):
    # Each turn is 10 tokens in, at 1 a token, and 5 out.
    async with model_server(calls(("find", {"order": 7})), key=KEY) as model:
        done = await until(sam, await begin(source("limits", limits=limits), model), over)
        assert (done["status"], done["error"]["code"]) == ("failed", "AGENT_LIMIT")
        assert len(model.requests) == asked


async def test_a_killed_executor_pays_for_no_turn_twice(crash_stack, publish):
    # Its executor is killed while a tool is at work: the turn before it is on record and not asked for again.
    tools = "        - {call: {handler: sleep, name: find, description: Does it., parameters: {type: object}}}\n"
    async with (
        Rest(crash_stack.url, crash_stack.keys["sam"], repeat_seconds=30) as sam,
        Rest(crash_stack.url, crash_stack.keys["root"], repeat_seconds=30) as root,
        model_server(calls(("find", {"seconds": 3})), says("Done."), key=KEY) as model,
    ):
        await root.put("/api/v1/secrets/E2E_AGENT_KEY", {"value": KEY})
        template = await publish(source("killed", tools), sam)
        run = (await sam.start({"template_id": template, "input": {"endpoint": model.url}}))["id"]
        await until(
            sam, run, lambda found: any(s["path"].endswith("/run") and s["status"] == "running" for s in found["steps"])
        )
        assert len(model.requests) == 1
        await crash_stack.kill("executor")
        await crash_stack.restart("executor")
        done = await until(sam, run, over, seconds=60)
        assert (done["status"], done["output"]["said"]) == ("completed", "Done."), done.get("error")
        assert len(model.requests) == 2, "two turns, each paid for once"
    assert [s["lease_losses"] for s in done["steps"] if s["path"].endswith("/run")] == [1]


CALLBACK = """
name: e2e-callback-by-http
variables: {witness: {type: string, required: true}}
steps:
  - id: order
    http: {method: POST, url: "${{ vars.witness }}/order", json: {answer_to: "${{ run.callbacks.delivered }}"}}
  - {id: delivered, wait_for: {callback: delivered, heartbeat: 2s, timeout: {after: 1m, then: fail}}}
output: "${{ steps.delivered.output.payload }}"
"""


@pytest.mark.parametrize("how", ["succeed", "fail", "silent"])
async def test_the_other_side_of_an_http_call_answers_by_the_address_it_was_given(
    sam: Rest, rest_as, publish, witness, how: str
):
    run = (await sam.start({"template_id": await publish(CALLBACK), "input": {"witness": witness.url}}))["id"]
    waiting = await until(
        sam, run, lambda found: step_of(found, "delivered")["status"] == "waiting" if len(found["steps"]) > 1 else False
    )
    address = witness["order"].calls[0].body["answer_to"]
    path = "/api/v1/callbacks/" + address.rpartition("/")[2]
    assert address.startswith("http")
    assert address.rpartition("/")[2] not in json.dumps(waiting), "a token is a credential"
    nobody = rest_as("nobody")
    # The sign of life puts the heartbeat's end off.
    for _ in range(3):
        await asyncio.sleep(0.8)
        await nobody.post(path, {"outcome": "heartbeat", "progress": {"boxes": 2}})
    alive = await sam.get(path_of(run))
    assert step_of(alive, "delivered")["status"] == "waiting"
    assert types(alive).count("callback.alive") >= 1
    if how == "succeed":
        await nobody.post(path, {"payload": {"boxes": 3}})
    elif how == "fail":
        await nobody.post(path, {"outcome": "fail", "code": "LOST_AT_SEA", "message": "gone"})
    done = await until(sam, run, over)
    code = {"succeed": None, "fail": "LOST_AT_SEA", "silent": "HEARTBEAT_TIMEOUT"}[how]
    assert (done.get("error") or {}).get("code") == code
    if how == "succeed":
        assert done["output"] == {"boxes": 3}
    if how == "silent":
        assert moment(done["ended_at"]) - moment(done["started_at"]) >= 2
