"""Handlers of these tests; executors import them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from wfe_sdk import StepContext, TerminalError, handler


def note(file: str, what: str, ctx: StepContext) -> None:
    """A line in a file: what happened, when (Unix seconds), in which process and attempt."""
    line = {"what": what, "at": time.time(), "pid": os.getpid(), "attempt": ctx.attempt, "key": ctx.idempotency_key}
    with Path(file).open("a") as out:
        out.write(json.dumps(line) + "\n")


@handler("trace")
async def trace(value: Any, ctx: StepContext) -> None:
    note(value["file"], "started", ctx)
    try:
        await asyncio.sleep(value["seconds"])
    except asyncio.CancelledError:
        note(value["file"], "cancelled", ctx)
        raise
    note(value["file"], "ended", ctx)


@handler("sync_trace")
def sync_trace(value: Any, ctx: StepContext) -> None:
    note(value["file"], "started", ctx)
    time.sleep(value["seconds"])
    note(value["file"], "ended", ctx)


@handler("kill_executor")
async def kill_executor(value: Any, ctx: StepContext) -> None:
    note(value["file"], "started", ctx)
    os.kill(os.getpid(), signal.SIGKILL)


@handler("spill")
async def spill(value: Any, ctx: StepContext) -> Any:
    """Give away what it was given, in every way there is."""
    ctx.heartbeat({"said": value["secret"], "deep": [{"text": f"<{value['secret']}>"}]})
    await asyncio.sleep(value.get("seconds", 0))
    if value.get("fail") == "on purpose":
        raise TerminalError("SPILLED", f"cannot use {value['secret']}", details={"secret": value["secret"]})
    if value.get("fail"):
        raise ValueError(f"unexpected {value['secret']}")
    return {"secret": value["secret"], "text": f"Bearer {value['secret']}", value["secret"]: [value["secret"]]}


@handler("stubborn")
async def stubborn(value: Any, ctx: StepContext) -> Any:
    """Give a result although it was told to stop, in the first visit only once a file is there."""
    note(value["file"], "started", ctx)
    while ctx.visit == 1 and not Path(value["until"]).exists():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02)
    note(value["file"], "gave", ctx)
    return {"visit": ctx.visit}
