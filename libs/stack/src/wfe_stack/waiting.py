"""Waiting for something to become true, in place of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def wait_for(
    condition: Callable[[], T | Awaitable[T]], *, seconds: float = 30.0, what: str = "the condition"
) -> T:
    """Ask again and again until the answer is true, and return it.

    Args:
        condition: A function or an async one.
        seconds: How long to ask.
        what: What is waited for, for the message.

    Raises:
        AssertionError: It never was; the message has the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        found: T = await answer if inspect.isawaitable(answer) else answer
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not become true within {seconds:g} s; the last answer was {found!r}")
        await asyncio.sleep(0.02)
