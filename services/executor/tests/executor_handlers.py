"""Handlers of the executor's tests; also imported by worker processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import wfe_executor.demo  # noqa: F401 - its handlers are tested too
from wfe_sdk import RetryableError, StepContext, TerminalError, handler

#: What async handlers of this process did, by the value they were given.
seen: dict[str, list[Any]] = {}


def note(name: str, what: Any) -> None:
    seen.setdefault(name, []).append(what)


@handler("context")
async def context(value: Any, ctx: StepContext) -> Any:
    names = (
        "run_id",
        "step",
        "iteration",
        "visit",
        "attempt",
        "max_attempts",
        "idempotency_key",
        "owner",
        "deadline",
    )
    return {name: getattr(ctx, name) for name in names}


@handler("sync_context")
def sync_context(value: Any, ctx: StepContext) -> Any:
    return {"pid": os.getpid(), "key": ctx.idempotency_key, "attempt": ctx.attempt, "deadline": ctx.deadline,
            "nats": [name for name in os.environ if name.startswith("WFE_NATS")], "value": value}  # fmt: skip


@handler("wait")
async def wait(value: Any) -> None:
    note(value, "started")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(value, "cancelled")
        raise


@handler("stubborn")
async def stubborn(value: Any) -> str:
    for _ in range(100):
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            note("stubborn", "swallowed")
        if value in seen:
            break
    return "late"


@handler("beats")
async def beats(value: Any, ctx: StepContext) -> str:
    for number in range(value["beats"]):
        ctx.heartbeat({"done": number, "token": value.get("token")})
        await asyncio.sleep(value["every"])
    return "done"


@handler("raise")
async def raise_it(value: Any) -> None:
    match value:
        case "terminal":
            raise TerminalError("CARD_DECLINED", "no money", details={"left": 3})
        case "retry":
            raise RetryableError("BUSY", "later", retry_after=7.5)
        case "exit":
            sys.exit(3)
        case "cancel":
            raise asyncio.CancelledError
        case "ugly":
            raise RuntimeError("nul \0 and \ud800 " + "x" * 10_000)
        case "details":
            raise TerminalError("X", details={"a": float("nan")})
        case "group":
            raise ExceptionGroup("two", [ValueError("a"), ValueError("b")])
        case _:
            raise ValueError(f"bad {value}")


@handler("give")
async def give(value: str) -> Any:
    ring: list[Any] = []
    ring.append(ring)
    return {
        "nan": float("nan"), "inf": [float("inf")], "nul": "a\0", "surrogate": "\ud800", "ring": ring,
        "sealed": {"$sealed": []}, "big": {"n": 2**53}, "huge": "x" * 17_000_000, "set": {1}, "bytes": b"x",
        "key": {1: 2}, "ok": {"a": [1, 2.5, None, True, "ü"]}, "limit": "x" * (256 * 1024 - 2),
        "longint": 10**400,
    }[value]  # fmt: skip


@handler("leak")
async def leak(value: Any, ctx: StepContext) -> Any:
    ctx.heartbeat({"auth": value["auth"]})
    await asyncio.sleep(value.get("seconds", 0))
    if value.get("raise"):
        raise TerminalError("LEAK", f"cannot use {value['auth']}", details={"got": value["auth"]})
    return {"said": value["auth"], value["auth"]: [value["number"], "ok"], "typed": value["object"]}


@handler("sync_leak")
def sync_leak(value: Any, ctx: StepContext) -> Any:
    ctx.heartbeat({"auth": value["auth"]})
    if value.get("raise"):
        raise ValueError(f"cannot use {value['auth']}")
    return {"said": value["auth"]}


@handler("sync")
def sync(value: Any, ctx: StepContext) -> Any:
    match value.get("do"):
        case "sleep":
            Path(value["file"]).write_text(str(os.getpid()))
            time.sleep(value["seconds"])
        case "spawn":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            Path(value["file"]).write_text(str(child.pid))
            time.sleep(60)
        case "polite":
            Path(value["file"]).write_text(str(os.getpid()))
            while not ctx.cancelled:
                time.sleep(0.01)
        case "beats":
            for number in range(20):
                ctx.heartbeat({"done": number})
                time.sleep(0.02)
        case "exit":
            os._exit(5)
        case "segfault":
            ctypes.string_at(0)
        case "sigkill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise ValueError("from the worker")
        case "sysexit":
            sys.exit(4)
        case "nan":
            return float("nan")
        case "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
    return {"pid": os.getpid()}
