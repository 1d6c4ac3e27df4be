"""What tests do with runs again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from wfe_stack.rest import Refused, Rest
from wfe_stack.waiting import wait_for


def path_of(run: str, *more: str) -> str:
    return "/".join(["/api/v1/workflows", run, *more])


async def until(
    caller: Rest, run: str, condition: Callable[[dict[str, Any]], Any] | str, *, seconds: float = 30.0
) -> dict[str, Any]:
    """The run once it is so; a text is its status."""

    async def look() -> dict[str, Any] | None:
        found = await caller.get(path_of(run))
        met = found["status"] == condition if isinstance(condition, str) else condition(found)
        return found if met else None

    found = await wait_for(look, seconds=seconds, what=f"run {run}: {condition}")
    assert found is not None
    return found


async def refused(call: Awaitable[Any]) -> Refused:
    """How a call is refused."""
    with pytest.raises(Refused) as refusal:
        await call
    return refusal.value


def step_of(run: dict[str, Any], path: str) -> dict[str, Any]:
    """The newest step of a path."""
    return [step for step in run["steps"] if step["path"] == path][-1]


def statuses(run: dict[str, Any]) -> dict[str, str]:
    """Status of the newest step by path."""
    return {step["path"]: step["status"] for step in run["steps"]}


def types(run: dict[str, Any]) -> list[str]:
    return [event["type"] for event in run["events"]]


def event_of(run: dict[str, Any], kind: str) -> dict[str, Any]:
    """The newest event of a type."""
    return [event for event in run["events"] if event["type"] == kind][-1]


def moment(text: str) -> float:
    """Unix seconds of a time in an answer."""
    return datetime.fromisoformat(text).timestamp()


async def decide(caller: Rest, run: dict[str, Any], what: str, **body: Any) -> dict[str, Any]:
    """Decide the newest gate of a run."""
    answer: dict[str, Any] = await caller.post(path_of(run["id"], "approvals", run["approvals"][-1]["id"], what), body)
    return answer
