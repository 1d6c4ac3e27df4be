"""What an agent is made of: a step that asks its model, and steps for whatever the model calls."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from wfe_engine import plan

from wfe_language.compiler.agent import read_agent
from wfe_language.compiler.values import map_of

#: Calls of one turn that are made at once.
CALLS_AT_ONCE = 16

_NO_RETRY = plan.Retry(max_attempts=1)


def agent_block(
    params: plan.Expression, path: str, retry: plan.Retry, clocks: plan.Clocks, queue: str, *, sealed: bool
) -> plan.Block:
    """The steps of one turn.

    Args:
        params: Of the agent, as `read_agent` gives them.
        path: Of the agent.
        retry, clocks, queue: Of the agent; they hold for every turn of the model and every call.
        sealed: Whether its params refer to secrets.
    """
    work: dict[str, Any] = {"retry": retry, "clocks": clocks, "queue": queue}
    model = plan.Node(
        id="model", index=0, path=f"{path}/model", kind="model", params=plan.Literal({}), dependents=(1,),
        sealed=sealed, **work,
    )  # fmt: skip
    tools = plan.Node(
        id="tools", index=1, path=f"{path}/tools", kind="foreach", needs=(0,),
        params=plan.MapOf(
            (
                ("items", plan.Path("steps", ("model", "output", "tool_calls"), "steps.model.output.tool_calls")),
                ("concurrency", plan.Literal(CALLS_AT_ONCE)),
                ("on_failure", plan.Literal("collect")),
            )
        ),
        blocks=(_each_call(_entries(params), _entry(params, "approval"), f"{path}/tools/", work, sealed=sealed),),
    )  # fmt: skip
    return plan.Block((model, tools), (0,), result=1)


def _each_call(
    tools: list[dict[str, plan.Expression]],
    approval: plan.Expression | None,
    prefix: str,
    work: dict[str, Any],
    *,
    sealed: bool,
) -> plan.Block:
    cases = [_unknown(f"{prefix}do/unknown/")]
    for at, tool in enumerate(tools):
        if not tool.keys() & {"call", "mcp"}:
            continue  # what stands there is no tool; that is a fault already
        inner = f"{prefix}do/{at + 1}/"
        node = _call(inner, work) if "call" in tool else _mcp(tool["mcp"], inner, work, sealed=sealed)
        gated = tool.get("approval") == plan.Literal("required")
        nodes = (node,) if not gated or approval is None else _gated(node, approval, inner)
        condition = plan.Cel(f"item.tool == {at}", (("item", ""),))
        cases.append(plan.Block(nodes, (0,), name=str(at + 1), result=len(nodes) - 1, role="case", condition=condition))
    do = plan.Node(
        id="do", index=0, path=f"{prefix}do", kind="switch", params=plan.Literal({}), blocks=tuple(cases)
    )  # fmt: skip
    return plan.Block((do,), (0,), result=0)


def _unknown(prefix: str) -> plan.Block:
    """What the model calls and does not exist: it is told, and can mend it."""
    message = plan.Path("item", ("error",), "item.error")
    fail = plan.Node(
        id="tell", index=0, path=f"{prefix}tell", kind="fail",
        params=plan.MapOf((("code", plan.Literal("TOOL_UNKNOWN")), ("message", message))),
    )  # fmt: skip
    condition = plan.Cel("has(item.error)", (("item", ""),))
    return plan.Block((fail,), (0,), name="unknown", result=0, role="case", condition=condition)


def _call(prefix: str, work: dict[str, Any]) -> plan.Node:
    params = plan.MapOf(
        (
            ("handler", plan.Path("item", ("target",), "item.target")),
            ("input", plan.Path("item", ("arguments",), "item.arguments")),
        )
    )
    return plan.Node(id="run", index=0, path=f"{prefix}run", kind="call", params=params, **work)


def _mcp(entry: plan.Expression, prefix: str, work: dict[str, Any], *, sealed: bool) -> plan.Node:
    params = plan.MapOf(
        (
            ("server", _entry(entry, "server") or plan.Literal(None)),
            ("tool", plan.Path("item", ("target",), "item.target")),
            ("arguments", plan.Path("item", ("arguments",), "item.arguments")),
        )
    )
    return plan.Node(id="run", index=0, path=f"{prefix}run", kind="mcp", params=params, sealed=sealed, **work)


def _gated(node: plan.Node, approval: plan.Expression, prefix: str) -> tuple[plan.Node, ...]:
    """A call that a person must allow; what he is shown is what it will do, bound by its digest."""
    name = plan.Path("item", ("name",), "item.name")
    asked = {**_fields(approval), "title": plan.Text(("Allow the call of ", name, "?")), "payload": plan.Literal(None)}
    gate = plan.Node(
        id="allow", index=0, path=f"{prefix}allow", kind="approval", params=map_of(asked), dependents=(1,)
    )  # fmt: skip
    return gate, replace(node, index=1, needs=(0,), approved_by=0)


def _entries(params: plan.Expression) -> list[dict[str, plan.Expression]]:
    """The tools an agent names, each with its parts."""
    tools = _entry(params, "tools")
    if isinstance(tools, plan.ListOf):
        return [_fields(item) for item in tools.items]
    if isinstance(tools, plan.Literal) and isinstance(tools.value, list):
        return [_fields(plan.Literal(item)) for item in tools.value]
    return []


def _entry(expression: plan.Expression, name: str) -> plan.Expression | None:
    return _fields(expression).get(name)


def _fields(expression: plan.Expression) -> dict[str, plan.Expression]:
    if isinstance(expression, plan.MapOf):
        return dict(expression.items)
    if isinstance(expression, plan.Literal) and isinstance(expression.value, dict):
        return {name: plan.Literal(value) for name, value in expression.value.items()}
    return {}


__all__ = ["agent_block", "read_agent"]
