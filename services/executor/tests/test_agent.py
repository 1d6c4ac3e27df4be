"""`agent` steps: turns of a model behind an endpoint that speaks OpenAI's wire format, over real HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_server
import msgspec
import pytest
from aiohttp import web
from executor_fakes import FakeScheduler, lease
from wfe_bus.messages import SEALED
from wfe_stack.testing_model import ModelServer, calls, fails, model_server, says

CANARY = "sk-canary-90210"
ASK = [{"role": "user", "content": "What is it?"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
LOOKUP = {
    "call": {
        "handler": "look.up", "name": "look_up", "description": "Looks something up",
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
    }
}  # fmt: skip
LOCAL = {"command": sys.executable, "args": [str(Path(mcp_server.__file__))]}


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with model_server(says("fine"), key=CANARY) as made:
        yield made


@pytest.fixture
async def turn(scheduler: FakeScheduler, start: Any, model: ModelServer) -> Any:
    executor = await start(mcp_commands=f"{sys.executable} {mcp_server.__file__}")

    async def once(lease_fields: dict[str, Any] | None = None, **request: Any) -> Any:
        key = {SEALED: [{"secret": "KEY"}]}
        request = {"endpoint": model.url, "model": "m", "messages": ASK, "api_key": key} | request
        step = lease(kind="model", request=msgspec.json.encode(request), sealed=True, **(lease_fields or {}))
        scheduler.secrets[step.run] = {"KEY": CANARY}
        await scheduler.hand(executor.id, step)
        outcome = await scheduler.outcome(step, 60)
        assert CANARY not in repr(outcome)
        return outcome.failure or json.loads(outcome.output)

    once.executor = executor
    return once


async def test_a_turn_gives_the_message_and_what_it_cost(turn: Any, model: ModelServer) -> None:
    model.replies = [says("It is 7.", tokens=(1000, 200))]
    output = await turn(
        temperature=0.2, max_tokens=50, extra={"seed": 7, "model": "other"}, headers={"X-Team": "red"},
        prices={"input": 2.5, "output": 10},
    )  # fmt: skip
    assert output == {
        "message": {"role": "assistant", "content": "It is 7."}, "tool_calls": [], "finish_reason": "stop",
        "usage": {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200}, "cost": 0.0045,
        "model": "test-model-2026",
    }  # fmt: skip
    assert model.requests == [{"model": "m", "messages": ASK, "temperature": 0.2, "max_tokens": 50, "seed": 7}]
    assert model.headers[0]["authorization"] == f"Bearer {CANARY}"
    assert model.headers[0]["idempotency-key"] == "key-1"
    assert model.headers[0]["x-team"] == "red"


async def test_the_trace_goes_to_the_model(turn: Any, model: ModelServer) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await turn({"traceparent": trace})
    await turn()
    assert [headers.get("traceparent") for headers in model.headers] == [trace, None]


async def test_the_endpoint_may_be_the_whole_address(turn: Any, model: ModelServer) -> None:
    for endpoint in (f"{model.url}/", f"{model.url}/chat/completions?api-version=1"):
        assert (await turn(endpoint=endpoint))["finish_reason"] == "stop"


async def test_calls_come_ready_for_steps_and_their_answers_go_back(turn: Any, model: ModelServer) -> None:
    model.replies = [calls(("look_up", {"q": "x"}), ("look_up", "{"), ("nothing", {}), ("look_up", "[1]")), says("7")]
    first = await turn(tools=[LOOKUP | {"approval": "required"}])
    function = model.requests[0]["tools"][0]
    assert function["type"] == "function"
    assert function["function"] == {name: LOOKUP["call"][name] for name in ("name", "description", "parameters")}
    good, broken, unknown, listed = first["tool_calls"]
    assert good == {
        "id": "call_1", "name": "look_up", "kind": "call", "tool": 0, "target": "look.up", "arguments": {"q": "x"},
        "approval": True,
    }  # fmt: skip
    assert "not JSON" in broken["error"]
    assert unknown["error"] == "there is no tool nothing"
    assert "not an object" in listed["error"]
    answers = [{"role": "tool", "tool_call_id": call["id"], "content": "7"} for call in first["tool_calls"]]
    second = await turn(tools=[LOOKUP], resolved=first["tools"], messages=[*ASK, first["message"], *answers])
    assert second["message"]["content"] == "7"
    assert "tools" not in second
    assert model.requests[1]["tools"] == model.requests[0]["tools"]


async def test_tools_of_a_server_are_listed_in_the_first_turn(turn: Any, model: ModelServer) -> None:
    model.replies = [calls(("math_add", {"a": 1, "b": 2})), says("3")]
    tools = [LOOKUP, {"mcp": {"server": LOCAL, "tools": ["add"], "prefix": "math"}}]
    first = await turn(tools=tools)
    assert [one["name"] for one in first["tools"]] == ["look_up", "math_add"]
    assert set(first["tools"][1]["parameters"]["properties"]) == {"a", "b"}
    (call,) = first["tool_calls"]
    assert (call["kind"], call["tool"], call["target"], call["approval"]) == ("mcp", 1, "add", False)
    broken = {"command": "not allowed"}
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "3"}
    second = await turn(
        tools=[LOOKUP, {"mcp": {"server": broken}}], resolved=first["tools"], messages=[*ASK, first["message"], answer]
    )
    assert second["message"]["content"] == "3", "a resolved list is not asked for again"


@pytest.mark.parametrize(
    ("tools", "code"),
    [
        ([{"mcp": {"server": LOCAL, "tools": ["nope"]}}], "AGENT_TOOL_MISSING"),
        ([{"mcp": {"server": LOCAL}}, {"mcp": {"server": LOCAL}}], "AGENT_TOOLS_INVALID"),
        ([{"mcp": {"server": {"command": "sh"}}}], "MCP_COMMAND_DENIED"),
    ],
)
async def test_tools_that_cannot_be_offered(turn: Any, model: ModelServer, tools: Any, code: str) -> None:
    failure = await turn(tools=tools)
    assert (failure.code, failure.retryable) == (code, False)
    assert model.requests == []


@pytest.mark.parametrize("text", ['{"n": 7}', '```json\n{"n": 7}\n```'])
async def test_a_structured_answer_is_a_value(turn: Any, model: ModelServer, text: str) -> None:
    model.replies = [says(text)]
    assert (await turn(schema=SCHEMA))["output"] == {"n": 7}
    form = model.requests[0]["response_format"]
    assert (form["type"], form["json_schema"]["schema"]) == ("json_schema", SCHEMA)


@pytest.mark.parametrize("text", ["seven", '{"n": "7"}', '{"n": 7, "m": 1}', None])
async def test_an_answer_of_another_shape_can_be_tried_again(turn: Any, model: ModelServer, text: str | None) -> None:
    model.replies = [says(text)]
    failure = await turn(schema=SCHEMA)
    assert (failure.code, failure.retryable) == ("SCHEMA_MISMATCH", True)
    assert failure.details["violations"]
    assert failure.details["content"] == (text or "")


async def test_a_schema_is_held_against_answers_not_against_calls(turn: Any, model: ModelServer) -> None:
    model.replies = [calls(("look_up", {}))]
    output = await turn(schema=SCHEMA, tools=[LOOKUP])
    assert "output" not in output
    model.replies = [says('{"n": 1', finish="length")]
    assert (await turn(schema=SCHEMA)).code == "ANSWER_TRUNCATED"
    model.replies = [says("{}")]
    failure = await turn(schema={"$ref": "http://127.0.0.1/x.json"})
    assert (failure.code, failure.retryable) == ("REQUEST_INVALID", False)


@pytest.mark.parametrize(
    ("reply", "code", "retryable", "wait"),
    [
        (fails(429, "slow down", "rate_limit_exceeded", retry_after="12"), "MODEL_RATE_LIMITED", True, 12),
        (fails(429, "slow down", retry_after_ms="1500", retry_after="2"), "MODEL_RATE_LIMITED", True, 1.5),
        (fails(429, "no money", "insufficient_quota", retry_after="12"), "MODEL_QUOTA_EXCEEDED", False, None),
        (fails(400, "too long", "context_length_exceeded"), "CONTEXT_LENGTH_EXCEEDED", False, None),
        (fails(400, "This model's maximum context length is 8 tokens"), "CONTEXT_LENGTH_EXCEEDED", False, None),
        (fails(400, "filtered", "content_filter"), "CONTENT_FILTERED", False, None),
        (fails(400, "what?"), "MODEL_REQUEST_INVALID", False, None),
        (fails(401, "key"), "MODEL_UNAUTHORIZED", False, None),
        (fails(403, "key"), "MODEL_UNAUTHORIZED", False, None),
        (fails(404, "no such model", "model_not_found"), "MODEL_NOT_FOUND", False, None),
        (fails(500, "oops"), "MODEL_UNAVAILABLE", True, None),
        (fails(529, "overloaded", retry_after="3"), "MODEL_UNAVAILABLE", True, 3),
        (says("", finish="content_filter"), "CONTENT_FILTERED", False, None),
        (says(None, refusal="I will not"), "MODEL_REFUSED", False, None),
        ({"choices": []}, "MODEL_ANSWER_INVALID", True, None),
        ({"choices": [{"message": 7}]}, "MODEL_ANSWER_INVALID", True, None),
        (lambda _: web.Response(text="<html>"), "MODEL_ANSWER_INVALID", True, None),
        (lambda _: web.Response(status=502, text="<html>"), "MODEL_UNAVAILABLE", True, None),
    ],
)
async def test_refusals_have_codes(
    turn: Any, model: ModelServer, reply: Any, code: str, retryable: bool, wait: float | None
) -> None:
    model.replies = [reply]
    failure = await turn()
    assert (failure.code, failure.retryable, failure.retry_after) == (code, retryable, wait)


async def test_a_wrong_key_and_an_endpoint_that_is_away(turn: Any, model: ModelServer) -> None:
    assert (await turn(api_key="sk-wrong")).code == "MODEL_UNAUTHORIZED"
    failure = await turn(endpoint="http://127.0.0.1:1/v1")
    assert (failure.code, failure.retryable) == ("MODEL_UNAVAILABLE", True)
    assert (await turn(endpoint="http://169.254.169.254/v1")).code == "EGRESS_DENIED"
    assert (await turn(endpoint="http://[::2]@")).code == "EGRESS_DENIED"
    assert (await turn(messages=[])).code == "REQUEST_INVALID"
    assert (await turn(api_key="a\nb")).code == "REQUEST_INVALID"


async def test_a_long_turn_keeps_its_lease_and_can_be_stopped(
    turn: Any, model: ModelServer, scheduler: FakeScheduler
) -> None:
    model.gate.clear()
    request = {"endpoint": model.url, "model": "m", "messages": ASK, "api_key": CANARY}
    step = lease(kind="model", request=msgspec.json.encode(request))
    await scheduler.hand(turn.executor.id, step)
    await scheduler.until(lambda: model.requests)
    beats = len(scheduler.beats)
    await scheduler.until(lambda: len(scheduler.beats) > beats + 3)
    assert any(ref.run == step.run for ref in scheduler.beats[-1].held)
    await scheduler.stop_work(turn.executor.id, step)
    await scheduler.until(lambda: not list(turn.executor.slots))
    assert step.run not in scheduler.outcomes
    failure = await turn({"attempt_timeout": 0.5})
    assert failure.code == "ATTEMPT_TIMEOUT"
