"""`wfe approvals`: what one does before deciding, and deciding several."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from wfe_cli import show
from wfe_cli.approvals import APPROVER, Comment, Gate, find, from_now
from wfe_cli.approvals import app as app
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import UsageFault

Why = Annotated[str, typer.Option("--reason", "-r", help="Why, for the record.")]
Hours = Annotated[float, typer.Option("--hours", help="From now.")]
delegations = typer.Typer(no_args_is_help=True, help="Who decides in whose place, for a while.")
app.add_typer(delegations, name="delegations")


async def _act(approval: str, verb: str, body: dict[str, Any], person: str | None, as_json: bool, said: str) -> None:
    async with target().caller(person, APPROVER) as rest:
        gate = await find(rest, approval)
        answer = await rest.call("POST", f"/api/v1/approvals/{gate['id']}/{verb}", body=body, repeat=False)
    if as_json:
        show.print_json(answer)
    else:
        show.console().print(f"{said}: {gate['title']}")


@command(app, "claim")
async def claim(approval: Gate, as_: AsPerson = None, json: AsJson = False) -> None:
    """Say that you are at it; lapses after an hour."""
    await _act(approval, "claim", {}, as_, json, "claimed")


@command(app, "release")
async def release(approval: Gate, as_: AsPerson = None, json: AsJson = False) -> None:
    """Give a claim back."""
    await _act(approval, "release", {}, as_, json, "released")


@command(app, "withdraw")
async def withdraw(approval: Gate, reason: Why = "", as_: AsPerson = None, json: AsJson = False) -> None:
    """Take your vote back while it is open."""
    await _act(approval, "withdraw-vote", {"reason": reason}, as_, json, "vote withdrawn")


@command(app, "delegate")
async def delegate(approval: Gate, to: str, reason: Why = "", as_: AsPerson = None, json: AsJson = False) -> None:
    """Let somebody else decide this one in your place."""
    await _act(approval, "delegate", {"to": to, "reason": reason}, as_, json, f"delegated to {to}")


@command(app, "extend")
async def extend(approval: Gate, hours: Hours, reason: Why, as_: AsPerson = None, json: AsJson = False) -> None:
    """Move the deadline to so many hours from now."""
    until = from_now(hours)
    await _act(approval, "extend", {"until": until, "reason": reason}, as_, json, f"extended until {until}")


@command(app, "remind")
async def remind(approval: Gate, reason: Why = "", as_: AsPerson = None, json: AsJson = False) -> None:
    """Tell whoever listens that it still waits."""
    await _act(approval, "remind", {"reason": reason}, as_, json, "reminded")


@command(app, "bypass")
async def bypass(approval: Gate, reason: Why, as_: AsPerson = None, json: AsJson = False) -> None:
    """Approve alone, whatever the policy asks for; needs the role breakglass."""
    await _act(approval, "bypass", {"reason": reason}, as_, json, "bypassed")


@command(app, "link")
async def link(
    approval: Gate,
    to: Annotated[str, typer.Option("--to", help="For whom; yourself when absent, another only for an admin.")] = "",
    hours: Annotated[float, typer.Option(help="How long it works.")] = 24.0,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Make a one-time link; it is shown this once."""
    async with target().caller(as_, APPROVER) as rest:
        gate = await find(rest, approval)
        body = {"to": to, "expires_in_seconds": str(round(hours * 3600))}
        made = await rest.call("POST", f"/api/v1/approvals/{gate['id']}/links", body=body, repeat=False)
        if json:
            show.print_json(made)
        else:
            show.console().print(f"{rest.url}{made['path']}\nfor {made['to']} until {show.moment(made['expires_at'])}")


@command(app, "batch")
async def batch(
    decision: Annotated[str, typer.Argument(help="approve or reject.")],
    approvals: Annotated[list[str], typer.Argument(help="Ids; all of one step.")],
    comment: Comment = "",
    reason_code: Annotated[str, typer.Option(help="One of their reasons, when they are rejected.")] = "",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Decide several at once, as they are now; each has an answer of its own."""
    if decision not in ("approve", "reject"):
        raise UsageFault("the decision is approve or reject")
    async with target().caller(as_, APPROVER) as rest:
        items = []
        for approval in approvals:
            gate = await rest.get(f"/api/v1/approvals/{approval}")
            items.append({"approval_id": gate["id"], "digest": gate["digest"]})
        body = {"items": items, "decision": decision, "comment": comment, "reason_code": reason_code}
        answer = await rest.call("POST", "/api/v1/approvals/decide", body=body, repeat=True)
    if json:
        show.print_json(answer)
        return
    rows = [
        (one["approval_id"], one["status"] or "refused", one.get("message", "")) for one in answer.get("results", ())
    ]
    show.console().print(show.table(["APPROVAL", "STATUS", "WHY NOT"], rows))


@command(delegations, "list")
async def list_delegations(
    everything: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Delegations from you and to you; everybody's for an admin."""
    async with target().caller(as_, APPROVER) as rest:
        page = await rest.get("/api/v1/delegations", all=everything or None)
    if json:
        show.print_json(page)
        return
    rows = [
        (
            one["id"],
            one["delegator"],
            one["delegate"],
            show.moment(one.get("ends_at")),
            "revoked" if one.get("revoked_at") else one.get("approval_id") or "every approval",
        )
        for one in page["delegations"]
    ]
    out = show.console()
    out.print(show.table(["DELEGATION", "IN PLACE OF", "DECIDES", "UNTIL", "FOR"], rows) if rows else "none")


@command(delegations, "create")
async def create_delegation(
    to: Annotated[str, typer.Argument(help="Who is to decide.")],
    hours: Hours,
    delegator: Annotated[str, typer.Option("--for", help="In whose place; yours when absent.")] = "",
    reason: Why = "",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Let somebody decide in your place for a while."""
    body = {"delegate": to, "delegator": delegator, "ends_at": from_now(hours), "reason": reason}
    async with target().caller(as_, APPROVER) as rest:
        made = await rest.call("POST", "/api/v1/delegations", body=body, repeat=False)
    if json:
        show.print_json(made)
    else:
        show.console().print(f"{made['delegate']} decides for {made['delegator']} until {show.moment(made['ends_at'])}")


@command(delegations, "revoke")
async def revoke_delegation(delegation: str, as_: AsPerson = None, json: AsJson = False) -> None:
    """End a delegation."""
    async with target().caller(as_, APPROVER) as rest:
        ended = await rest.delete(f"/api/v1/delegations/{delegation}")
    if json:
        show.print_json(ended)
    else:
        show.console().print(f"{ended['delegate']} decides for {ended['delegator']} no more")
