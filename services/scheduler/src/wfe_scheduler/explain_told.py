"""Why does a schedule not fire, why is a webhook not told: one reason and what helps, from facts."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from wfe_store.explaining_told import ScheduleFacts, WebhookFacts

from wfe_scheduler.explanations import YOUNG, Explanation

#: What approvals services look for several times a second is late after this time.
_LATE = timedelta(seconds=10)


def explain_schedule(facts: ScheduleFacts) -> Explanation:
    """Why a schedule does not start a run now."""
    details = {"overlap": facts.overlap}
    if facts.active:
        details["active"] = ", ".join(map(str, facts.active))
    if facts.last_at is not None:
        details |= {"last_firing": f"{facts.last_at:%Y-%m-%dT%H:%M:%SZ}", "last_status": facts.last_status or ""}
    found = _schedule(facts)
    return msgspec.structs.replace(found, details=details | found.details)


def _schedule(facts: ScheduleFacts) -> Explanation:
    if facts.paused_at is not None:
        return Explanation(
            reason="PAUSED", message="it is paused; nothing fires", action="resume it", since=facts.paused_at
        )
    if facts.open_at is not None and facts.open_status == "due" and facts.active and facts.overlap in _WAITS:
        return Explanation(
            reason="OVERLAP",
            message=f"the firing of {facts.open_at:%Y-%m-%dT%H:%M:%SZ} {_WAITS[facts.overlap]} {facts.active[0]}",
            action=f"ask why {facts.active[0]} is not moving",
            since=facts.open_at,
            details={"run": str(facts.active[0])},
        )
    late = facts.open_at or facts.next_at
    if late is not None and facts.now - late > YOUNG:
        return Explanation(
            reason="FIRING_LATE",
            message="a moment it fires at has come and no scheduler has started its run",
            action="see whether schedulers run, reach Postgres and keep up; they look once a second",
            since=late,
        )
    if facts.open_at is not None:
        return Explanation(reason="HANDED_OUT", message="it fires at this moment", since=facts.open_at)
    if facts.next_at is None:
        return Explanation(
            reason="NEVER", message="its cron names no further moment", action="update the schedule with another cron"
        )
    if facts.last_status in _LAST:
        reason, said, action = _LAST[facts.last_status]
        run = f"; ask why {facts.active[0]} is not moving" if facts.last_status == "skipped" and facts.active else ""
        return Explanation(
            reason=reason,
            message=f"its last firing {said}: {facts.last_reason}",
            action=action + run,
            since=facts.last_at,
            until=facts.next_at,
        )
    return Explanation(reason="WAITING_TIME", message="it waits for its next moment", until=facts.next_at)


_WAITS = {"queue": "waits for the end of run", "cancel": "waits until it has cancelled run"}
_LAST = {
    "skipped": ("SKIPPED", "was skipped", "choose another overlap policy where every firing counts"),
    "missed": ("MISSED", "was missed", "a longer catch_up_seconds, where firings count that are late"),
    "failed": ("FAILED", "failed", "mend what the code says; the next firing tries again"),
}


def explain_webhook(facts: WebhookFacts) -> Explanation:
    """Why a webhook is not told, or not at once."""
    found = _webhook(facts)
    details = {"pending": str(facts.pending), "failed": str(facts.failed)}
    return msgspec.structs.replace(found, details=details | found.details)


def _webhook(facts: WebhookFacts) -> Explanation:
    if facts.disabled_at is not None:
        why = {
            "asked": "somebody disabled it",
            "gone": "its receiver answered 410",
            "failing": "it failed for too long",
        }
        return Explanation(
            reason="DISABLED",
            message=f"it is told nothing: {why[facts.disabled_reason]}",
            action="enable it, once its receiver is well; deliveries that failed can be sent again",
            since=facts.disabled_at,
            details={"disabled_reason": facts.disabled_reason},
        )
    if facts.active_from is None:
        return Explanation(
            reason="STARTING", message="it is made sure that every scheduler knows of it; that takes seconds"
        )
    if facts.paused_until is not None and facts.paused_until > facts.now:
        return Explanation(
            reason="RECEIVER_BUSY",
            message="its receiver is overloaded and asked to be left alone",
            until=facts.paused_until,
            details=_last(facts),
        )
    late = min((at for at in (facts.due_since, facts.outbox_since) if at is not None), default=None)
    if late is not None and facts.now - late > _LATE:
        return Explanation(
            reason="TOLD_LATE",
            message="what it is to be told waits, and no approvals service has taken it up",
            action="see whether approvals services run and keep up (wfe_webhook_due_oldest_seconds)",
            since=late,
        )
    if facts.attempts and facts.next_at is not None:
        last = _last(facts)
        return Explanation(
            reason="RETRY_LATER",
            message=f"attempt {facts.attempts} failed: {last.get('error') or 'no error is known'}",
            action="mend its receiver; the delivery's log has each attempt",
            since=facts.failing_since,
            until=facts.next_at,
            details=last | {"attempts": str(facts.attempts)},
        )
    if facts.pending:
        return Explanation(reason="MOVING", message="it is being told", until=facts.next_at)
    return Explanation(reason="IDLE", message="it was told everything")


def _last(facts: WebhookFacts) -> dict[str, str]:
    """Status and error of the newest attempt."""
    try:
        found = msgspec.json.decode(facts.last or "{}")
    except msgspec.DecodeError:
        return {}
    kept = {name: str(found.get(name) or "")[:500] for name in ("status", "error")}
    return {name: value for name, value in kept.items() if value}
