"""The `wfe` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from wfe_stack.settings import FOLDER

from wfe_cli import (
    admin,
    approval_acts,
    approvals,
    authoring,
    doctor,
    explain,
    identity,
    mending,
    raw,
    runs,
    schedules,
    secrets,
    up,
    webhooks,
)
from wfe_cli.commands import Target, aim

app = typer.Typer(
    name="wfe",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The workflow engine. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the server.",
)


@app.callback()
def root(
    url: Annotated[str | None, typer.Option(envvar="WFE_URL", help="The server's base URL.")] = None,
    key: Annotated[str | None, typer.Option(envvar="WFE_API_KEY", help="API key or token to call with.")] = None,
    home: Annotated[Path, typer.Option(envvar="WFE_HOME", help="Data folder of the engine.")] = Path(FOLDER),
) -> None:
    """Keep what every command needs."""
    aim(Target(home=home, url=url, key=key))


up.register(app)
app.add_typer(authoring.app, name="templates")
app.add_typer(runs.app, name="runs")
app.add_typer(approvals.app, name="approvals")
assert mending.app is runs.app  # more commands of the same
assert approval_acts.app is approvals.app
app.add_typer(explain.app, name="queues")
app.add_typer(identity.keys, name="keys")
app.add_typer(identity.principals, name="principals")
app.add_typer(identity.groups, name="groups")
app.add_typer(schedules.app, name="schedules")
app.add_typer(secrets.app, name="secrets")
app.add_typer(admin.app, name="admin")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(webhooks.hooks, name="hooks")
raw.register(app)
doctor.register(app)
