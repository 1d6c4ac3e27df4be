"""`wfe approvals`: what waits for a decision, and deciding it."""

from __future__ import annotations

import json as jsonlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import typer
from wfe_stack.rest import Rest

from wfe_cli import show
from wfe_cli.approval_view import approval_view
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import UsageFault

app = typer.Typer(no_args_is_help=True, help="See what waits for a decision, and decide it.")
APPROVER = "ada"

Gate = Annotated[str, typer.Argument(metavar="APPROVAL", help="Id of the approval, or of a run with one open.")]
Comment = Annotated[str, typer.Option("--comment", "-c", help="For the record.")]
Digest = Annotated[str, typer.Option(help="Refuse when it is not this any more.")]
Behalf = Annotated[str, typer.Option(help="Decide in this person's place, who must have said so.")]


@command(app, "list")
async def list_approvals(
    status: Annotated[str | None, typer.Option(help="open when absent; all for every status.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only those the caller may decide.")] = False,
    run: Annotated[str | None, typer.Option(help="Only those of this run.")] = None,
    risk: Annotated[str | None, typer.Option(help="Only of this risk: low, medium or high.")] = None,
    template: Annotated[str | None, typer.Option(help="Only of runs of this template.")] = None,
    claimed: Annotated[bool, typer.Option("--claimed", help="Only those the caller has claimed.")] = False,
    due: Annotated[float | None, typer.Option(help="Only those that expire within so many hours.")] = None,
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
            risk=risk,
            template=template,
            claimed=claimed or None,
            due_before=None if due is None else from_now(due),
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


@command(app, "count")
async def count(as_: AsPerson = None, json: AsJson = False) -> None:
    """How many wait."""
    async with target().caller(as_, APPROVER) as rest:
        counts = await rest.get("/api/v1/approval-counts")
    if json:
        show.print_json(counts)
    else:
        show.console().print(", ".join(f"{name.replace('_', ' ')} {number}" for name, number in counts.items()))


@command(app, "show")
async def show_approval(approval: Gate, as_: AsPerson = None, json: AsJson = False) -> None:
    """One approval: what is asked, what it needs, who has said what."""
    async with target().caller(as_, APPROVER) as rest:
        gate = await rest.get(f"/api/v1/approvals/{(await find(rest, approval))['id']}")
    if json:
        show.print_json(gate)
    else:
        show.console().print(approval_view(gate))


@command(app, "preview")
async def preview(approval: Gate, as_: AsPerson = None, json: AsJson = False) -> None:
    """What follows from each answer, as far as it is known."""
    async with target().caller(as_, APPROVER) as rest:
        found = await rest.get(f"/api/v1/approvals/{(await find(rest, approval))['id']}/preview")
    if json:
        show.print_json(found)
        return
    rows = []
    for outcome in found.get("outcomes", ()):
        name = outcome["answer"] + (f" ({outcome['outcome']})" if outcome["outcome"] else "")
        rows.append((name, outcome["run"].replace("_", " "), "", "", ""))
        rows += [
            ("", step["path"], step["effect"], step["target"], step["undo"].replace("_", " "))
            for step in outcome.get("steps", ())
        ]
        rows += [("", path, "another approval", "", "") for path in outcome.get("gates", ())]
    show.console().print(show.table(["ANSWER", "THEN", "EFFECT", "TARGET", "UNDO"], rows) if rows else "it is closed")


@command(app, "approve")
async def approve(
    approval: Gate,
    comment: Comment = "",
    form: Annotated[str, typer.Option(help="What its form asks for, as JSON.")] = "",
    edit: Annotated[list[str] | None, typer.Option(help="A change of the payload: /pointer=JSON.")] = None,
    digest: Digest = "",
    on_behalf_of: Behalf = "",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Approve; the run goes on once everybody has who must."""
    more: dict[str, Any] = {"form": parsed(form, "--form")} if form else {}
    if edit:
        more["edits"] = [_edit(text) for text in edit]
    await _decide(approval, "approve", comment, as_, json, {**more, **_given(on_behalf_of=on_behalf_of)}, digest)


@command(app, "reject")
async def reject(
    approval: Gate,
    comment: Comment = "",
    reason_code: Annotated[str, typer.Option(help="One of its reasons.")] = "",
    outcome: Annotated[str, typer.Option(help="What it means: fail or branch:NAME.")] = "",
    digest: Digest = "",
    on_behalf_of: Behalf = "",
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """Reject; the run fails unless its template says otherwise."""
    more = _given(reason_code=reason_code, outcome=outcome, on_behalf_of=on_behalf_of)
    await _decide(approval, "reject", comment, as_, json, more, digest)


@command(app, "revise")
async def revise(
    approval: Gate, comment: Comment = "", digest: Digest = "", as_: AsPerson = None, json: AsJson = False
) -> None:
    """Send it back with a reason; it is asked anew once that is done."""
    await _decide(approval, "revise", comment, as_, json, {"decision": "revise"}, digest)


async def find(rest: Rest, approval: str) -> dict[str, Any]:
    """The approval of an id, or the one that is open at a run.

    Raises:
        UsageFault: The run has several.
    """
    opened = (await rest.get("/api/v1/approvals", workflow_id=approval))["approvals"]
    if len(opened) > 1:
        ids = ", ".join(gate["id"] for gate in opened)
        raise UsageFault(f"the run has {len(opened)} open approvals; name one of {ids}")
    found: dict[str, Any] = opened[0] if opened else await rest.get(f"/api/v1/approvals/{quote(approval, safe='')}")
    return found


def from_now(hours: float) -> str:
    """The moment so many hours from now, as the API has it."""
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def parsed(text: str, option: str) -> Any:
    """The JSON of an option.

    Raises:
        UsageFault: It is none.
    """
    try:
        return jsonlib.loads(text)
    except ValueError as fault:
        raise UsageFault(f"{option} is not JSON: {fault}") from None


def _edit(text: str) -> dict[str, Any]:
    path, equals, value = text.partition("=")
    if not equals:
        raise UsageFault(f"--edit {text} has no value; write /pointer=JSON")
    return {"path": path, "value": parsed(value, f"--edit {path}")}


def _given(**options: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


async def _decide(
    approval: str, decision: str, comment: str, person: str | None, as_json: bool, more: dict[str, Any], digest: str
) -> None:
    async with target().caller(person, APPROVER) as rest:
        gate = await find(rest, approval)
        body = _given(comment=comment, expected_digest=digest)
        if more:
            path = f"/api/v1/approvals/{gate['id']}/decide"
            body = {**body, "decision": decision, **more}
        else:
            path = f"/api/v1/workflows/{gate['workflow_id']}/approvals/{gate['id']}/{decision}"
        # The same decision by the same person again gives the same answer, so it may be repeated.
        decided = await rest.call("POST", path, body=body, repeat=True)
    if as_json:
        show.print_json(decided)
        return
    quorum = decided.get("quorum") or {}
    left = f" ({quorum['have']} of {quorum['need']})" if decided["status"] == "open" and quorum else ""
    show.console().print(f"{decided['status']}{left}: {decided['title']}")
