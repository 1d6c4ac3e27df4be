"""`explain` of runs, queues, schedules and webhooks: why it is not moving."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from wfe_cli import runs, schedules, show, webhooks
from wfe_cli.commands import AsJson, AsPerson, command, target

app = typer.Typer(no_args_is_help=True, help="See queues.")


@command(runs.app, "explain")
async def explain_run(run: runs.Id, as_: AsPerson = None, json: AsJson = False) -> None:
    """Why a run is not moving, and what helps."""
    async with target().caller(as_, runs.STARTER) as rest:
        _print(await rest.get(f"/api/v1/workflows/{quote(run, safe='')}/explain"), json=json)


@command(app, "explain")
async def explain_queue(
    queue: Annotated[str, typer.Argument(help="Name of the queue.")], as_: AsPerson = None, json: AsJson = False
) -> None:
    """Why your steps of a queue are not moving, and what helps."""
    async with target().caller(as_, runs.STARTER) as rest:
        _print(await rest.get(f"/api/v1/queues/{quote(queue, safe='')}/explain"), json=json)


@command(schedules.app, "explain")
async def explain_schedule(schedule: schedules.NameOrId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Why a schedule does not start a run now, and what helps."""
    async with target().caller(as_, schedules.OPERATOR) as rest:
        path = await schedules.path_of(rest, schedule)
        _print(await rest.get(f"{path}/explain"), json=json)


@command(webhooks.app, "explain")
async def explain_webhook(webhook: webhooks.WebhookId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Why a webhook is not told, and what helps."""
    async with target().caller(as_, webhooks.ADMIN) as rest:
        _print(await rest.get(f"/api/v1/webhooks/{quote(webhook, safe='')}/explain"), json=json)


def _print(found: dict[str, Any], *, json: bool) -> None:
    if json:
        show.print_json(found)
        return
    step = f" (step {found['step']})" if found.get("step") else ""
    print(f"{found['reason']}{step}: {found['message']}")
    for name in ("since", "until"):
        if found.get(name):
            print(f"  {name}: {found[name]}")
    for name, value in sorted((found.get("details") or {}).items()):
        print(f"  {name}: {value}")
    if found.get("action"):
        print(f"What helps: {found['action']}")
