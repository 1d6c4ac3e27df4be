"""From what the store and the engine know to the messages of the API, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from google.protobuf.struct_pb2 import Struct
from wfe.api.v1 import template_pb2, workflow_pb2
from wfe_engine.plan import WORK
from wfe_engine.state import Fault
from wfe_language import Change
from wfe_language import Fault as TemplateFault
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import timestamp
from wfe_servicekit.values import dict_to_struct, to_value
from wfe_store.gate_policy import Decider
from wfe_store.gates import Gate
from wfe_store.history import Snapshot
from wfe_store.runs import Event, Run, RunDetail, Step
from wfe_store.templates import Template, TemplateVersion

from wfe_scheduler.api.engine import StartedRun
from wfe_scheduler.api.payloads import Payloads, note, unix_moment, unsealed

_decode_labels = msgspec.json.Decoder(dict[str, str]).decode
_decode_fault = msgspec.json.Decoder(Fault).decode

#: Bytes of input an answer to a start shows.
MOST_SHOWN = 1 << 20
#: Steps named in a notice; the rest are counted.
_MOST_NAMED = 10


def started(run: StartedRun, *, trigger: str, size: int = -1) -> workflow_pb2.Workflow:
    """The answer to a start or a fork: always pending, the accepted state, whatever has happened since.

    Args:
        size: Bytes of its input as JSON; measured when it is not known.
    """
    at = unix_moment(run.created_at)
    return workflow_pb2.Workflow(
        id=str(run.run_id),
        status="pending",
        template=workflow_pb2.TemplateRef(
            id=str(run.template_id), name=run.template_name, version=run.template_version
        ),
        trigger_type=trigger,
        input=_given(run.input, size),
        labels=run.labels,
        created_by=str(run.created_by),
        created_at=at,
        updated_at=at,
        runner="hibernating",
        epoch=1,
        start_at=None if run.start_at is None else unix_moment(run.start_at),
    )


def _given(values: dict[str, Any], size: int) -> Struct:
    if size < 0:
        size = len(msgspec.json.encode(values))
    return dict_to_struct(unsealed(values) if size <= MOST_SHOWN else {"note": note(size)})


def workflow(run: Run, payloads: Payloads) -> workflow_pb2.Workflow:
    """A run without what belongs to it."""
    message = workflow_pb2.Workflow(
        id=str(run.id),
        status=run.status,
        phase=run.phase,
        template=workflow_pb2.TemplateRef(
            id=str(run.template_id), name=run.template_name, version=run.template_version
        ),
        trigger_type=run.trigger_type,
        input=None if run.input is None else payloads.struct(run.input),
        output=payloads.value(run.output),
        labels=_decode_labels(run.labels),
        error=fault(run.error, payloads),
        reason=run.reason,
        created_by=str(run.created_by),
        created_at=timestamp(run.created_at),
        started_at=timestamp(run.started_at),
        updated_at=timestamp(run.updated_at),
        ended_at=timestamp(run.ended_at),
        runner="hibernating" if run.heartbeat_at is None else "active",
        heartbeat_at=timestamp(run.heartbeat_at),
        events_total=run.seq,
        epoch=run.epoch,
        start_at=timestamp(run.start_at),
    )
    if run.forked_from is not None:
        message.forked_from.workflow_id = str(run.forked_from)
        message.forked_from.snapshot_id = _text(run.forked_snapshot)
    if run.parent_run is not None:
        message.parent.workflow_id, message.parent.step_no = str(run.parent_run), run.parent_no or 0
    return message


def workflow_detail(detail: RunDetail, caller: Caller) -> workflow_pb2.Workflow:
    """A run with its steps, events and approvals, as this caller sees them."""
    payloads = Payloads()
    run = detail.run
    message = workflow(run, payloads)
    message.approvals.extend(approval(gate, caller, payloads) for gate in detail.gates)
    message.steps.extend(step(item, payloads) for item in detail.steps)
    message.events.extend(event(item, payloads) for item in detail.events)
    if detail.events and detail.events[0].seq > 1:
        message.events_note = (
            f"the newest {len(detail.events)} of {run.seq} events; all of them: "
            f"/api/v1/workflows/{run.id}/events?after=0"
        )
    return message


def template_change(change: Change) -> template_pb2.TemplateChange:
    """One difference between two versions of a template."""
    return template_pb2.TemplateChange(
        path=change.path,
        change=change.change,
        breaking=change.breaking,
        old=to_value(msgspec.to_builtins(change.old)),
        new=to_value(msgspec.to_builtins(change.new)),
        why=change.why,
    )


def step(item: Step, payloads: Payloads) -> workflow_pb2.Step:
    """A step of a run."""
    return workflow_pb2.Step(
        no=item.no,
        path=item.path,
        iteration=item.iteration,
        visit=item.visit,
        id=item.path.rpartition("/")[2],
        kind=item.kind,
        status=item.status,
        attempts=item.attempts,
        max_attempts=item.max_attempts,
        lease_losses=item.lease_losses,
        input=payloads.value(item.input, item.left_out[0]),
        output=payloads.value(item.output, item.left_out[1]),
        error=fault(item.error, payloads),
        created_at=timestamp(item.created_at),
        started_at=timestamp(item.started_at),
        ended_at=timestamp(item.ended_at),
        due_at=timestamp(item.due_at),
        executor=item.executor,
        progress=payloads.value(item.progress),
        approval_id=_text(item.gate_id),
    )


def event(item: Event, payloads: Payloads) -> workflow_pb2.Event:
    """An event of a run."""
    return workflow_pb2.Event(
        seq=item.seq,
        type=item.type,
        at=timestamp(item.at),
        actor=item.actor,
        reason=item.reason,
        data=payloads.struct(item.data),
    )


def fault(text: str | None, payloads: Payloads) -> workflow_pb2.Fault | None:
    """Why something failed, of its JSON text; None for None."""
    if text is None:
        return None
    try:
        stored = _decode_fault(text)
    except msgspec.DecodeError:
        return workflow_pb2.Fault(code="UNKNOWN", message=text[:500])
    details = payloads.struct(msgspec.json.encode(stored.details).decode()) if stored.details else None
    return workflow_pb2.Fault(code=stored.code, message=stored.message, step=stored.step, details=details)


def snapshot(item: Snapshot) -> workflow_pb2.Snapshot:
    """A snapshot of a run."""
    return workflow_pb2.Snapshot(
        id=str(item.id),
        seq=item.seq,
        kind=item.kind,
        name=item.name,
        created_at=timestamp(item.created_at),
        steps_done=item.steps_done,
    )


def approval(gate: Gate, caller: Caller, payloads: Payloads) -> workflow_pb2.Approval:
    """A gate, and whether this caller may decide it."""
    decider = Decider(
        principal_id=caller.principal_id,
        name=caller.principal,
        kind=caller.kind,
        roles=caller.roles,
        groups=caller.groups,
    )
    refusal = gate.refusal(decider)
    return workflow_pb2.Approval(
        id=str(gate.id),
        workflow_id=str(gate.run_id),
        step=gate.path,
        iteration=gate.iteration,
        status=gate.status,
        title=gate.title,
        body=gate.body,
        payload=payloads.value(gate.payload),
        approvers=workflow_pb2.Approvers(users=gate.policy.users, groups=gate.policy.groups, roles=gate.policy.roles),
        starter_excluded=gate.policy.exclude_starter,
        created_at=timestamp(gate.created_at),
        expires_at=timestamp(gate.expires_at),
        on_expiry=gate.on_expiry,
        decided_at=timestamp(gate.decided_at),
        decided_by=_text(gate.decided_by),
        comment=gate.comment,
        replaces=_text(gate.replaces),
        replaced_by=_text(gate.replaced_by),
        can_decide=refusal is None,
        why_not="" if refusal is None else refusal.message,
        why_not_reason="" if refusal is None else refusal.reason,
        digest=gate.digest,
        risk=gate.risk,
        version=gate.version,
        opens_at=timestamp(gate.opens_at),
        round=gate.round,
        max_rounds=gate.policy.max_rounds,
        branch=gate.branch,
        reason_code=gate.reason_code,
        decided_via=gate.decided_via,
        claimed_by=_text(gate.claimed_by),
        level=gate.level,
    )


def template(item: Template, faults: Iterable[TemplateFault] = ()) -> template_pb2.Template:
    """A template; its draft is empty in lists."""
    return template_pb2.Template(
        id=str(item.id),
        name=item.name,
        status=item.status,
        latest_version=item.latest_version,
        source=item.draft,
        faults=[template_fault(one) for one in faults],
        created_at=timestamp(item.created_at),
        updated_at=timestamp(item.updated_at),
        deprecated_at=timestamp(item.deprecated_at),
    )


def template_fault(one: TemplateFault) -> template_pb2.TemplateFault:
    """One thing wrong in a template."""
    return template_pb2.TemplateFault(path=one.path, line=one.line, column=one.column, reason=one.reason, mend=one.mend)


def template_version(item: TemplateVersion, *, with_source: bool = False) -> template_pb2.TemplateVersion:
    """A published version."""
    return template_pb2.TemplateVersion(
        template_id=str(item.template_id),
        name=item.name,
        version=item.version,
        source=item.source if with_source else "",
        published_at=timestamp(item.published_at),
        published_by=str(item.published_by),
    )


def pause_notice(detail: RunDetail) -> str:
    """What happens to the steps of a run that was just paused."""
    flying = sum(item.status == "running" for item in detail.steps)
    if not flying:
        return "no step is in flight; nothing new is claimed"
    if flying == 1:
        return "1 step in flight will finish and keep its result; nothing new is claimed"
    return f"{flying} steps in flight will finish and keep their results; nothing new is claimed"


def cancel_notice(detail: RunDetail) -> str:
    """What became of the steps and gates of a run that was just cancelled."""
    ended_at = detail.run.ended_at
    if detail.run.status != "cancelled" or ended_at is None:
        return ""  # it was retried or rolled back in between
    stopped = [
        item for item in detail.steps if item.status == "cancelled" and item.executor and item.ended_at == ended_at
    ]
    withdrawn = sum(gate.status == "withdrawn" and gate.decided_at == ended_at for gate in detail.gates)
    parts = []
    if stopped:
        what = "1 step in flight was" if len(stopped) == 1 else f"{len(stopped)} steps in flight were"
        parts.append(f"{what} told to stop; effects outside are not undone: {_named(stopped)}")
    if withdrawn:
        parts.append(f"{withdrawn} open approval{' was' if withdrawn == 1 else 's were'} withdrawn")
    return "; ".join(parts) or "no step was in flight"


def rollback_notice(detail: RunDetail, undone_before: Collection[int]) -> str:
    """Which steps a rollback has undone in the record and not in the world.

    Args:
        undone_before: Numbers of the steps earlier rollbacks had undone.
    """
    steps = [item for item in detail.steps if item.status == "rolled_back" and item.no not in undone_before]
    return _effects(steps, "are not undone")


def fork_notice(detail: RunDetail, done: Collection[str]) -> str:
    """Which steps of the forked run had outside effects that the fork may repeat.

    Args:
        detail: Of the forked run.
        done: Paths of the steps the snapshot holds.
    """
    steps = [item for item in detail.steps if item.path not in done and item.status not in ("rolled_back", "skipped")]
    return _effects(steps, "stay, and the fork may repeat them")


def _effects(steps: Iterable[Step], fate: str) -> str:
    touched = [item for item in steps if item.kind in WORK and (item.attempts or item.started_at is not None)]
    return f"effects outside {fate}: {_named(touched)}" if touched else ""


def _named(steps: list[Step]) -> str:
    names = [
        f"{item.path}{f'[{item.iteration}]' if item.iteration else ''} ({item.kind})" for item in steps[:_MOST_NAMED]
    ]
    more = len(steps) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _text(value: object) -> str:
    return "" if value is None else str(value)
