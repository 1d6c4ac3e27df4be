"""`wfe schedules`: runs of a template by cron."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

import typer
from wfe_stack.rest import Rest

from wfe_cli import inputs, show
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import UsageFault
from wfe_cli.templates import find_template

app = typer.Typer(no_args_is_help=True, help="Runs of a template by cron.")
OPERATOR = "sam"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

NameOrId = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Name or id of the schedule.")]
Template = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Name or id of the template.")]
Cron = Annotated[str, typer.Option(help="Minute, hour, day of month, month, day of week, such as '0 9 * * MON-FRI'.")]
Zone = Annotated[str, typer.Option("--time-zone", help="IANA name, such as Europe/Berlin.")]
Overlap = Annotated[str, typer.Option(help="While an earlier run goes on: skip, queue, cancel or allow.")]
CatchUp = Annotated[int | None, typer.Option("--catch-up", help="Seconds a firing may be late; 3600 when absent.")]
Version = Annotated[int | None, typer.Option(help="Published version; the newest at each firing when absent.")]
Input = Annotated[list[str] | None, typer.Option("--input", "-i", help="NAME=VALUE of a variable; may be repeated.")]
Label = Annotated[list[str] | None, typer.Option("--label", help="NAME=VALUE; may be repeated.")]


@command(app, "create")
async def create(
    name: Annotated[str, typer.Argument(help="Of the schedule.")],
    template: Template,
    cron: Cron,
    time_zone: Zone = "UTC",
    overlap: Overlap = "skip",
    catch_up: CatchUp = None,
    version: Version = None,
    input_: Input = None,
    label: Label = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Make a schedule, active at once."""
    async with target().caller(as_, OPERATOR) as rest:
        body = await _body(rest, name, template, cron, time_zone, overlap, catch_up, version, input_, label)
        _print(await rest.post("/api/v1/schedules", body), json=json)


@command(app, "update")
async def update(
    schedule: NameOrId,
    template: Template,
    cron: Cron,
    time_zone: Zone = "UTC",
    overlap: Overlap = "skip",
    catch_up: CatchUp = None,
    version: Version = None,
    input_: Input = None,
    label: Label = None,
    rename: Annotated[str | None, typer.Option(help="Its new name.")] = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Replace what a schedule says; what is absent gets its default. Its runs are yours from then on."""
    async with target().caller(as_, OPERATOR) as rest:
        found = await _find(rest, schedule)
        name = rename or found["name"]
        body = await _body(rest, name, template, cron, time_zone, overlap, catch_up, version, input_, label)
        _print(await rest.put(_path(found), body | {"expected_revision": found["revision"]}), json=json)


@command(app, "list")
async def list_schedules(as_: AsPerson = None, json: AsJson = False) -> None:
    """The schedules, by name."""
    async with target().caller(as_, OPERATOR) as rest:
        page = await rest.get("/api/v1/schedules", limit=200)
    if json:
        show.print_json(page)
        return
    rows = [
        (one["name"], one["status"], one["cron"], one["time_zone"], show.moment(one.get("next_at")), one["id"])
        for one in page["schedules"]
    ]
    out = show.console()
    out.print(show.table(["NAME", "STATUS", "CRON", "TIME ZONE", "NEXT", "ID"], rows) if rows else "none")
    if note := show.page_note(page, len(rows)):
        out.print(note, style="dim")


@command(app, "get")
async def get(schedule: NameOrId, as_: AsPerson = None, json: AsJson = False) -> None:
    """One schedule with its newest firings."""
    async with target().caller(as_, OPERATOR) as rest:
        found = await rest.get(_path(await _find(rest, schedule)))
    _print(found, json=json)
    if json:
        return
    rows = [
        (show.moment(each["at"]), each["status"], each.get("workflow_id", ""), each.get("reason", ""))
        for each in found.get("firings", ())
    ]
    if rows:
        show.console().print(show.table(["FIRED", "STATUS", "RUN", "REASON"], rows))


@command(app, "pause")
async def pause(schedule: NameOrId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Let no more firings happen; its runs go on."""
    await _act(schedule, "pause", as_, json=json)


@command(app, "resume")
async def resume(schedule: NameOrId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Let firings happen again, from now on."""
    await _act(schedule, "resume", as_, json=json)


@command(app, "delete")
async def delete(schedule: NameOrId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Remove a schedule; its runs go on."""
    async with target().caller(as_, OPERATOR) as rest:
        gone = await rest.call("DELETE", _path(await _find(rest, schedule)))
    show.print_json(gone) if json else show.console().print(f"deleted {gone['name']}")


@command(app, "trigger")
async def trigger(
    schedule: NameOrId,
    reason: Annotated[str, typer.Option(help="Why; shown with the run.")] = "",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Start a run of a schedule now."""
    async with target().caller(as_, OPERATOR) as rest:
        run = await rest.post(f"{_path(await _find(rest, schedule))}/trigger", {"reason": reason} if reason else {})
    show.print_json(run) if json else show.console().print(f"started {run['id']}")


async def _act(schedule: str, action: str, as_: str | None, *, json: bool) -> None:
    async with target().caller(as_, OPERATOR) as rest:
        done = await rest.post(f"{_path(await _find(rest, schedule))}/{action}")
    _print(done, json=json)


async def _body(
    rest: Rest, name: str, template: str, cron: str, time_zone: str, overlap: str, catch_up: int | None,
    version: int | None, given: list[str] | None, labels: list[str] | None,
) -> dict[str, Any]:  # fmt: skip
    found = await find_template(rest, template)
    number = version or found.get("latest_version")
    texts, types = inputs.pairs(given or (), "--input"), {}
    if texts and number:
        source = (await rest.get(f"/api/v1/templates/{found['id']}/versions/{number}"))["source"]
        types = inputs.variable_types(source)
    body: dict[str, Any] = {
        "name": name,
        "template_id": found["id"],
        "cron": cron,
        "time_zone": time_zone,
        "overlap": overlap,
        "input": inputs.typed(texts, types),
        "labels": inputs.pairs(labels or (), "--label"),
    }
    optional = {"catch_up_seconds": catch_up, "version": version}
    return body | {key: value for key, value in optional.items() if value is not None}


async def _find(rest: Rest, name_or_id: str) -> dict[str, Any]:
    """A schedule by its name or id.

    Raises:
        UsageFault: There is none of that name.
    """
    if _UUID.fullmatch(name_or_id):
        found: dict[str, Any] = await rest.get(f"/api/v1/schedules/{name_or_id}")
        return found
    listed = (await rest.get("/api/v1/schedules", name=name_or_id))["schedules"]
    if not listed:
        raise UsageFault(f"there is no schedule {name_or_id!r}; see `wfe schedules list`")
    one: dict[str, Any] = listed[0]
    return one


async def path_of(rest: Rest, name_or_id: str) -> str:
    """The path of a schedule in the API."""
    return _path(await _find(rest, name_or_id))


def _path(schedule: dict[str, Any]) -> str:
    return f"/api/v1/schedules/{quote(schedule['id'], safe='')}"


def _print(schedule: dict[str, Any], *, json: bool) -> None:
    if json:
        show.print_json(schedule)
        return
    following = f"next {show.moment(schedule['next_at'])}" if schedule.get("next_at") else "no next firing"
    told = f"{schedule['name']}  {schedule['status']}  {schedule['cron']} ({schedule['time_zone']})  {following}"
    show.console().print(f"{told}  {schedule['id']}")
