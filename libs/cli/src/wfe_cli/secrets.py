"""`wfe secrets`: values that templates refer to and nobody can read back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from wfe_cli import inputs, show
from wfe_cli.commands import AsJson, AsPerson, command, target

app = typer.Typer(no_args_is_help=True, help="Secrets for templates: write-only.")
ADMIN = "root"

Name = Annotated[str, typer.Argument(help="Letters, digits and _, beginning with a letter.")]


@command(app, "set")
async def set_secret(
    name: Name,
    file: Annotated[Path | None, typer.Option("--file", help="Take the value from a file.")] = None,
    expected: Annotated[
        int | None, typer.Option("--expected-version", help="Version it must have now; 0 for none.")
    ] = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Set a secret. The value comes from a prompt, standard input or a file, never from the command line."""
    body = {"value": _value(name, file)} | ({} if expected is None else {"expected_version": expected})
    async with target().caller(as_, ADMIN) as rest:
        made = await rest.call("PUT", f"/api/v1/secrets/{quote(name, safe='')}", body=body)
    show.print_json(made) if json else show.console().print(f"{made['name']}: version {made['version']}")


@command(app, "list")
async def list_secrets(as_: AsPerson = None, json: AsJson = False) -> None:
    """The secrets, by name, without their values."""
    async with target().caller(as_, ADMIN) as rest:
        page = await rest.get("/api/v1/secrets", limit=200)
    rows = [(one["name"], str(one["version"]), show.moment(one["updated_at"])) for one in page["secrets"]]
    if json:
        show.print_json(page)
    else:
        show.console().print(show.table(["NAME", "VERSION", "SET"], rows) if rows else "none")


@command(app, "delete")
async def delete_secret(name: Name, as_: AsPerson = None, json: AsJson = False) -> None:
    """Remove a secret and all its versions."""
    async with target().caller(as_, ADMIN) as rest:
        gone = await rest.call("DELETE", f"/api/v1/secrets/{quote(name, safe='')}")
    show.print_json(gone) if json else show.console().print(f"deleted {gone['name']}")


def _value(name: str, file: Path | None) -> str:
    if file is not None:
        text = inputs.read_text(file)
    elif sys.stdin.isatty():
        text = str(typer.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True))
    else:
        text = sys.stdin.read()
    # What editors and echo put behind a line is not part of it.
    return text.removesuffix("\n").removesuffix("\r")
