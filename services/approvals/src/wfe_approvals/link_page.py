"""The page a link opens for people: everything in one answer, no script, nothing from elsewhere.

Whatever a template, a payload or a person says is text here, never markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
from collections.abc import Iterable
from html import escape

from wfe.api.v1 import workflow_pb2
from wfe_engine.errors import WfeError
from wfe_store.blobs import referred

from wfe_approvals.differences import plain

#: Characters of a payload that are shown.
MOST_SHOWN = 64 * 1024

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;"
    "background:#fff}h1{font-size:1.4rem}pre{background:#f4f4f4;padding:1rem;overflow:auto;white-space:pre-wrap;"
    "overflow-wrap:anywhere}.text{white-space:pre-wrap;overflow-wrap:anywhere}dt{font-weight:600}"
    "dd{margin:0 0 .5rem}label{display:block;margin:.75rem 0 .25rem}textarea,select{width:100%;font:inherit;"
    "box-sizing:border-box}button{font:inherit;padding:.5rem 1.25rem;margin:1rem .5rem 0 0}"
    ".note{border-left:4px solid #b58900;padding-left:.75rem}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_ALLOWED = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; style-src 'sha256-"
#: Beside the headers of every answer: nothing runs, nothing is fetched, nobody frames it.
HEADERS = (("content-security-policy", f"{_ALLOWED}{_STYLE_HASH}'"), ("x-frame-options", "DENY"), ("vary", "accept"))
_BUTTONS = {"approve": "Approve", "reject": "Reject", "revise": "Send back"}
_TITLES = {
    "LINK_USED": "This link was used",
    "LINK_EXPIRED": "This link has expired",
    "LINK_STALE": "This link is out of date",
    "LINK_NEEDS_SESSION": "A link is not enough for this one",
    "GATE_CLOSED": "This is decided or withdrawn",
    "NOT_FOUND": "There is no such link",
}


def question(
    approval: workflow_pb2.Approval, payload: str | None, person: str, answers: Iterable[str], why_not: str = ""
) -> str:
    """The page of an open gate.

    Args:
        approval: The gate, as the one the link is for sees it.
        payload: JSON text of what an approval approves; None without.
        person: Whom the link is for.
        answers: What he can say by it; none when a link is not enough.
        why_not: What stands against the answers that are missing; a sentence.
    """
    parts = [f"<h1>{text(approval.title)}</h1>"]
    if approval.body:
        parts.append(f'<div class="text">{text(approval.body)}</div>')
    if payload is not None:
        parts += ["<h2>What is to be approved</h2>", f"<pre>{text(_payload(payload))}</pre>"]
    parts.append(
        "<dl>" + "".join(f"<dt>{name}</dt><dd>{text(value)}</dd>" for name, value in _facts(approval)) + "</dl>"
    )
    if why_not:
        parts.append(f'<p class="note">{text(why_not)}</p>')
    known = list(answers)
    if known:
        parts.append(_form(approval, person, known))
    return _page(approval.title, parts)


def answered(approval: workflow_pb2.Approval) -> str:
    """The page after a decision."""
    quorum = approval.quorum
    if approval.status == "open":
        said = f"Your answer is kept. It has {quorum.have} of {quorum.need} approvals and is still open."
    else:
        said = f"It is {approval.status}."
    return _page(approval.title, [f"<h1>{text(approval.title)}</h1>", f'<p class="note">{text(said)}</p>'])


def refused(fault: WfeError) -> str:
    """The page of a refusal."""
    title = _TITLES.get(fault.reason, "This cannot be done")
    said = [fault.message]
    successor = fault.metadata.get("replaced_by")
    if successor:
        said.append("A new link is needed for the new one.")
    parts = [f"<h1>{text(title)}</h1>", *(f'<p class="note">{text(one)}</p>' for one in said)]
    return _page(title, parts)


def text(value: str) -> str:
    """A text as HTML shows it. Characters that hide others or turn them around are spelt out."""
    return escape("".join(_visible(character) for character in value), quote=True)


def _visible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def _payload(payload: str) -> str:
    blob = referred(payload)
    if blob is not None:
        return f"{blob[1]} bytes, too much for a page. Sign in to see them."
    shown = json.dumps(plain(payload), indent=2, ensure_ascii=False)
    if len(shown) > MOST_SHOWN:
        return f"{shown[:MOST_SHOWN]}\n… {len(shown) - MOST_SHOWN} characters more. Sign in to see them."
    return shown


def _facts(approval: workflow_pb2.Approval) -> Iterable[tuple[str, str]]:
    yield "Step", approval.step + (f" [{approval.iteration}]" if approval.iteration else "")
    if approval.approves:
        yield "Lets run", approval.approves
    blocks = [f"{block.have} of {block.need} from {_who(block.who)}" for block in approval.quorum.blocks]
    yield "Needs", "\n".join(blocks)
    if approval.starter_excluded:
        yield "Not by", "whoever started the run"
    if approval.HasField("expires_at"):
        until = approval.expires_at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S UTC")
        yield "Until", f"{until}, then: {approval.on_expiry}"
    yield "Risk", approval.risk
    if approval.round:
        yield "Sent back", f"{approval.round} of at most {approval.max_rounds} times"
    for vote in approval.votes:
        said = f": {vote.comment}" if vote.comment else ""
        yield text(vote.name), f"{vote.vote}{said}"


def _who(who: workflow_pb2.Approvers) -> str:
    named = [f"{kind} {name}" for kind, names in (("user", who.users), ("group", who.groups), ("role", who.roles))
             for name in names]  # fmt: skip
    return " or ".join(named) or "any approver"


def _form(approval: workflow_pb2.Approval, person: str, answers: list[str]) -> str:
    options = list(approval.reject_options)
    outcomes = [outcome for outcome in approval.reject_outcomes if outcome != "revise"]
    parts = [
        f'<form method="post"><p>You decide as <b>{text(person)}</b>.</p>',
        f'<label for="comment">Comment{" (why, when you reject it)" if approval.reason_required else ""}</label>',
        '<textarea id="comment" name="comment" rows="3" maxlength="4000"></textarea>',
    ]
    if "reject" in answers and options:
        parts.append(_select("reason_code", "Reason, when you reject it", ["", *options]))
    if "reject" in answers and len(outcomes) > 1:
        parts.append(_select("outcome", "What a rejection means", outcomes))
    parts += [f'<button name="decision" value="{answer}">{_BUTTONS[answer]}</button>' for answer in answers]
    return "".join([*parts, "</form>"])


def _select(name: str, label: str, values: Iterable[str]) -> str:
    options = "".join(f'<option value="{text(value)}">{text(value) or "—"}</option>' for value in values)
    return f'<label for="{name}">{label}</label><select id="{name}" name="{name}">{options}</select>'


def _page(title: str, parts: Iterable[str]) -> str:
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>"
    )
    return "".join([head, *parts, "</body></html>\n"])
