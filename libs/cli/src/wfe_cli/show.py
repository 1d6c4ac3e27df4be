"""Answers for people: tables, times and colours."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wfe_stack.lazily import Lazily

if TYPE_CHECKING:
    from rich import console as rich_console
    from rich import markup, text
    from rich import table as rich_table
else:
    rich_console, markup = Lazily("rich.console"), Lazily("rich.markup")
    text, rich_table = Lazily("rich.text"), Lazily("rich.table")

#: Colour of each status of a run, a step, a gate or a template.
STYLES = {
    "pending": "dim",
    "ready": "dim",
    "running": "cyan",
    "waiting": "blue",
    "waiting_approval": "yellow",
    "paused": "magenta",
    "completed": "green",
    "failed": "red",
    "skipped": "dim",
    "cancelled": "red",
    "rolled_back": "dim strike",
    "open": "yellow",
    "approved": "green",
    "rejected": "red",
    "expired": "red",
    "published": "green",
    "draft": "yellow",
    "deprecated": "dim",
    "delivered": "green",
    "filtered": "dim",
}


def console() -> rich_console.Console:
    """Standard output; without a terminal, wide enough to cut nothing."""
    return rich_console.Console(width=None if sys.stdout.isatty() else 200, highlight=False, soft_wrap=False)


def print_json(value: Any) -> None:
    """The value as JSON, indented."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def status(word: str) -> text.Text:
    """A status in its colour."""
    return text.Text(word, style=STYLES.get(word, ""))


def moment(written: str | None) -> str:
    """A time of an answer in the local zone, without the date when it is today's; empty for none."""
    if not written:
        return ""
    when = datetime.fromisoformat(written).astimezone()
    return when.strftime("%H:%M:%S" if when.date() == datetime.now(UTC).astimezone().date() else "%Y-%m-%d %H:%M")


def took(began: str | None, ended: str | None) -> str:
    """The time between two moments, for people; empty while one is missing."""
    if not began or not ended:
        return ""
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> rich_table.Table:
    """A table without frame; texts are shown as they are, never as markup."""
    found = rich_table.Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        found.add_row(*(cell if isinstance(cell, text.Text) else markup.escape(str(cell)) for cell in row))
    return found


def page_note(page: dict[str, Any], shown: int) -> str:
    """What a page leaves out; empty when it is everything."""
    total = page.get("total", shown)
    if total <= shown:
        return ""
    more = "+" if page.get("total_is_capped") else ""
    return f"{shown} of {total}{more}; see the rest with --offset {page.get('offset', 0) + shown}"


def run_view(run: dict[str, Any]) -> rich_console.RenderableType:
    """A run with its steps, gates and error."""
    template = run.get("template") or {}
    head = text.Text.assemble(
        ("run ", "bold"),
        run["id"],
        "  ",
        f"{template.get('name', '')} v{template.get('version', '')}  ",
        status(run["status"]),
        f" ({run['phase']})" if run.get("phase") else "",
        f" [{run['reason']}]" if run.get("reason") else "",
    )
    parts: list[rich_console.RenderableType] = [head]
    if run.get("notice"):
        parts.append(text.Text(run["notice"], style="italic"))
    if run.get("steps"):
        parts.append(steps_table(run["steps"]))
    parts += [gate_line(gate) for gate in run.get("approvals") or () if gate["status"] == "open"]
    if error := run.get("error"):
        where = f" in {error['step']}" if error.get("step") else ""
        parts.append(text.Text(f"{error.get('code', '')}{where}: {error.get('message', '')}", style="red"))
    if run.get("output") is not None:
        parts.append(text.Text(f"output: {json.dumps(run['output'], ensure_ascii=False)}", overflow="ellipsis"))
    return rich_console.Group(*parts)


def steps_table(steps: Iterable[dict[str, Any]]) -> rich_table.Table:
    """The steps of a run."""
    rows = []
    for step in steps:
        name = step["path"] + (f"[{step['iteration']}]" if step.get("iteration") else "")
        tries = f"{step['attempts']}/{step['max_attempts']}" if step.get("attempts", 0) > 1 else ""
        error = step.get("error") or {}
        note = f"{error.get('code', '')}: {error.get('message', '')}" if error else ""
        if step.get("progress") is not None and step["status"] == "running":
            note = json.dumps(step["progress"], ensure_ascii=False)
        spent = took(step.get("started_at") or step.get("created_at"), step.get("ended_at"))
        rows.append((name, step.get("kind", ""), status(step["status"]), tries, spent, note))
    return table(["STEP", "KIND", "STATUS", "TRIES", "TOOK", ""], rows)


def gate_line(gate: dict[str, Any]) -> text.Text:
    """A gate on one line: the question, and who may decide it until when."""
    who = approvers(gate.get("approvers") or {})
    until = f", until {moment(gate['expires_at'])}" if gate.get("expires_at") else ""
    return text.Text.assemble(("? ", "bold yellow"), gate["title"], f"  ({who}{until})  {gate['id']}")


def approvers(who: dict[str, Any]) -> str:
    """Who may decide, in words."""
    words = [*who.get("users", ()), *(f"group {name}" for name in who.get("groups", ()))]
    words += [f"role {name}" for name in who.get("roles", ())]
    return ", ".join(words) or "every approver"


def event_line(event: dict[str, Any]) -> text.Text:
    """An event on one line."""
    data = event.get("data") or {}
    said = [str(data[name]) for name in ("step", "title", "comment") if data.get(name)]
    fault = data.get("fault") or {}
    if fault:
        said.append(f"{fault.get('code', '')}: {fault.get('message', '')}")
    if event.get("reason"):
        said.append(event["reason"])
    style = STYLES.get(str(event["type"]).rpartition(".")[2], "")
    return text.Text.assemble(
        (f"{moment(event.get('at')):>8} ", "dim"),
        (f"{event['seq']:>4} ", "dim"),
        (f"{event['type']:<20} ", style),
        "  ".join(said),
    )
