"""`wfe admin`: look after the run store; the same as `wfe-admin`, and it finds the store of a local engine."""

from __future__ import annotations

import os

import typer
from wfe_stack.folder import read_address

from wfe_cli.commands import target


def register(app: typer.Typer) -> None:
    """Add the command to an app."""

    @app.command(
        "admin", add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
    )
    def admin(context: typer.Context) -> None:
        """Look after the run store: partitions, retention, dispatch, queues, stuck runs. `wfe admin -h` for all."""
        if not os.environ.get("WFE_DATABASE_URL") and (url := read_address(target().home).get("database")):
            os.environ["WFE_DATABASE_URL"] = str(url)
        from wfe_store.admin import main  # brings the database's driver

        raise typer.Exit(main(context.args, "wfe admin"))
