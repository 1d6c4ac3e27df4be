"""Why a step waits that needs no executor: for people, for time, a signal, a callback or a run of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from wfe_store.explaining import Wait, WaitingGate

from wfe_scheduler.explanations import YOUNG, Explanation


def explain(wait: Wait, now: datetime) -> Explanation:
    """Why a step waits, and what helps."""
    if wait.kind == "workflow":
        return _child(wait, now)
    if wait.kind == "wait_for":
        return _signal(wait)
    return Explanation(
        reason="WAITING_TIME",
        message="it waits for a moment to come",
        step=wait.path,
        since=wait.since,
        until=wait.due_at,
    )


def explain_gate(gate: WaitingGate, now: datetime) -> Explanation:
    """Why a gate is not decided, and what helps."""
    where: dict[str, Any] = {"step": gate.path, "since": gate.created_at}
    details = {"approval_id": str(gate.id)}
    late = min((at for at in (gate.opens_at, gate.expires_at) if at is not None and now - at > YOUNG), default=None)
    if late is not None:
        what = "the moment its gate opens at" if gate.opens_at is not None else "the deadline of its gate"
        return Explanation(
            reason="GATE_LATE",
            message=f"{what} has come and no approvals service has taken it up: {gate.title}",
            action="see whether approvals services run and reach Postgres; they look once a second",
            details=details,
            **where | {"since": late},
        )
    if gate.opens_at is not None:
        return Explanation(
            reason="GATE_SCHEDULED",
            message=f"its gate is not open yet: {gate.title}",
            action="nothing; nobody can decide it before then",
            until=gate.opens_at,
            details=details,
            **where,
        )
    so_far = f" ({gate.votes} voted so far)" if gate.votes else ""
    taken = f"; {gate.claimed_by} has taken it upon themselves" if gate.claimed_by else ""
    if gate.votes:
        details["votes"] = str(gate.votes)
    if gate.claimed_by:
        details["claimed_by"] = gate.claimed_by
    if gate.level:
        details["escalations"] = str(gate.level)
    return Explanation(
        reason="WAITING_APPROVAL",
        message=f"it waits for people: {gate.title}{so_far}{taken}",
        action=f"approve or reject {gate.id}",
        until=gate.expires_at,
        details=details,
        **where,
    )


def _signal(wait: Wait) -> Explanation:
    params = _params(wait.params)
    signals = [str(name) for name in params.get("signals") or ()]
    callback = str(params.get("callback") or "")
    details = {}
    if signals:
        details["signals"] = ", ".join(signals)
    if callback:
        details["callback"] = callback
    if callback and not signals:
        return Explanation(
            reason="WAITING_CALLBACK",
            message=f"it waits for the other side of callback {callback} to answer",
            action=f"see whether the other side was told its address (run.callbacks.{callback}) and is at work",
            step=wait.path,
            since=wait.since,
            until=wait.due_at,
            details=details,
        )
    either = f" or an answer to callback {callback}" if callback else ""
    named = " or ".join(signals) or "(its names are too large to show)"
    return Explanation(
        reason="WAITING_SIGNAL",
        message=f"it waits for signal {named}{either}",
        action="send what it waits for",
        step=wait.path,
        since=wait.since,
        until=wait.due_at,
        details=details,
    )


def _child(wait: Wait, now: datetime) -> Explanation:
    details = {} if wait.child is None else {"child": str(wait.child), "child_status": wait.child_status or "none"}
    where: dict[str, Any] = {"step": wait.path, "details": details}
    if wait.child is None or wait.wished_at is None:
        return Explanation(
            reason="STUCK",
            message="it waits for a run of its own that nothing is known of any more",
            action="this is a fault of the engine: report it with the run's events; retry the step",
            since=wait.since,
            **where,
        )
    if not wait.done and now - wait.wished_at > YOUNG:
        return Explanation(
            reason="CHILD_UNTOLD",
            message=f"no scheduler has carried out that it wants to {wait.wish} run {wait.child}",
            action="see whether schedulers run and reach Postgres; it is tried again every second",
            since=wait.wished_at,
            **where,
        )
    if wait.done and wait.child_ended_at is not None and now - wait.child_ended_at > YOUNG:
        return Explanation(
            reason="CHILD_UNTOLD",
            message=f"run {wait.child} has {_ended(wait.child_status)}, and it was not told",
            action="see whether schedulers run and reach Postgres; it is told again every second",
            since=wait.child_ended_at,
            **where,
        )
    return Explanation(
        reason="WAITING_CHILD",
        message=f"it waits for run {wait.child}, which is {wait.child_status or 'about to begin'}",
        action=f"ask why {wait.child} is not moving",
        since=wait.since,
        **where,
    )


def _ended(status: str | None) -> str:
    return "been cancelled" if status == "cancelled" else status or "ended"


def _params(text: str | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
