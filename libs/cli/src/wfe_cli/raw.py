"""`wfe call`: any call of the API."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from wfe_cli import inputs, show
from wfe_cli.commands import AsPerson, command, target
from wfe_cli.faults import UsageFault


def register(app: typer.Typer) -> None:
    """Add the command to an app."""

    @command(app, "call")
    async def call(
        method: Annotated[str, typer.Argument(help="GET, POST, PUT or DELETE.")],
        path: Annotated[str, typer.Argument(help="Path, e.g. /api/v1/workflows?limit=3.")],
        body: Annotated[
            str | None, typer.Option("--body", "-d", help="JSON; @FILE for a file, - for standard input.")
        ] = None,
        key: Annotated[str | None, typer.Option("--key", help="Idempotency key.")] = None,
        as_: AsPerson = None,
    ) -> None:
        """Any call of the API. A field the call does not know is refused before it is made."""
        method = method.upper()
        value = None
        if body is not None:
            text = sys.stdin.read() if body == "-" else body
            value = inputs.read_object(inputs.read_text(Path(text[1:])) if text.startswith("@") else text, "--body")
        elif method in {"POST", "PUT"}:
            value = {}
        from wfe_cli import contract  # brings every message of the API

        contract.check(method, path, value)
        if value is not None and method == "GET":
            raise UsageFault("GET has no body; put its fields into the query")
        async with target().caller(as_, "sam") as rest:
            repeat = method in {"GET", "PUT", "DELETE"} or key is not None
            show.print_json(await rest.call(method, path, body=value, key=key, repeat=repeat))
