"""`wfe admin`: look after the run store, as `wfe-admin` does, and the keys that values in it are sealed with."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from wfe_engine.errors import Unavailable
from wfe_stack.folder import read_address, write_private

from wfe_cli import show
from wfe_cli.commands import command, target
from wfe_cli.faults import Failed, UsageFault

app = typer.Typer(no_args_is_help=True, help="Care of an installation; needs its database and key file.")
of_secrets = typer.Typer(no_args_is_help=True, help="The keys that secrets and sensitive values are sealed with.")
app.add_typer(of_secrets, name="secrets")

#: Commands of `wfe-admin`, which reads their arguments itself.
_STORE = {
    "partitions": "List, make ahead or drop months.",
    "retention": "All of it, as the maintenance job does.",
    "analyze": "Statistics of the partitioned tables.",
    "dispatch": "Hold or release the handing out of steps.",
    "queues": "Ready, leased and waiting steps, and executors, by queue.",
    "stuck": "Runs nothing can move any more.",
}

#: Seconds until every scheduler has read a changed key file, with a margin.
SETTLE_SECONDS = 3.0

KeyFile = Annotated[
    Path | None, typer.Option("--key-file", help="What WFE_SEAL_KEY_FILE names; the data folder's when absent.")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", envvar="WFE_DATABASE_URL", help="The run store; the data folder's when absent."),
]


@command(of_secrets, "rotate-key")
async def rotate_key(
    key_file: KeyFile = None,
    database_url: DatabaseUrl = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Make no new key; go on with a rotation that was broken off.")
    ] = False,
    forget: Annotated[bool, typer.Option("--forget-old", help="Afterwards take the old keys out of the file.")] = False,
) -> None:
    """Make a new key and seal everything anew with it, while the engine runs.

    The new key goes into the file before the old ones, which still open; schedulers read the file again by
    themselves. Where several machines have a copy of the file each, put the new one on all of them as its last
    line first, then as its first, and run this with --resume.
    """
    # They bring the store, which no other command needs.
    from wfe_store.pool import Database
    from wfe_store.rotation import left, reseal
    from wfe_store.sealing import KEY_BYTES, Keyring, keys_text, read_keys

    path = key_file or target().home / "seal.key"
    try:
        keys = read_keys(path)
    except ValueError as fault:
        raise UsageFault(f"{path}: {fault}") from fault
    with _store(database_url) as url:
        if not resume:
            keys = [secrets.token_bytes(KEY_BYTES), *keys]
            write_private(path, keys_text(keys))
            await asyncio.sleep(SETTLE_SECONDS)
        ring = Keyring(keys)
        database = Database(url, name="wfe-admin", size=2)
        try:
            await database.open()
            done = await reseal(database, ring)
            remaining = await left(database, ring)
        except Unavailable as fault:
            raise Failed(f"{fault.message}; run it again with --resume") from fault
        finally:
            await database.close()
    out = show.console()
    out.print(
        f"key {ring.current.hex()}: {done.secrets} secrets, {done.values} values"
        f" and {done.signing} of webhooks and hooks sealed anew"
    )
    if remaining:
        raise Failed(f"{remaining} are not sealed with it ({done.unreadable} that no key opens); the old keys stay")
    if forget and len(keys) > 1:
        write_private(path, keys_text(keys[:1]))
        out.print(f"{len(keys) - 1} old keys forgotten")


@contextmanager
def _store(url: str | None) -> Iterator[str]:
    """URL of the run store: the named one, or the data folder's, which is started for the time if it is down."""
    from wfe_stack.database import NAME
    from wfe_stack.postgres import PostgresFault, PostgresServer, with_database

    if url is not None:
        yield url
        return
    folder = target().home.expanduser().resolve() / "postgres"
    if not (folder / "PG_VERSION").exists():
        raise UsageFault(f"there is no run store in {folder}; name one with --database-url")
    try:
        with PostgresServer.start(folder) as server:
            yield with_database(server.url, NAME)
    except PostgresFault as fault:
        raise Failed(str(fault)) from fault


def _on_store(context: typer.Context) -> None:
    if not os.environ.get("WFE_DATABASE_URL") and (url := read_address(target().home).get("database")):
        os.environ["WFE_DATABASE_URL"] = str(url)
    from wfe_store.admin import main  # brings the database's driver

    raise typer.Exit(main([str(context.info_name), *context.args], "wfe admin"))


for _name, _help in _STORE.items():
    app.command(
        _name,
        help=_help,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_on_store)
