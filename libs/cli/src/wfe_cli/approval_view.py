"""One approval for people."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from wfe_cli import show


def approval_view(gate: dict[str, Any]) -> RenderableType:
    """Everything of an approval somebody decides by."""
    parts: list[RenderableType] = [
        Text.assemble(
            (gate["title"], "bold"), "  ", show.status(gate["status"]), f"  risk {gate.get('risk', 'medium')}"
        )
    ]
    if gate.get("body"):
        parts.append(Text(gate["body"]))
    parts += [
        Text(f"{name.replace('_', ' ')}: {_value(gate, name)}")
        for name in ("payload", "edited_payload", "diff", "form_values")
        if name in gate
    ]
    if gate.get("diff_left_out"):
        parts.append(Text(f"no diff: {gate['diff_left_out']}"))
    quorum = gate.get("quorum") or {}
    parts += [
        Text(f"{block.get('have', 0)} of {block['need']} from {show.approvers(block.get('who') or {})}")
        for block in quorum.get("blocks", ())
    ]
    if quorum.get("reject_have"):
        parts.append(Text(f"{quorum['reject_have']} of {quorum['reject_need']} rejections"))
    for vote in gate.get("votes", ()):
        behalf = f" for {vote['on_behalf_of']}" if vote.get("on_behalf_of") else ""
        void = "" if vote.get("counts", True) else " (of an earlier payload)"
        said = f": {vote['comment']}" if vote.get("comment") else ""
        parts.append(Text(f"  {vote['name']}{behalf} {vote['vote']}{void}{said}"))
    if gate.get("expires_at"):
        parts.append(Text(f"{gate['on_expiry']} at {show.moment(gate['expires_at'])}"))
    if gate.get("replaced_by"):
        parts.append(Text(f"asked anew: {gate['replaced_by']}", style="yellow"))
    if gate.get("nobody_can"):
        parts.append(Text("nobody can approve it as it is", style="red"))
    parts.append(Text("you may decide it" if gate.get("can_decide") else gate.get("why_not", ""), style="dim"))
    parts.append(Text(f"digest {gate['digest']}", style="dim"))
    return Group(*parts)


def _value(gate: dict[str, Any], name: str) -> str:
    value = gate[name]
    if isinstance(value, dict) and set(value) == {"$blob", "bytes"}:
        return f"{value['bytes']} bytes; see them with: wfe runs blob {gate['workflow_id']} {value['$blob']}"
    return json.dumps(value, indent=2, ensure_ascii=False)
