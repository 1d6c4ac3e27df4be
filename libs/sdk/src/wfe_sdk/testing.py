"""Run a handler without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wfe_sdk.context import StepContext
from wfe_sdk.registry import Handler, Registry, registry
from wfe_sdk.values import fault_in


@dataclass(frozen=True, slots=True)
class Result:
    """How a handler ended.

    Attributes:
        output: What it returned; a value the executor would accept.
        progress: Everything it passed to `ctx.heartbeat`, in order.
    """

    output: Any
    progress: tuple[Any, ...]


def run_handler(
    target: str | Callable[..., Any],
    input: Any = None,  # noqa: A002 - the word of the templates
    *,
    timeout: float | None = 30.0,
    cancelled: bool = False,
    **context: Any,
) -> Result:
    """Run a handler once, as the executor would, and return how it ended.

    ```python
    result = run_handler("summarise", {"text": "one two"}, attempt=2)
    assert result.output == {"summary": "one two", "words": 2}
    ```

    Args:
        target: Name of a registered handler, or any function that could be one.
        input: The step's input.
        timeout: Seconds an async handler may take, and what `ctx.deadline` says; None without limit.
        cancelled: What `ctx.cancelled` says.
        context: Attributes of the StepContext that matter to the test, e.g. attempt=2.

    Raises:
        LookupError: There is no handler of that name.
        ValueError: The executor would refuse the output.
        TimeoutError: The async handler took longer than the timeout.
        RuntimeError: A loop is running here; use `run_handler_async`.
        Exception: Whatever the handler raised.
    """
    call = run_handler_async(target, input, timeout=timeout, cancelled=cancelled, **context)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(call)
    call.close()
    raise RuntimeError("a loop is running here: await run_handler_async(...) instead")


async def run_handler_async(
    target: str | Callable[..., Any],
    input: Any = None,  # noqa: A002 - the word of the templates
    *,
    timeout: float | None = 30.0,  # noqa: ASYNC109 - the step's timeout, not this call's
    cancelled: bool = False,
    **context: Any,
) -> Result:
    """The same as `run_handler`, for tests that have a loop. A sync handler blocks it."""
    handler = _find(target)
    said: list[Any] = []
    facts: dict[str, Any] = {
        "run_id": "00000000-0000-7000-8000-000000000000",
        "step": handler.name,
        "idempotency_key": "test",
        "max_attempts": max(1, context.get("attempt", 1)),
        "deadline": None if timeout is None else time.time() + timeout,
    }
    ctx = StepContext(**(facts | context), beat=said.append)
    ctx.cancelled = cancelled
    arguments = (input, ctx) if handler.wants_context else (input,)
    if handler.is_async:
        output = await asyncio.wait_for(handler.function(*arguments), timeout)
    else:
        output = handler.function(*arguments)
    fault = fault_in(output)
    if fault is not None:
        raise ValueError(fault)
    return Result(output, tuple(said))


def _find(target: str | Callable[..., Any]) -> Handler:
    if not isinstance(target, str):
        own = Registry()
        own.handler(getattr(target, "__name__", "handler"))(target)
        found = own.get(own.names()[0])
    else:
        found = registry.get(target)
    if found is None:
        raise LookupError(f"no handler {target!r}; registered: {', '.join(registry.names()) or 'none'}")
    return found
