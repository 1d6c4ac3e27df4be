"""agent: turns of a model, and the tools it calls, until it is done. Every turn and every call is a step of its own.

A round is one turn: its first step asks the model, its second runs what the model calls (a foreach over the calls).
Both are ordinary steps, so a crash in the middle pays for nothing twice.
"""

from __future__ import annotations

from typing import Any

import msgspec

from wfe_engine.advance import complete_container, open_block, start_container
from wfe_engine.plan import Node
from wfe_engine.rules import BLOCK_FAILED, ENTER, GO_ON, REQUEST, rule
from wfe_engine.scopes import child_key, place
from wfe_engine.sizes import INPUT_TOO_LARGE, MOST_BYTES, TOO_LARGE
from wfe_engine.state import Fault
from wfe_engine.turn import Turn, encode
from wfe_engine.unwind import fail_container
from wfe_engine.values import ExpressionFault

#: Over a limit of turns, tokens or cost.
AGENT_LIMIT = "AGENT_LIMIT"
#: Ids of the steps of a round.
MODEL, TOOLS = "model", "tools"


@rule(ENTER, "agent")
def _enter(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    start_container(turn, scope, node, no, params)
    return False


@rule(GO_ON, "agent")
def _go_on(turn: Turn, scope: str, index: int) -> None:
    step = turn.live(scope, index)
    if step.next > step.ended:
        return  # a turn is under way
    turns = [_said(turn, child_key(scope, index, 0, round_)) for round_ in range(step.next)]
    params = turn.params(step)
    if turns and not turns[-1].get("tool_calls"):
        complete_container(turn, scope, index, encode(_output(turns)))
        return
    over = _over(params.get("limits") or {}, turns)
    if over:
        fault = Fault(code=AGENT_LIMIT, message=f"the agent is not done after {over}", step=step.path)
        fail_container(turn, scope, index, fault)
        return
    open_block(turn, scope, index, 0, step.next)


@rule(BLOCK_FAILED, "agent")
def _failed(turn: Turn, scope: str, index: int, block: int, round_: int, fault: Fault) -> None:
    fail_container(turn, scope, index, fault)


@rule(REQUEST, "model")
def conversation(turn: Turn, scope: str, params: Any) -> Any:
    """What the model is asked in a round: the agent's params, with everything said and done so far."""
    parent, index, _, round_ = place(scope)
    asked = dict(turn.params(turn.live(parent, index)))
    messages = list(asked.get("messages") or [])
    size = 0
    for earlier in range(round_):
        key = child_key(parent, index, 0, earlier)
        said = _said(turn, key)
        messages.append(said["message"])
        answers = _answers(turn, key, said.get("tool_calls") or [])
        size += sum(len(answer["content"]) for answer in answers)
        if size > MOST_BYTES:
            raise ExpressionFault(TOO_LARGE, "", INPUT_TOO_LARGE)
        messages += answers
        if said.get("tools"):
            asked["resolved"] = said["tools"]
    return {**asked, "messages": messages}


def _said(turn: Turn, key: str) -> dict[str, Any]:
    record = turn.recorded(key, MODEL)
    value = None if record is None else record.value
    return value if isinstance(value, dict) else {}


def _answers(turn: Turn, key: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One message for every call of a turn: what came of it, or why nothing did."""
    record = turn.recorded(key, TOOLS)
    outputs = record.value if record is not None and isinstance(record.value, list) else []
    error = None if record is None or record.error is None else msgspec.json.decode(record.error)
    failures = {one["index"]: one for one in (error or {}).get("details", {}).get("errors", [])}
    answers = []
    for at, call in enumerate(calls):
        failed = failures.get(at)
        content = (
            f"{failed['code']}: {failed['message']}"
            if failed
            else _text(outputs[at] if at < len(outputs) else None, call.get("kind"))
        )
        answers.append({"role": "tool", "tool_call_id": call.get("id", ""), "content": content})
    return answers


def _text(output: Any, kind: Any) -> str:
    if kind == "mcp" and isinstance(output, dict):
        if isinstance(output.get("text"), str) and output["text"]:
            return str(output["text"])
        output = output.get("structured", output)
    return output if isinstance(output, str) else encode(output).decode()


def _spent(turns: list[dict[str, Any]]) -> tuple[dict[str, int], float]:
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    for said in turns:
        for name in usage:
            usage[name] += int((said.get("usage") or {}).get(name) or 0)
    return usage, sum(float(said.get("cost") or 0) for said in turns)


def _over(limits: dict[str, Any], turns: list[dict[str, Any]]) -> str:
    """The limit that forbids another turn, for a sentence; empty when none does."""
    usage, cost = _spent(turns)
    if len(turns) >= int(limits.get("turns") or 10):
        return f"{len(turns)} turns"
    if limits.get("tokens") is not None and usage["total_tokens"] >= limits["tokens"]:
        return f"{usage['total_tokens']} tokens"
    if limits.get("cost") is not None and cost >= limits["cost"]:
        return f"a cost of {cost:g}"
    return ""


def _output(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """What the last turn gave, with what all of them took."""
    usage, cost = _spent(turns)
    given = {name: value for name, value in turns[-1].items() if name not in ("tool_calls", "tools")}
    return {**given, "usage": usage, "cost": round(cost, 12), "turns": len(turns)}
