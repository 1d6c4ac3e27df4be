"""approval: a question to people. Opens a gate; its decision comes back as a command."""

from __future__ import annotations

from typing import Any

import msgspec

from wfe_engine import commands as cmd
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.advance import advance, complete_live, fail_entering
from wfe_engine.approved import approved_step, to_do_again
from wfe_engine.digests import approval_digest
from wfe_engine.plan import Node
from wfe_engine.rules import ENTER, rule
from wfe_engine.scopes import step_prefix
from wfe_engine.sizes import INPUT_TOO_LARGE, MOST_BYTES, too_large
from wfe_engine.state import ENDED, WAITING_APPROVAL, Fault, Step
from wfe_engine.turn import Turn, encode, expression_fault
from wfe_engine.unwind import fail_block
from wfe_engine.values import ExpressionFault, Record, asked_key


@rule(ENTER, "approval")
def _approval(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    target = approved_step(turn.block(scope), node)
    if target is not None and params.get("payload") is None:
        # What people are shown is the very request the step will make; it is not evaluated again.
        try:
            params = {**params, "payload": turn.render(target.params, scope)}
        except ExpressionFault as fault:
            fail_entering(turn, scope, node, no, expression_fault(fault, target.path, target.kind))
            return False
    payload = None if params.get("payload") is None else encode(params["payload"])
    if payload is not None and len(payload) > MOST_BYTES:
        fail_entering(turn, scope, node, no, too_large(INPUT_TOO_LARGE, node.path))
        return False
    before = turn.recorded(scope, node.id)
    revised = before.value if before is not None and isinstance(before.value, dict) else {}
    round_ = int(revised.get("round", 0))
    iteration = turn.iteration(scope)
    replaces = str(revised.get("approval", "")) or turn.env.values.gates.get(no, "")
    replaces = replaces or turn.asked.get(asked_key(node.path, iteration), "")
    if replaces in turn.env.values.withdrawn:
        turn.emit(ev.ApprovalSuperseded(step=node.path, no=no, i=node.index, scope=scope, approval=replaces))
        turn.effects.superseded.append(replaces)
    turn.snapshot("gate", node.id)
    gate = turn.env.new_id()
    opens = None if params.get("opens_after") is None else turn.now + float(params["opens_after"])
    expires_after = params.get("expires_after")
    expires = None if expires_after is None else (opens or turn.now) + float(expires_after)
    title = str(params.get("title") or node.id)
    path, kind = (node.path, "approval") if target is None else (target.path, target.kind)
    run = str(turn.env.values.run.get("id", ""))
    digest = approval_digest(run, path, iteration, kind, params.get("payload"))
    turn.emit(
        ev.ApprovalRequested(
            step=node.path, no=no, i=node.index, scope=scope, approval=gate, title=title, expires=expires,
            replaces=replaces, opens=opens, digest=digest, round=round_,
        )
    )  # fmt: skip
    turn.effects.gates.append(
        fx.GateRow(
            id=gate,
            no=no,
            path=node.path,
            title=title,
            body=str(params.get("body") or ""),
            payload=payload,
            policy=encode(params.get("policy") or {}),
            digest=digest,
            expires_at=expires,
            on_expiry=str(params.get("on_expiry") or "reject"),
            replaces=replaces or None,
            iteration=iteration,
            bound=encode([path, iteration, kind]),
            risk=str(params.get("risk") or "medium"),
            opens_at=opens,
            agenda=encode(_agenda(params)),
            branch=str(params.get("branch") or ""),
            round=round_,
        )
    )
    given = encode(params)
    turn.row(scope, node, no, WAITING_APPROVAL, input=given, gate=gate, due=expires)
    turn.enter(no, given, params)
    return False


def _agenda(params: dict[str, Any]) -> list[list[Any]]:
    """What is to happen to the gate, with the seconds between: a pause then has to move only what comes next."""
    delay = float(params.get("opens_after") or 0)
    planned = [(delay, "open", 0)] if params.get("opens_after") is not None else []
    planned += sorted((delay + float(at), str(what), which) for at, what, which in params.get("agenda") or ())
    before, found = 0.0, []
    for at, what, which in planned:
        found.append([at - before, what, which])
        before = at
    return found


def gate_notes(turn: Turn, command: cmd.GateNotes) -> None:
    """Something happened at a gate that leaves it open."""
    if command.notes:
        turn.effects.noted.append((command.gate, command.notes[-1].n))
    live = [found for found in turn.state.steps() if found[2].gate == command.gate]
    if live and turn.state.status not in ENDED:
        _take_notes(turn, *live[0], command.notes)


def _take_notes(turn: Turn, scope: str, index: int, step: Step, notes: tuple[cmd.Note, ...]) -> None:
    for note in notes:
        kind = ev.NOTED.get(note.type)
        if kind is not None and note.n > step.noted:
            turn.emit(
                kind(
                    step=step.path, no=step.no, i=index, scope=scope, approval=step.gate or "", note=note.n, by=note.by,
                    at=note.at, comment=note.reason, data=note.data,
                )
            )  # fmt: skip


def gate_closed(turn: Turn, command: cmd.GateClosed) -> None:
    """A gate was decided, or expired: its step completes, fails, or sends others back."""
    turn.effects.told.append(command.gate)
    if command.notes:
        turn.effects.noted.append((command.gate, command.notes[-1].n))
    live = [found for found in turn.state.steps() if found[2].gate == command.gate]
    if not live or turn.state.status in ENDED:
        return
    scope, index, step = live[0]
    _take_notes(turn, scope, index, step, command.notes)
    gate: dict[str, Any] = {
        "step": step.path, "no": step.no, "i": index, "scope": scope, "approval": command.gate
    }  # fmt: skip
    said: dict[str, Any] = {"comment": command.comment, "via": command.via, "votes": command.votes}
    if command.via == "link":
        turn.emit(ev.ApprovalLinkUsed(**gate))
    if command.expired:
        turn.emit(ev.ApprovalExpired(**gate, outcome=command.outcome))
    elif command.outcome == "approve":
        if command.via == "bypass":
            turn.emit(ev.ApprovalBypassed(**gate, comment=command.comment))
        edited = command.payload is not None
        turn.emit(ev.ApprovalApproved(**gate, **said, digest=command.digest, edited=edited))
    elif command.outcome != "revise":
        turn.emit(
            ev.ApprovalRejected(**gate, **said, branch=command.branch, reason_code=command.reason_code)
        )  # fmt: skip
    if command.outcome == "revise":
        _send_back(turn, scope, index, step, command, gate)
    elif command.outcome in ("approve", "branch"):
        _complete(turn, scope, index, step, command)
    else:
        _fail(turn, scope, index, step, command)


def _output(turn: Turn, scope: str, index: int, step: Step, command: cmd.GateClosed) -> dict[str, Any]:
    """What later steps see of the gate."""
    params = turn.params(step) or {}
    payload = params.get("payload") if command.payload is None else _decoded(command.payload)
    node = turn.node(scope, index)
    target = approved_step(turn.block(scope), node)
    path, kind = (node.path, "approval") if target is None else (target.path, target.kind)
    run = str(turn.env.values.run.get("id", ""))
    digest = command.digest or approval_digest(run, path, turn.iteration(scope), kind, payload)
    before = turn.recorded(scope, node.id)
    revised = before.value if before is not None and isinstance(before.value, dict) else {}
    decision = {"approve": "approve", "revise": "revise"}.get(command.outcome, "reject")
    return {
        "decision": decision,
        "comment": command.comment,
        "decided_by": command.decided_by or None,
        "approval": command.gate,
        "branch": command.branch,
        "expired": command.expired,
        "reason_code": command.reason_code,
        "payload": payload,
        "edited": command.payload is not None,
        "form": None if command.form is None else _decoded(command.form),
        "digest": digest,
        "round": int(revised.get("round", 0)) + (decision == "revise"),
        "rollbacks": turn.state.rollbacks,
    }


def _complete(turn: Turn, scope: str, index: int, step: Step, command: cmd.GateClosed) -> None:
    output = encode(_output(turn, scope, index, step, command))
    turn.emit(ev.StepCompleted(step=step.path, no=step.no, i=index, scope=scope))
    turn.effects.change(fx.StepChange(no=step.no, status="completed", seq=turn.state.seq, output=output))
    complete_live(turn, scope, index, output, 0)


def _send_back(
    turn: Turn, scope: str, index: int, step: Step, command: cmd.GateClosed, gate: dict[str, Any]
) -> None:  # fmt: skip
    """The step it names, and what stands between, are done again with the reason at hand; then the gate opens anew."""
    block, node = turn.block(scope), turn.node(scope, index)
    policy = (turn.params(step) or {}).get("policy") or {}
    again = to_do_again(block, node, policy["revise"]["step"])
    output = _output(turn, scope, index, step, command)
    turn.emit(ev.ApprovalRevised(**gate, comment=command.comment, round=output["round"], again=again))
    seq = turn.state.seq
    data = encode({**output, "visit": turn.state.visit})
    turn.effects.change(fx.StepChange(no=step.no, status="completed", seq=turn.state.seq, output=data))
    turn.record(scope, node.id, Record(status="completed", output=data))
    for other in again:
        prefix = step_prefix(scope, other)
        turn.effects.revised.append(fx.Revised(seq=seq, scope=scope, path=block.nodes[other].path, prefix=prefix))
    advance(turn, scope)


def _fail(turn: Turn, scope: str, index: int, step: Step, command: cmd.GateClosed) -> None:
    code, message = "APPROVAL_REJECTED", "the approval was rejected"
    if command.outcome == "fail":
        code, message = "APPROVAL_EXPIRED", "nobody decided in time"
    elif command.expired:
        message = "the approval was rejected because nobody decided in time"
    details = {"approval": command.gate}
    if command.reason_code:
        details["reason_code"] = command.reason_code
    fault = Fault(
        code=code,
        message=message + (f": {command.comment}" if command.comment else ""),
        step=step.path,
        details=details,
    )
    turn.emit(ev.StepFailed(step=step.path, no=step.no, i=index, scope=scope, fault=fault))
    error = encode(fault)
    turn.effects.change(fx.StepChange(no=step.no, status="failed", seq=turn.state.seq, error=error))
    turn.record(scope, turn.node(scope, index).id, Record(status="failed", error=error))
    fail_block(turn, scope, fault)


def _decoded(data: bytes) -> Any:
    return msgspec.json.decode(data)
