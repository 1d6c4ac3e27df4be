"""`wfe runs`: telling a run something, and mending runs by hand."""

from __future__ import annotations

import json as jsons
import uuid
from typing import Annotated, Any
from urllib.parse import quote

import typer
from wfe_stack.rest import Rest

from wfe_cli import inputs, show
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import Failed, UsageFault
from wfe_cli.runs import STARTER, Id, Labels, Reason, path_of
from wfe_cli.runs import app as app
from wfe_cli.templates import find_template

#: Steps are mended by administrators.
ADMINISTRATOR = "root"
ACTIONS = ("pause", "resume", "cancel", "terminate", "retry")

Why = Annotated[str, typer.Option("--reason", "-r", help="Why; goes into the run's events.")]
Key = Annotated[str | None, typer.Option("--key", help="Idempotency key; a new one when absent.")]
Step = Annotated[str, typer.Argument(metavar="STEP", help="Path of the step, or its number; the newest of that path.")]


@command(app, "signal")
async def signal(
    run: Id,
    name: Annotated[str, typer.Argument(help="Name of the signal.")],
    payload: Annotated[str | None, typer.Option("--payload", help="What it says, as JSON; null when absent.")] = None,
    reason: Reason = "",
    key: Key = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Tell a run something. A lost answer never tells it twice."""
    body = {"reason": reason} if reason else {}
    if payload is not None:
        body |= {"payload": _value(payload, "--payload")}
    async with target().caller(as_, STARTER) as rest:
        await _changed(rest, f"{path_of(run)}/signals/{quote(name, safe='')}", body, json, key or str(uuid.uuid4()))


@command(app, "rerun")
async def rerun(
    run: Id,
    step: Annotated[str, typer.Option("--from", metavar="STEP", help="Id of a step of the template's own list.")],
    reason: Why,
    label: Labels = None,
    key: Key = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Start a new run that begins at a step of this one. A lost answer never starts a second run."""
    body: dict[str, Any] = {"from_step": step, "reason": reason}
    if label:
        body["labels"] = inputs.pairs(label, "--label")
    async with target().caller(as_, STARTER) as rest:
        await _changed(rest, f"{path_of(run)}/rerun", body, json, key or str(uuid.uuid4()))


@command(app, "retry-step")
async def retry_step(
    run: Id,
    step: Step,
    given: Annotated[str, typer.Option("--input", "-i", help="What it is given instead, as JSON.")],
    reason: Why,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Go on with a failed or cancelled run, one of its steps with another input."""
    await _mend(run, step, "retry", {"input": _value(given, "--input"), "reason": reason}, as_, json)


@command(app, "complete-step")
async def complete_step(
    run: Id,
    step: Step,
    reason: Why,
    output: Annotated[str, typer.Option("--output", "-o", help="Its output, as JSON.")] = "null",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Complete a step by hand, whatever it waits for."""
    await _mend(run, step, "complete", {"output": _value(output, "--output"), "reason": reason}, as_, json)


@command(app, "skip-step")
async def skip_step(run: Id, step: Step, reason: Why, as_: AsPerson = None, json: AsJson = False) -> None:
    """Skip a step, whatever it waits for."""
    await _mend(run, step, "skip", {"reason": reason}, as_, json)


@command(app, "bulk")
async def bulk(
    action: Annotated[str, typer.Argument(help="pause, resume, cancel, terminate or retry.")],
    reason: Why,
    status: Annotated[str, typer.Option(help="Runs of this status.")] = "",
    template: Annotated[str, typer.Option(help="Runs of this template, by name or id.")] = "",
    label: Labels = None,
    after: Annotated[str, typer.Option("--created-after", help="Runs created at or after this moment, RFC 3339.")] = "",
    before: Annotated[str, typer.Option("--created-before", help="Runs created before this moment.")] = "",
    limit: Annotated[int, typer.Option(help="Runs at most, up to 1,000.")] = 100,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Do one thing to every run a filter finds, newest first. Exit code 1 when it was refused for any."""
    if action not in ACTIONS:
        raise UsageFault(f"the action is one of {', '.join(ACTIONS)}")
    inputs.pairs(label or (), "--label")
    filters = {"status": status, "label": label, "created_after": after, "created_before": before}
    body: dict[str, Any] = {name: value for name, value in filters.items() if value}
    async with target().caller(as_, STARTER) as rest:
        if template:
            body["template_id"] = (await find_template(rest, template))["id"]
        if not body:
            raise UsageFault("name at least one of --status, --template, --label, --created-after, --created-before")
        body |= {"action": action, "reason": reason, "limit": limit}
        answer = await rest.call("POST", "/api/v1/workflows/bulk", body=body, repeat=False)
    results = answer.get("results", [])
    refused = sum(not one["ok"] for one in results)
    if json:
        show.print_json(answer)
    else:
        rows = [(one["id"], "done" if one["ok"] else one["error"], one.get("message", "")) for one in results]
        out = show.console()
        out.print(show.table(["RUN", "RESULT", "WHY NOT"], rows) if rows else "no run matches")
        if answer.get("matched", 0) > len(results):
            out.print(f"the newest {len(results)} of {answer['matched']} that match; say it again for the others")
    if refused:
        raise Failed("" if json else f"refused for {refused} of {len(results)} runs")


async def _mend(run: str, step: str, verb: str, body: dict[str, Any], person: str | None, as_json: bool) -> None:
    async with target().caller(person, ADMINISTRATOR) as rest:
        number = step if step.isdecimal() else await _newest(rest, run, step)
        await _changed(rest, f"{path_of(run)}/steps/{number}/{verb}", body, as_json, None)


async def _newest(rest: Rest, run: str, path: str) -> int:
    """Number of the newest step of a path."""
    steps = (await rest.get(path_of(run))).get("steps", [])
    numbers = [int(step["no"]) for step in steps if step["path"] == path]
    if not numbers:
        there = ", ".join(dict.fromkeys(step["path"] for step in steps)) or "none yet"
        raise UsageFault(f"the run has no step {path!r}; it has: {there}")
    return max(numbers)


async def _changed(rest: Rest, path: str, body: dict[str, Any], as_json: bool, key: str | None) -> None:
    # Repeated only with a key: the others answer a repeat by saying the state.
    changed = await rest.call("POST", path, body=body, key=key, repeat=key is not None)
    show.print_json(changed) if as_json else show.console().print(show.run_view(changed))


def _value(text: str, what: str) -> Any:
    try:
        return jsons.loads(text)
    except ValueError as fault:
        raise UsageFault(f"{what} is not JSON: {fault}") from fault
