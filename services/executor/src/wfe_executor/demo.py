"""Handlers for samples and tests; WFE_HANDLERS=wfe_executor.demo offers them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

from wfe_sdk import RetryableError, StepContext, TerminalError, handler

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_SUMMARY_WORDS = 40


@handler("echo")
async def echo(value: Any) -> Any:
    """Give back the input."""
    return value


@handler("summarise")
async def summarise(value: Any) -> dict[str, Any]:
    """The first sentences of a text.

    Input {"text"}: text, or any other JSON value, which is read as its JSON. Output {"summary", "words"}: as
    many whole sentences as fit 40 words, and the number of words of the text.
    """
    text = value.get("text") if isinstance(value, dict) else None
    if text is None:
        raise TerminalError("INPUT_INVALID", 'summarise needs {"text": "…"}')
    if not isinstance(text, str):
        text = json.dumps(text, ensure_ascii=False)
    summary: list[str] = []
    for sentence in _SENTENCE.split(text.strip()):
        words = sentence.split()
        if summary and len(summary) + len(words) > _SUMMARY_WORDS:
            break
        summary += words[:_SUMMARY_WORDS]
    return {"summary": " ".join(summary), "words": len(text.split())}


@handler("sleep")
async def sleep(value: Any) -> dict[str, Any]:
    """Wait. Input and output {"seconds"}."""
    await asyncio.sleep(_seconds(value))
    return {"seconds": _seconds(value)}


@handler("sync_sleep")
def sync_sleep(value: Any) -> dict[str, Any]:
    """Wait, in a process of its own. Input and output {"seconds"}."""
    time.sleep(_seconds(value))
    return {"seconds": _seconds(value)}


@handler("flaky")
async def flaky(value: Any, ctx: StepContext) -> dict[str, Any]:
    """Fail the first attempts. Input {"failures": how many}. Output {"attempt"}: the one that went well."""
    failures = value.get("failures", 1) if isinstance(value, dict) else 1
    if ctx.attempt <= failures:
        raise RetryableError("FLAKY", f"attempt {ctx.attempt} fails, as it was asked to")
    return {"attempt": ctx.attempt}


@handler("work")
async def work(value: Any, ctx: StepContext) -> dict[str, Any]:
    """Pretend to work, with heartbeats.

    Input {"seconds": in all, 0.1 by default, "pieces": how many, 4, "bytes": length of the result, 0}.
    Progress {"done", "of"} after every piece. Output {"pieces", "text"}.
    """
    task = value if isinstance(value, dict) else {}
    pieces = max(1, int(task.get("pieces", 4)))
    for done in range(1, pieces + 1):
        await asyncio.sleep(float(task.get("seconds", 0.1)) / pieces)
        ctx.heartbeat({"done": done, "of": pieces})
    return {"pieces": pieces, "text": "x" * int(task.get("bytes", 0))}


def _seconds(value: Any) -> float:
    seconds = value.get("seconds") if isinstance(value, dict) else None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds < 0:
        raise TerminalError("INPUT_INVALID", 'write {"seconds": 1.5}')
    return float(seconds)
