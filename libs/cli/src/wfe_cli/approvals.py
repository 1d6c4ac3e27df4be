"""`wfe approvals`: what waits for a decision, and deciding it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from wfe_cli import show
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import UsageFault

app = typer.Typer(no_args_is_help=True, help="See what waits for a decision, and decide it.")
APPROVER = "ada"

Gate = Annotated[str, typer.Argument(metavar="APPROVAL", help="Id of the approval, or of a run with one open.")]
Comment = Annotated[str, typer.Option("--comment", "-c", help="For the record.")]


@command(app, "list")
async def list_approvals(
    status: Annotated[str | None, typer.Option(help="open when absent; all for every status.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only those the caller may decide.")] = False,
    run: Annotated[str | None, typer.Option(help="Only those of this run.")] = None,
    limit: Annotated[int, typer.Option(help="At most 200.")] = 50,
    offset: Annotated[int, typer.Option(help="Approvals to pass over.")] = 0,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """The inbox, oldest first."""
    async with target().caller(as_, APPROVER) as rest:
        page = await rest.get(
            "/api/v1/approvals",
            status=status,
            mine=mine or None,
            workflow_id=run,
            limit=limit,
            offset=offset,
        )
    if json:
        show.print_json(page)
        return
    rows = [
        (
            gate["id"],
            show.status(gate["status"]),
            gate["title"],
            show.approvers(gate.get("approvers") or {}),
            show.moment(gate.get("expires_at")),
            gate["workflow_id"],
        )
        for gate in page["approvals"]
    ]
    out = show.console()
    out.print(show.table(["APPROVAL", "STATUS", "QUESTION", "WHO", "UNTIL", "RUN"], rows) if rows else "nothing waits")
    if note := show.page_note(page, len(rows)):
        out.print(note, style="dim")


@command(app, "approve")
async def approve(approval: Gate, comment: Comment = "", as_: AsPerson = None, json: AsJson = False) -> None:
    """Approve; the run goes on."""
    await _decide(approval, "approve", comment, as_, json)


@command(app, "reject")
async def reject(approval: Gate, comment: Comment = "", as_: AsPerson = None, json: AsJson = False) -> None:
    """Reject; the run fails unless its template says otherwise."""
    await _decide(approval, "reject", comment, as_, json)


async def _decide(approval: str, decision: str, comment: str, person: str | None, as_json: bool) -> None:
    async with target().caller(person, APPROVER) as rest:
        opened = (await rest.get("/api/v1/approvals", workflow_id=approval))["approvals"]
        if len(opened) > 1:
            ids = ", ".join(gate["id"] for gate in opened)
            raise UsageFault(f"the run has {len(opened)} open approvals; name one of {ids}")
        gate = opened[0] if opened else await rest.get(f"/api/v1/approvals/{quote(approval, safe='')}")
        path = f"/api/v1/workflows/{gate['workflow_id']}/approvals/{gate['id']}/{decision}"
        # The same decision by the same person again gives the same answer, so it may be repeated.
        decided = await rest.call("POST", path, body={"comment": comment} if comment else {}, repeat=True)
    if as_json:
        show.print_json(decided)
    else:
        show.console().print(f"{decided['status']}: {decided['title']}")
