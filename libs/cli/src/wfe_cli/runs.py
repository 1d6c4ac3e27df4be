"""`wfe runs`: start runs, see them, steer them."""

from __future__ import annotations

import base64
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from wfe_stack.rest import Rest

from wfe_cli import inputs, show
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import Failed, UsageFault
from wfe_cli.templates import find_template
from wfe_cli.watching import ending
from wfe_cli.watching import watch as watch_run

app = typer.Typer(no_args_is_help=True, help="Start runs, see them, steer them.")
STARTER = "sam"

Id = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; goes into the run's events.")]
Labels = Annotated[list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE", help="May be repeated.")]


@command(app, "start")
async def start(
    template: Annotated[str, typer.Argument(help="Name or id of a published template.")],
    given: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="NAME=VALUE", help="A variable; may be repeated."),
    ] = None,
    input_file: Annotated[Path | None, typer.Option(help="JSON or YAML file with variables.")] = None,
    json_input: Annotated[str | None, typer.Option(help="Variables as a JSON object.")] = None,
    version: Annotated[int | None, typer.Option(help="Published version; the newest when absent.")] = None,
    label: Labels = None,
    key: Annotated[str | None, typer.Option("--key", help="Idempotency key; a new one when absent.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="Not before this moment, RFC 3339.")] = None,
    delay: Annotated[int, typer.Option("--delay", help="Not before so many seconds are over.")] = 0,
    wait: Annotated[int, typer.Option("--wait", help="Print it once it has ended, or so many seconds are over.")] = 0,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the run until it has ended.")] = False,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Start a run of a published template. A lost answer never starts a second run."""
    values = inputs.read_file(input_file) if input_file else {}
    values |= inputs.read_object(json_input, "--json-input") if json_input else {}
    texts = inputs.pairs(given or (), "--input")
    body: dict[str, Any] = {"labels": inputs.pairs(label or (), "--label")}
    async with target().caller(as_, STARTER) as rest:
        found = await find_template(rest, template)
        body["template_id"] = found["id"]
        if version is not None:
            body["version"] = version
        if texts:
            number = version or found.get("latest_version") or 0
            values |= inputs.typed(texts, await _types(rest, found["id"], number))
        body["input"] = values
        extras = {"start_at": at, "delay_seconds": delay, "wait_seconds": wait}
        body |= {name: value for name, value in extras.items() if value}
        run = await rest.start(body, key=key or str(uuid.uuid4()))
        if not watch:
            show.print_json(run) if json else show.console().print(show.run_view(run))
            return
        await _watch(rest, run["id"], json)


@command(app, "list")
async def list_runs(
    status: Annotated[str | None, typer.Option(help="Only runs of this status.")] = None,
    template: Annotated[str | None, typer.Option(help="Only runs of this template, by name or id.")] = None,
    label: Labels = None,
    limit: Annotated[int, typer.Option(help="At most 200.")] = 50,
    offset: Annotated[int, typer.Option(help="Runs to pass over.")] = 0,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """The runs, newest first."""
    async with target().caller(as_, STARTER) as rest:
        template_id = (await find_template(rest, template))["id"] if template else None
        page = await rest.get(
            "/api/v1/workflows",
            status=status,
            template_id=template_id,
            label=label,
            limit=limit,
            offset=offset,
        )
    if json:
        show.print_json(page)
        return
    rows = [
        (
            run["id"],
            f"{run['template']['name']} v{run['template']['version']}",
            show.status(run["status"]),
            show.moment(run["created_at"]),
            show.took(run.get("started_at"), run.get("ended_at")),
            " ".join(f"{name}={value}" for name, value in sorted((run.get("labels") or {}).items())),
        )
        for run in page["workflows"]
    ]
    _print_page(["RUN", "TEMPLATE", "STATUS", "CREATED", "TOOK", "LABELS"], rows, page)


@command(app, "get")
async def get(
    run: Id,
    events: Annotated[bool, typer.Option("--events", "-e", help="Its events too.")] = False,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """One run with its steps."""
    async with target().caller(as_, STARTER) as rest:
        found = await rest.get(path_of(run))
    if json:
        show.print_json(found)
        return
    out = show.console()
    out.print(show.run_view(found))
    if events:
        for event in found["events"]:
            out.print(show.event_line(event))
        if found.get("events_note"):
            out.print(found["events_note"])


@command(app, "watch")
async def watch_command(run: Id, as_: AsPerson = None, json: AsJson = False) -> None:
    """Show a run live until it has ended. Exit code 1 unless it completed."""
    async with target().caller(as_, STARTER) as rest:
        await _watch(rest, run, json)


@command(app, "snapshots")
async def snapshots(run: Id, as_: AsPerson = None, json: AsJson = False) -> None:
    """The points a run can be rolled back to or forked from."""
    async with target().caller(as_, STARTER) as rest:
        page = await rest.get(f"{path_of(run)}/snapshots")
    if json:
        show.print_json(page)
        return
    rows = [
        (
            each["id"],
            each["seq"],
            each["kind"],
            each.get("name", ""),
            show.moment(each["created_at"]),
            ", ".join(each.get("steps_done") or ()),
        )
        for each in page["snapshots"]
    ]
    _print_page(["SNAPSHOT", "SEQ", "KIND", "NAME", "CREATED", "STEPS DONE"], rows, page)


@command(app, "blob")
async def blob(
    run: Id,
    blob: Annotated[str, typer.Argument(help="What the reference says: the value of $blob.")],
    as_: AsPerson = None,
) -> None:
    """Write a value that is too large for an answer to standard output, as JSON."""
    offset = 0
    async with target().caller(as_, STARTER) as rest:
        while True:
            path = f"/api/v1/workflows/{quote(run, safe='')}/blobs/{quote(blob, safe='')}"
            part = await rest.get(path, offset=offset)
            data = base64.b64decode(part["data"])
            sys.stdout.buffer.write(data)
            offset += len(data)
            if not data or offset >= part["total"]:
                break
    sys.stdout.buffer.flush()


@command(app, "snapshot")
async def snapshot(
    run: Id,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Take a snapshot now."""
    async with target().caller(as_, STARTER) as rest:
        made = await rest.post(f"{path_of(run)}/snapshots", {"name": name})
    show.print_json(made) if json else show.console().print(f"snapshot {made['id']} at event {made['seq']}")


@command(app, "rollback")
async def rollback(
    run: Id,
    snapshot: Annotated[str, typer.Option("--to", metavar="SNAPSHOT", help="Id of the snapshot.")],
    reason: Reason = "",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Bring a run back to one of its snapshots."""
    await _act(run, "rollback", {"snapshot_id": snapshot, "reason": reason}, as_, json)


@command(app, "fork")
async def fork(
    run: Id,
    snapshot: Annotated[str, typer.Option("--at", metavar="SNAPSHOT", help="Id of the snapshot.")],
    reason: Reason = "",
    label: Labels = None,
    key: Annotated[str | None, typer.Option("--key", help="Idempotency key; a new one when absent.")] = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Start a new run at a snapshot of this one. A lost answer never starts a second run."""
    body: dict[str, Any] = {"snapshot_id": snapshot, "reason": reason}
    if label:
        body["labels"] = inputs.pairs(label, "--label")
    await _act(run, "fork", body, as_, json, key=key or str(uuid.uuid4()))


def _add_action(name: str, text: str) -> None:
    """Add a command that asks for one change of a run, with a reason."""

    async def act(run: Id, reason: Reason = "", as_: AsPerson = None, json: AsJson = False) -> None:
        await _act(run, name, {"reason": reason}, as_, json)

    act.__doc__ = text
    command(app, name)(act)


for _name, _text in {
    "pause": "Let steps in flight finish, and begin nothing new until it is resumed.",
    "resume": "Go on with a paused run.",
    "cancel": "End a run gently: steps in flight are told to stop.",
    "terminate": "End a run at once: nothing of its template runs any more.",
    "retry": "Go on with a failed or cancelled run from where it stopped.",
}.items():
    _add_action(_name, _text)


async def _act(
    run: str, action: str, body: dict[str, Any], person: str | None, as_json: bool, *, key: str | None = None
) -> None:
    given = {name: value for name, value in body.items() if value}
    async with target().caller(person, STARTER) as rest:
        # Repeated only with a key: the others answer a repeat by saying the state.
        changed = await rest.call("POST", f"{path_of(run)}/{action}", body=given, key=key, repeat=key is not None)
    show.print_json(changed) if as_json else show.console().print(show.run_view(changed))


async def _watch(rest: Rest, run_id: str, as_json: bool) -> None:
    run = await watch_run(rest, run_id, as_json=as_json)
    if run["status"] != "completed":
        raise Failed("" if as_json else f"the run {ending(run)}")


async def _types(rest: Rest, template_id: str, version: int) -> dict[str, str]:
    if not version:
        return {}
    found = await rest.get(f"/api/v1/templates/{template_id}/versions/{version}")
    return inputs.variable_types(found["source"])


def path_of(run: str) -> str:
    """Path of a run in the API.

    Raises:
        UsageFault: The id is empty.
    """
    if not run.strip():
        raise UsageFault("the id of a run is empty")
    return f"/api/v1/workflows/{quote(run, safe='')}"


def _print_page(columns: list[str], rows: list[Any], page: dict[str, Any]) -> None:
    out = show.console()
    out.print(show.table(columns, rows) if rows else "none")
    if note := show.page_note(page, len(rows)):
        out.print(note, style="dim")
