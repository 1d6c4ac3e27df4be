"""Why is it not moving: one reason and what helps, from facts. Plain functions; the first rule that fits wins."""

from __future__ import annotations

from datetime import datetime

import msgspec
from wfe_store.explaining import LiveStep, QueueExecutors, QueueFacts, RunFacts

from wfe_scheduler import waits
from wfe_scheduler.explanations import YOUNG, Explanation

#: What executors do for a step, by its kind, where "work on it" says too little.
_DOES = {
    "http": "makes its call",
    "mcp": "calls a tool of an MCP server",
    "model": "waits for an answer of the agent's model",
}


def explain_run(facts: RunFacts) -> Explanation:
    """Why a run is not moving."""
    found = _run(facts)
    if not facts.phase or facts.ended_at is not None:
        return found
    # What it is busy with: its steps are compensations, or the last ones before an end that is settled already.
    message = f"while {facts.phase}: {found.message}"
    return msgspec.structs.replace(found, message=message, details=found.details | {"phase": facts.phase})


def _run(facts: RunFacts) -> Explanation:
    if facts.ended_at is not None:
        return _ended(facts)
    if facts.status == "paused":
        return Explanation(
            reason="PAUSED",
            message="it is paused; steps in flight finish, nothing else is handed out",
            action="resume it",
            since=facts.updated_at,
        )
    untold = [gate for gate in facts.gates if gate.decided_at and facts.now - gate.decided_at > YOUNG]
    if untold:
        return Explanation(
            reason="DECISION_UNTOLD",
            message="a decision of its gate has not reached it",
            action="see whether schedulers run and reach NATS; the decision is told again every second",
            step=untold[0].path,
            since=untold[0].decided_at,
            details={"approval_id": str(untold[0].id)},
        )
    leased = [step for step in facts.steps if step.executor]
    if leased:
        return _leased(facts, leased[0])
    ready = [step for step in facts.steps if not step.held and step.available_at <= facts.now]
    if ready:
        step = ready[0]
        return _ready(step, facts.executors.get(step.queue, QueueExecutors()), facts.now, facts.held)
    later = sorted((step for step in facts.steps if not step.held), key=lambda step: step.available_at)
    if later:
        step = later[0]
        return Explanation(
            reason="RETRY_LATER",
            message=f"attempt {step.attempt} of {step.max_attempts} waits for its back-off: {_fault(step.error)}",
            action="nothing, or mend what the last attempt failed of before then",
            step=step.path,
            until=step.available_at,
            details={"attempt": str(step.attempt), "queue": step.queue},
        )
    return _waiting(facts)


def _ended(facts: RunFacts) -> Explanation:
    retryable = facts.status in ("failed", "cancelled")
    why = f": {_fault(facts.error)}" if facts.error else f": {facts.reason}" if facts.reason else ""
    return Explanation(
        reason="ENDED",
        message=f"it has {facts.status}{why}" if facts.status != "cancelled" else f"it was cancelled{why}",
        action="retry it, once the cause is mended" if retryable else "",
        since=facts.ended_at,
    )


def _leased(facts: RunFacts, step: LiveStep) -> Explanation:
    details = {"executor": step.executor, "attempt": str(step.attempt), "queue": step.queue, "kind": step.kind}
    if step.alive_until is not None and step.alive_until < facts.now:
        return Explanation(
            reason="EXECUTOR_SILENT",
            message=f"executor {step.executor} has gone silent; its steps are about to be given to others",
            action="see why that executor ended; if this lasts longer than a few seconds, whether schedulers run",
            step=step.path,
            since=step.alive_until,
            details=details,
        )
    return Explanation(
        reason="STEP_RUNS",
        message=f"executor {step.executor} {_DOES.get(step.kind, 'works on it')},"
        f" attempt {step.attempt} of {step.max_attempts}",
        action="nothing; if it takes too long, give the step a timeout, or cancel the run",
        step=step.path,
        since=step.leased_at,
        details=details,
    )


def _ready(step: LiveStep, executors: QueueExecutors, now: datetime, held: str | None) -> Explanation:
    details = {"queue": step.queue}
    if held is not None:
        return Explanation(
            reason="DISPATCH_HELD",
            message=f"an operator holds dispatch ({held}): no step is handed out",
            action="wfe admin dispatch release",
            step=step.path,
            since=step.available_at,
            details=details,
        )
    if not executors.taking:
        stopping = f"; {executors.stopping} are stopping" if executors.stopping else ""
        return Explanation(
            reason="NO_EXECUTOR",
            message=f"no live executor serves queue {step.queue}{stopping}",
            action=f"start an executor with WFE_EXECUTOR_QUEUES={step.queue}",
            step=step.path,
            since=step.available_at,
            details=details,
        )
    if step.handler and step.handler not in executors.handlers:
        return Explanation(
            reason="NO_HANDLER",
            message=f"none of the {executors.taking} executors of queue {step.queue} knows handler {step.handler}",
            action="name its module in WFE_HANDLERS of those executors",
            step=step.path,
            since=step.available_at,
            details=details | {"handler": step.handler},
        )
    if now - step.available_at < YOUNG:
        return Explanation(
            reason="HANDED_OUT",
            message="it became ready a moment ago and is being handed out",
            step=step.path,
            since=step.available_at,
            details=details,
        )
    return Explanation(
        reason="EXECUTORS_BUSY",
        message=f"all {executors.taking} executors of queue {step.queue} are busy, or others come before it",
        action="more executors for the queue, or more WFE_EXECUTOR_SLOTS",
        step=step.path,
        since=step.available_at,
        details=details | {"executors": str(executors.taking)},
    )


def _waiting(facts: RunFacts) -> Explanation:
    late = facts.timers[0] if facts.timers and facts.timers[0][1] <= facts.now - YOUNG else None
    if late is not None:
        return Explanation(
            reason="TIMER_LATE",
            message="a moment it waits for has come and no scheduler has taken it up",
            action="see whether schedulers run, reach Postgres and keep up (wfe_commands_waiting)",
            since=late[1],
        )
    opened = [gate for gate in facts.gates if gate.decided_at is None]
    if opened:
        return waits.explain_gate(opened[0], facts.now)
    if facts.waiting:
        return waits.explain(facts.waiting[0], facts.now)
    if facts.status == "pending" and facts.started_at is None and facts.timers:
        return Explanation(
            reason="WAITING_START",
            message="it waits for the moment it is to start at",
            since=facts.updated_at,
            until=facts.timers[0][1],
        )
    if facts.gates or facts.now - facts.updated_at < YOUNG:
        return Explanation(reason="MOVING", message="it moved a moment ago", since=facts.updated_at)
    # The run's total clock ends it, and moves nothing.
    total = next((due for no, due in facts.timers if no == 0), None)
    return Explanation(
        reason="STUCK",
        message="nothing can move it any more: no step, timer, gate or wait",
        action="this is a fault of the engine: report it with the run's events; rolling back to a snapshot may free it",
        since=facts.updated_at,
        until=total,
    )


def explain_queue(facts: QueueFacts) -> Explanation:
    """Why an owner's steps of a queue are not moving."""
    details = {
        "ready": str(facts.ready),
        "leased": str(facts.leased),
        "backing_off": str(facts.backing_off),
        "paused": str(facts.paused),
        "executors": str(facts.executors.taking),
    }
    if facts.oldest is not None:
        found = _ready(facts.oldest, facts.executors, facts.now, facts.held)
        return msgspec.structs.replace(found, details=details | found.details)
    if facts.leased:
        return Explanation(reason="STEP_RUNS", message=f"{facts.leased} steps run, none waits", details=details)
    if facts.backing_off:
        return Explanation(
            reason="RETRY_LATER",
            message=f"{facts.backing_off} steps wait for their next attempt",
            until=facts.next_at,
            details=details,
        )
    if facts.paused:
        return Explanation(
            reason="PAUSED", message="its steps are of paused runs", action="resume the runs", details=details
        )
    return Explanation(reason="IDLE", message="no step of yours waits or runs on it", details=details)


def _fault(text: str | None) -> str:
    if not text:
        return "no error is known"
    try:
        found = msgspec.json.decode(text)
        return f"{found['code']}: {found['message']}"[:500]
    except (msgspec.DecodeError, KeyError, TypeError):
        return text[:200]
