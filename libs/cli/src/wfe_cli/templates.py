"""`wfe templates`: check templates, publish them, see them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from wfe_stack.faults import StackFault
from wfe_stack.rest import Rest, Unreachable

from wfe_cli import inputs, show
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import Failed, UsageFault

app = typer.Typer(no_args_is_help=True, help="Check templates, publish them, see them.")
AUTHOR = "sam"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

File = Annotated[Path, typer.Argument(help="Template source, YAML or JSON.")]
NameOrId = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Name or id of the template.")]


@command(app, "validate")
async def validate(file: File, as_: AsPerson = None, json: AsJson = False) -> None:
    """All faults of a template source. Exit code 1 when it has any.

    A server also knows which handlers there are; without one, when none was named, handlers are not checked.
    """
    source = inputs.read_text(file)
    faults = await _faults(source, as_)
    if json:
        show.print_json({"faults": faults})
    elif not faults:
        show.console().print(f"{file}: no faults")
    print_faults(file, faults, quiet=json)


async def _faults(source: str, as_: str | None) -> list[dict[str, Any]]:
    try:
        async with target().caller(as_, AUTHOR) as rest:
            return list((await rest.post("/api/v1/templates/validate", {"source": source}))["faults"])
    except (StackFault, Unreachable):
        if as_ is not None or target().named:
            raise
    # Imported here: it brings the language, which most commands do without.
    from wfe_language import validate as check

    typer.echo("no server answers: handlers are not checked", err=True)
    return [msgspec.to_builtins(fault) for fault in check(source)]


@command(app, "publish")
async def publish(file: File, as_: AsPerson = None, json: AsJson = False) -> None:
    """Make a source the next version of its template; the template is made if it is new."""
    source = inputs.read_text(file)
    async with target().caller(as_, AUTHOR) as rest:
        faults = (await rest.post("/api/v1/templates/validate", {"source": source}))["faults"]
        print_faults(file, faults, quiet=False)
        name = str(inputs.document(source).get("name", ""))
        known = await _by_name(rest, name)
        draft = (
            await rest.post("/api/v1/templates", {"source": source})
            if known is None
            else await rest.put(f"/api/v1/templates/{known['id']}", {"source": source})
        )
        version = await rest.post(f"/api/v1/templates/{draft['id']}/publish")
    if json:
        show.print_json(version)
    else:
        show.console().print(f"published {version['name']} v{version['version']}  {version['template_id']}")


@command(app, "list")
async def list_templates(
    limit: Annotated[int, typer.Option(help="At most 200.")] = 50,
    offset: Annotated[int, typer.Option(help="Templates to pass over.")] = 0,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """The templates, newest first."""
    async with target().caller(as_, AUTHOR) as rest:
        page = await rest.get("/api/v1/templates", limit=limit, offset=offset)
    if json:
        show.print_json(page)
        return
    rows = [
        (each["name"], show.status(each["status"]), each.get("latest_version") or "", each["id"])
        for each in page["templates"]
    ]
    out = show.console()
    out.print(show.table(["NAME", "STATUS", "VERSION", "ID"], rows) if rows else "none")
    if note := show.page_note(page, len(rows)):
        out.print(note, style="dim")


@command(app, "get")
async def get(
    template: NameOrId,
    version: Annotated[int | None, typer.Option(help="A published version; the draft when absent.")] = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """The source of a template as it was written."""
    async with target().caller(as_, AUTHOR) as rest:
        found = await find_template(rest, template)
        path = f"/api/v1/templates/{found['id']}"
        answer = await rest.get(path if version is None else f"{path}/versions/{version}")
    if json:
        show.print_json(answer)
    else:
        typer.echo(answer["source"], nl=not answer["source"].endswith("\n"))


async def find_template(rest: Rest, name_or_id: str) -> dict[str, Any]:
    """A template by its name or id.

    Raises:
        UsageFault: There is none of that name.
        Refused: There is none of that id.
    """
    if _UUID.fullmatch(name_or_id):
        found: dict[str, Any] = await rest.get(f"/api/v1/templates/{quote(name_or_id, safe='')}")
        return found
    known = await _by_name(rest, name_or_id)
    if known is None:
        raise UsageFault(f"there is no template {name_or_id!r}; see `wfe templates list`")
    return known


async def _by_name(rest: Rest, name: str) -> dict[str, Any] | None:
    if not name:
        return None
    listed = (await rest.get("/api/v1/templates", name=name))["templates"]
    return next((each for each in listed if each["name"] == name), None)


def print_faults(file: Path, faults: list[dict[str, Any]], *, quiet: bool) -> None:
    """Print faults as file:line:column, and fail when there are any."""
    if not faults:
        return
    for fault in () if quiet else faults:
        place = ":".join(str(each) for each in (file, fault.get("line"), fault.get("column")) if each)
        mend = f" {fault['mend']}" if fault.get("mend") else ""
        where = f"{fault['path']}: " if fault.get("path") else ""
        typer.echo(f"{place}: {where}{fault['reason']}{mend}", err=True)
    raise Failed("" if quiet else f"{file} has {len(faults)} fault{'s' if len(faults) > 1 else ''}")
