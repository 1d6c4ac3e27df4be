"""One approval for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from wfe_stack.lazily import Lazily

from wfe_cli import show

if TYPE_CHECKING:
    from rich import console, text
else:
    console, text = Lazily("rich.console"), Lazily("rich.text")


def approval_view(gate: dict[str, Any]) -> console.RenderableType:
    """Everything of an approval somebody decides by."""
    parts: list[console.RenderableType] = [
        text.Text.assemble(
            (gate["title"], "bold"), "  ", show.status(gate["status"]), f"  risk {gate.get('risk', 'medium')}"
        )
    ]
    if gate.get("body"):
        parts.append(text.Text(gate["body"]))
    parts += [
        text.Text(f"{name.replace('_', ' ')}: {_value(gate, name)}")
        for name in ("payload", "edited_payload", "diff", "form_values")
        if name in gate
    ]
    if gate.get("diff_left_out"):
        parts.append(text.Text(f"no diff: {gate['diff_left_out']}"))
    quorum = gate.get("quorum") or {}
    parts += [
        text.Text(f"{block.get('have', 0)} of {block['need']} from {show.approvers(block.get('who') or {})}")
        for block in quorum.get("blocks", ())
    ]
    if quorum.get("reject_have"):
        parts.append(text.Text(f"{quorum['reject_have']} of {quorum['reject_need']} rejections"))
    for vote in gate.get("votes", ()):
        behalf = f" for {vote['on_behalf_of']}" if vote.get("on_behalf_of") else ""
        void = "" if vote.get("counts", True) else " (of an earlier payload)"
        said = f": {vote['comment']}" if vote.get("comment") else ""
        parts.append(text.Text(f"  {vote['name']}{behalf} {vote['vote']}{void}{said}"))
    if gate.get("expires_at"):
        parts.append(text.Text(f"{gate['on_expiry']} at {show.moment(gate['expires_at'])}"))
    if gate.get("replaced_by"):
        parts.append(text.Text(f"asked anew: {gate['replaced_by']}", style="yellow"))
    if gate.get("nobody_can"):
        parts.append(text.Text("nobody can approve it as it is", style="red"))
    parts.append(text.Text("you may decide it" if gate.get("can_decide") else gate.get("why_not", ""), style="dim"))
    parts.append(text.Text(f"digest {gate['digest']}", style="dim"))
    return console.Group(*parts)


def _value(gate: dict[str, Any], name: str) -> str:
    value = gate[name]
    if isinstance(value, dict) and set(value) == {"$blob", "bytes"}:
        return f"{value['bytes']} bytes; see them with: wfe runs blob {gate['workflow_id']} {value['$blob']}"
    return json.dumps(value, indent=2, ensure_ascii=False)
