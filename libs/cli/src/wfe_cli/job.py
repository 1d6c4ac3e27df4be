"""The main job before one's eyes: a run of publish-article, from its start over the gate to its end."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from wfe_stack.rest import Refused, Rest

from wfe_cli import show
from wfe_cli.faults import Failed
from wfe_cli.templates import find_template
from wfe_cli.watching import Run, watch

TEMPLATE = "publish-article"
ARTICLE = (
    "Durable workflows survive what their machines do not. Each step of a run is recorded before the next "
    "begins, so a crash costs a moment and never the work. Where a person has to decide, the run waits, for a "
    "minute or for a month, and holds nothing while it does. When the answer comes, any scheduler takes the "
    "run up where it stopped. What happened, who did it and why can be read afterwards, event by event."
)
#: Every status the main job goes through.
STATES = ("pending", "running", "waiting_approval", "completed")
#: Seconds the approver leaves to others, without a terminal.
PATIENCE = 5.0
APPROVE, REJECT = "approve", "reject"
#: Given the run and its open gate, says what to do: approve, reject, or None when somebody else decided.
Decide = Callable[[Run, dict[str, Any]], Awaitable[str | None]]


async def main_job(starter: Rest, approver: Rest, decide: Decide) -> tuple[Run, list[str]]:
    """Do the job, show it, and return the run and the statuses it was seen in.

    Raises:
        Failed: The run ended other than the decision asks for.
    """
    out = show.console()
    states: list[str] = []

    def seen(run: Run) -> None:
        for status in _statuses(run):
            if status not in states:
                states.append(status)

    template = await find_template(starter, TEMPLATE)
    run: Run = await starter.start({"template_id": template["id"], "input": {"text": ARTICLE}})
    seen(run)
    out.print(f"\nStarted a run of {TEMPLATE}: {run['id']} ({run['status']})\n")
    run = await watch(starter, run["id"], stop=_gate, seen=seen)
    decision: str | None = APPROVE
    if gate := _gate(run):
        out.print()
        decision = await decide(run, gate)
        if decision is not None:
            await _decide(approver, gate, decision)
        run = await watch(starter, run["id"], after=run["events_total"], seen=seen)
    if run["status"] != "completed" and decision == APPROVE:
        raise Failed(f"the run {run['status']}: {json.dumps(run.get('error') or run.get('reason'))}")
    return run, states


def ask(url: str, approver: Rest, key: str) -> Decide:
    """Ask in the terminal; without one, say how to decide and approve after a few seconds."""

    async def decide(run: Run, gate: dict[str, Any]) -> str | None:
        out = show.console()
        if sys.stdin.isatty() and sys.stdout.isatty():
            return await _until_closed(approver, gate, _ask(gate))
        out.print("Waiting for an approval. There is no terminal to ask in; decide with:\n")
        print(curl(url, key, f"/api/v1/workflows/{run['id']}/approvals/{gate['id']}/approve", {"comment": "fine"}))
        out.print(f"\nOr wait: ada approves in {PATIENCE:g} seconds.\n")
        return await _until_closed(approver, gate, asyncio.sleep(PATIENCE, APPROVE))

    return decide


async def approve_at_once(_run: Run, _gate: dict[str, Any]) -> str | None:
    """Approve without a question."""
    return APPROVE


def curl(url: str, key: str, path: str, body: dict[str, Any] | None = None) -> str:
    """A command line that makes a call."""
    words = ["curl", "-sS", "-H", f"Authorization: Bearer {key}"]
    if body is not None:
        words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    return shlex.join([*words, url + path])


def _gate(run: Run) -> Any:
    """The open gate of a run that waits for nothing else; None otherwise."""
    if run["status"] != "waiting_approval":
        return None
    return next((gate for gate in run["approvals"] if gate["status"] == "open"), None)


def _statuses(run: Run) -> list[str]:
    """The run's status, and before it those its events tell of: fast steps are over before one can look."""
    told = {"run.created": "pending", "run.started": "running", "approval.requested": "waiting_approval"}
    return [
        *(told[event["type"]] for event in run.get("events") or () if event["type"] in told),
        run["status"],
    ]


async def _decide(approver: Rest, gate: dict[str, Any], decision: str) -> None:
    path = f"/api/v1/workflows/{gate['workflow_id']}/approvals/{gate['id']}/{decision}"
    try:
        await approver.call("POST", path, body={}, repeat=True)
    except Refused as fault:
        if fault.status != 409:  # somebody was faster
            raise


async def _until_closed(approver: Rest, gate: dict[str, Any], answering: Awaitable[str | None]) -> str | None:
    """The answer, or None as soon as somebody else has decided."""
    answer = asyncio.ensure_future(answering)
    try:
        while not answer.done():
            await asyncio.wait([answer], timeout=0.5)
            if not answer.done():
                found = await approver.get(f"/api/v1/approvals/{gate['id']}")
                if found["status"] != "open":
                    show.console().print(f"\n{found['status']} by {found.get('decided_by') or 'nobody'}")
                    return None
        return answer.result()
    finally:
        answer.cancel()
        with suppress(asyncio.CancelledError):
            await answer


async def _ask(gate: dict[str, Any]) -> str:
    """Ask in the terminal until there is an answer; the end of the input approves."""
    while True:
        sys.stdout.write(f"{gate['title']} As ada, approve or reject? [a/r] ")
        sys.stdout.flush()
        line = await _read_line()
        if line is None:
            sys.stdout.write("\nNo answer: ada approves.\n")
            return APPROVE
        word = line.strip().lower()
        for choice in (APPROVE, REJECT):
            if word and choice.startswith(word):
                return choice


async def _read_line() -> str | None:
    """A line of the terminal, without a thread that could not be stopped; None at the end of the input."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    handle = sys.stdin.fileno()
    loop.add_reader(handle, readable.set)
    try:
        await readable.wait()
        # A terminal hands out whole lines.
        return os.read(handle, 4096).decode(errors="replace") or None
    finally:
        loop.remove_reader(handle)
