"""`wfe keys`, `wfe principals`, `wfe groups`: who may call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from wfe_stack.rest import Rest

from wfe_cli import show
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import UsageFault

keys = typer.Typer(no_args_is_help=True, help="API keys.")
principals = typer.Typer(no_args_is_help=True, help="People, agents and service accounts.")
groups = typer.Typer(no_args_is_help=True, help="Groups of principals.")
ADMIN = "root"

Roles = Annotated[list[str] | None, typer.Option("--role", help="May be repeated.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Public part of the key, 8 characters.")]


@command(keys, "create")
async def create_key(
    principal: Annotated[str | None, typer.Option("--for", help="Principal, by name; you when absent.")] = None,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    role: Roles = None,
    expires: Annotated[int, typer.Option(help="Seconds until it stops working; 0 for never.")] = 0,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Make a key. It is shown this once."""
    async with target().caller(as_, ADMIN) as rest:
        body: dict[str, Any] = {"name": name, "roles": role or [], "expires_in_seconds": expires}
        if principal:
            body["principal_id"] = (await _find(rest, "principals", principal))["id"]
        key = await rest.post("/api/v1/keys", body)
    _print_secret(key, json)


@command(keys, "list")
async def list_keys(as_: AsPerson = None, json: AsJson = False) -> None:
    """The keys, newest first, without their secrets."""
    async with target().caller(as_, ADMIN) as rest:
        page = await rest.get("/api/v1/keys", limit=200)
        names = {each["id"]: each["name"] for each in await _all(rest, "principals")}
    rows = [
        (
            key["id"],
            names.get(key["principal_id"], key["principal_id"]),
            key.get("name", ""),
            "revoked" if key.get("revoked_at") else show.moment(key.get("expires_at")) or "works",
            show.moment(key.get("last_used_at")),
        )
        for key in page["keys"]
    ]
    _print(page, ["KEY", "PRINCIPAL", "NAME", "UNTIL", "LAST USED"], rows, json)


@command(keys, "rotate")
async def rotate_key(
    key: KeyId,
    overlap: Annotated[int | None, typer.Option(help="Seconds the old key goes on working.")] = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Make a successor of a key. It is shown this once."""
    body = {} if overlap is None else {"overlap_seconds": overlap}
    async with target().caller(as_, ADMIN) as rest:
        _print_secret(await rest.post(f"/api/v1/keys/{key}/rotate", body), json)


@command(keys, "revoke")
async def revoke_key(key: KeyId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Make a key stop working, everywhere within five seconds."""
    async with target().caller(as_, ADMIN) as rest:
        revoked = await rest.post(f"/api/v1/keys/{key}/revoke")
    show.print_json(revoked) if json else show.console().print(f"revoked {revoked['id']}")


@command(principals, "create")
async def create_principal(
    name: Annotated[str, typer.Argument(help="Unique within the owner.")],
    kind: Annotated[str, typer.Option(help="person, agent or service.")] = "person",
    role: Roles = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Add a principal."""
    async with target().caller(as_, ADMIN) as rest:
        made = await rest.post("/api/v1/principals", {"name": name, "kind": kind, "roles": role or []})
    show.print_json(made) if json else show.console().print(f"{made['name']}  {made['id']}")


@command(principals, "list")
async def list_principals(as_: AsPerson = None, json: AsJson = False) -> None:
    """The principals, by name."""
    async with target().caller(as_, ADMIN) as rest:
        found = await _all(rest, "principals")
    rows = [
        (each["name"], each["kind"], ", ".join(each["roles"]), ", ".join(each["groups"]), each["id"]) for each in found
    ]
    _print({"principals": found}, ["NAME", "KIND", "ROLES", "GROUPS", "ID"], rows, json)


@command(groups, "create")
async def create_group(
    name: Annotated[str, typer.Argument(help="Unique within the owner.")],
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Add a group."""
    async with target().caller(as_, ADMIN) as rest:
        made = await rest.post("/api/v1/groups", {"name": name})
    show.print_json(made) if json else show.console().print(f"{made['name']}  {made['id']}")


@command(groups, "list")
async def list_groups(as_: AsPerson = None, json: AsJson = False) -> None:
    """The groups, by name."""
    async with target().caller(as_, ADMIN) as rest:
        found = await _all(rest, "groups")
    rows = [(each["name"], ", ".join(member["name"] for member in each["members"]), each["id"]) for each in found]
    _print({"groups": found}, ["NAME", "MEMBERS", "ID"], rows, json)


def _add_membership(name: str, method: str, text: str) -> None:
    async def change(
        group: Annotated[str, typer.Argument(help="Name of the group.")],
        principal: Annotated[str, typer.Argument(help="Name of the principal.")],
        as_: AsPerson = None,
        json: AsJson = False,
    ) -> None:
        async with target().caller(as_, ADMIN) as rest:
            group_id = (await _find(rest, "groups", group))["id"]
            principal_id = (await _find(rest, "principals", principal))["id"]
            path = f"/api/v1/groups/{group_id}/members/{principal_id}"
            changed = await rest.call(method, path, body={} if method == "PUT" else None, repeat=True)
        members = ", ".join(member["name"] for member in changed["members"])
        show.print_json(changed) if json else show.console().print(f"{changed['name']}: {members or 'nobody'}")

    change.__doc__ = text
    command(groups, name)(change)


_add_membership("add", "PUT", "Put a principal into a group.")
_add_membership("remove", "DELETE", "Take a principal out of a group.")


async def _all(rest: Rest, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = await rest.get(f"/api/v1/{kind}", limit=200, offset=len(found))
        found += page[kind]
        if not page[kind] or len(found) >= page.get("total", 0):
            return found


async def _find(rest: Rest, kind: str, name: str) -> dict[str, Any]:
    for each in await _all(rest, kind):
        if name in (each["name"], each["id"]):
            return each
    raise UsageFault(f"there is no {name!r} among the {kind}")


def _print_secret(key: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.print_json(key)
        return
    typer.echo(key["secret"])
    typer.echo("Keep it: it is not shown again.", err=True)


def _print(page: dict[str, Any], columns: Sequence[str], rows: Sequence[Any], as_json: bool) -> None:
    if as_json:
        show.print_json(page)
    else:
        show.console().print(show.table(columns, rows) if rows else "none")
