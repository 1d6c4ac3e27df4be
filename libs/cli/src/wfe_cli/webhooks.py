"""`wfe webhooks` and `wfe hooks`: other systems that are told of events, and that start and signal them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from wfe_cli import show
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import Failed, UsageFault

app = typer.Typer(no_args_is_help=True, help="Tell other systems of events.")
hooks = typer.Typer(no_args_is_help=True, help="Let other systems start and signal runs.")
ADMIN = "root"

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Id of the webhook.")]
HookId = Annotated[str, typer.Argument(metavar="HOOK", help="Id of the hook.")]
Name = Annotated[str, typer.Option(help="A name for people.")]
Limit = Annotated[int, typer.Option(help="At most 200.")]
Offset = Annotated[int, typer.Option(help="Entries to pass over.")]


def _path(webhook: str, *more: str) -> str:
    return "/".join(("/api/v1/webhooks", quote(webhook, safe=""), *more))


@command(app, "create")
async def create(
    url: Annotated[str, typer.Argument(help="Where events go.")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", "-e", help="Event type, or a prefix with * at its end; may be repeated; all."),
    ] = None,
    name: Name = "",
    filter: Annotated[str, typer.Option(help="CEL over event that must give true.")] = "",
    ordered: Annotated[bool, typer.Option("--ordered", help="Events of one run one after the other.")] = False,
    signature: Annotated[str, typer.Option(help="v1 (HMAC-SHA256) or v1a (ed25519).")] = "v1",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Subscribe a URL to events. The secret is shown this once."""
    body = {
        "url": url,
        "event_types": event or ["*"],
        "name": name,
        "filter": filter,
        "ordered": ordered,
        "signature": signature,
    }
    async with target().caller(as_, ADMIN) as rest:
        _print_secret(await rest.post("/api/v1/webhooks", body), json)


@command(app, "list")
async def list_webhooks(limit: Limit = 50, offset: Offset = 0, as_: AsPerson = None, json: AsJson = False) -> None:
    """The webhooks, oldest first."""
    async with target().caller(as_, ADMIN) as rest:
        page = await rest.get("/api/v1/webhooks", limit=limit, offset=offset)
    rows = [
        (
            each["id"],
            each["name"],
            _state(each),
            ", ".join(each["event_types"]),
            each["url"],
        )
        for each in page["webhooks"]
    ]
    _print(page, ["WEBHOOK", "NAME", "STATUS", "EVENTS", "URL"], rows, json)


@command(app, "get")
async def get(webhook: WebhookId, as_: AsPerson = None, json: AsJson = False) -> None:
    """One webhook."""
    async with target().caller(as_, ADMIN) as rest:
        found = await rest.get(_path(webhook))
    if json:
        show.print_json(found)
        return
    for name, value in found.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        if text and name != "secret":
            show.console().print(f"{name}: {text}", markup=False)


@command(app, "delete")
async def delete(webhook: WebhookId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Remove a webhook with its deliveries."""
    async with target().caller(as_, ADMIN) as rest:
        gone = await rest.call("DELETE", _path(webhook))
    show.print_json(gone) if json else show.console().print(f"removed {gone['id']}")


@command(app, "enable")
async def enable(webhook: WebhookId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Tell a disabled webhook again."""
    await _switch(webhook, "enable", as_, json)


@command(app, "disable")
async def disable(webhook: WebhookId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Tell a webhook nothing any more."""
    await _switch(webhook, "disable", as_, json)


async def _switch(webhook: str, verb: str, person: str | None, as_json: bool) -> None:
    async with target().caller(person, ADMIN) as rest:
        found = await rest.call("POST", _path(webhook, verb), body={}, repeat=True)
    show.print_json(found) if as_json else show.console().print(f"{found['status']}: {found['id']}")


@command(app, "rotate")
async def rotate(
    webhook: WebhookId,
    overlap: Annotated[int | None, typer.Option(help="Seconds the old key signs too; a day when absent.")] = None,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Make a new key. The secret is shown this once."""
    body = {} if overlap is None else {"overlap_seconds": overlap}
    async with target().caller(as_, ADMIN) as rest:
        _print_secret(await rest.post(_path(webhook, "rotate"), body), json)


@command(app, "ping")
async def ping(webhook: WebhookId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Send a test event. Exit code 1 when it was not taken."""
    async with target().caller(as_, ADMIN) as rest:
        delivery = await rest.post(_path(webhook, "ping"))
    if json:
        show.print_json(delivery)
    else:
        _print_attempts(delivery)
    if delivery["status"] != "delivered":
        raise Failed("" if json else "the ping was not taken")


@command(app, "deliveries")
async def deliveries(
    webhook: WebhookId,
    delivery: Annotated[str | None, typer.Argument(metavar="DELIVERY", help="Show this one's attempts.")] = None,
    status: Annotated[str | None, typer.Option(help="pending, delivered, failed or filtered.")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Deliveries, newest first; or one with its attempts."""
    async with target().caller(as_, ADMIN) as rest:
        if delivery:
            found = await rest.get(_path(webhook, "deliveries", quote(delivery, safe="")))
            show.print_json(found) if json else _print_attempts(found)
            return
        page = await rest.get(_path(webhook, "deliveries"), status=status, limit=limit, offset=offset)
    rows = [
        (
            each["id"],
            show.status(each["status"]),
            each["attempts"],
            each["type"],
            show.moment(each.get("created_at")),
            show.moment(each.get("next_at")),
        )
        for each in page["deliveries"]
    ]
    _print(page, ["DELIVERY", "STATUS", "TRIES", "EVENT", "MADE", "NEXT"], rows, json)


@command(app, "redeliver")
async def redeliver(
    webhook: WebhookId,
    delivery: Annotated[str | None, typer.Argument(metavar="DELIVERY", help="The one to send again.")] = None,
    since: Annotated[str | None, typer.Option(help="All made since this moment, RFC 3339.")] = None,
    status: Annotated[str, typer.Option(help="With --since: failed, delivered or all.")] = "failed",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Send one delivery again, or all since a moment."""
    if (delivery is None) == (since is None):
        raise UsageFault("name a delivery, or give --since")
    body = {"delivery_id": delivery} if delivery else {"since": since, "status": status}
    async with target().caller(as_, ADMIN) as rest:
        answer = await rest.post(_path(webhook, "redeliver"), body)
    show.print_json(answer) if json else show.console().print(f"{answer['count']} to be sent again")


@command(hooks, "create")
async def create_hook(
    template: Annotated[str, typer.Argument(help="Id of the template to start runs of; none with --signal.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="VARIABLE=CEL", help="Input from body and headers; may be repeated."),
    ] = None,
    scheme: Annotated[str, typer.Option(help="standard or github.")] = "standard",
    filter: Annotated[str, typer.Option(help="CEL over body and headers that must give true.")] = "",
    signal: Annotated[str, typer.Option(metavar="NAME", help="Send this signal instead of starting runs.")] = "",
    workflow: Annotated[str, typer.Option(metavar="CEL", help="With --signal: what gives the id of the run.")] = "",
    name: Name = "",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Make a hook. The secret is shown this once."""
    given = dict(each.partition("=")[::2] for each in set_ or ())
    body = {"template_id": template, "scheme": scheme, "filter": filter, "name": name, "input": given}
    body |= {"signal": signal, "workflow": workflow} if signal or workflow else {}
    async with target().caller(as_, ADMIN) as rest:
        hook = await rest.post("/api/v1/hooks", body)
        where = f"{target().address()}{hook['path']}"
    if not json:
        typer.echo(where)
    _print_secret(hook, json)


@command(hooks, "list")
async def list_hooks(limit: Limit = 50, offset: Offset = 0, as_: AsPerson = None, json: AsJson = False) -> None:
    """The hooks, oldest first."""
    async with target().caller(as_, ADMIN) as rest:
        page = await rest.get("/api/v1/hooks", limit=limit, offset=offset)
    rows = [
        (each["id"], each["name"], each["scheme"], each.get("signal") or each["template_id"], each["filter"])
        for each in page["hooks"]
    ]
    _print(page, ["HOOK", "NAME", "SCHEME", "TEMPLATE OR SIGNAL", "FILTER"], rows, json)


@command(hooks, "delete")
async def delete_hook(hook: HookId, as_: AsPerson = None, json: AsJson = False) -> None:
    """Remove a hook."""
    async with target().caller(as_, ADMIN) as rest:
        gone = await rest.call("DELETE", f"/api/v1/hooks/{quote(hook, safe='')}")
    show.print_json(gone) if json else show.console().print(f"removed {gone['id']}")


def _state(webhook: dict[str, Any]) -> str:
    if webhook["status"] == "disabled":
        return f"disabled ({webhook['disabled_reason']})"
    return "failing" if webhook.get("failing_since") else "enabled"


def _print_attempts(delivery: dict[str, Any]) -> None:
    out = show.console()
    out.print(f"{delivery['id']}  {delivery['type']}  ", show.status(delivery["status"]))
    rows = [
        (show.moment(each.get("at")), each["status"] or "", f"{each['duration_ms']} ms", each["error"] or "taken")
        for each in delivery["log"]
    ]
    if rows:
        out.print(show.table(["AT", "HTTP", "TOOK", ""], rows))


def _print_secret(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.print_json(made)
        return
    typer.echo(made["id"])
    typer.echo(made.get("secret") or made.get("public_key"))
    typer.echo("Keep the secret: it is not shown again.", err=True)


def _print(page: dict[str, Any], columns: list[str], rows: list[Any], as_json: bool) -> None:
    if as_json:
        show.print_json(page)
        return
    out = show.console()
    out.print(show.table(columns, rows) if rows else "none")
    if note := show.page_note(page, len(rows)):
        out.print(note, style="dim")
