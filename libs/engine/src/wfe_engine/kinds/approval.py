"""approval: a question to people. Opens a gate; its decision comes back as a command."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from wfe_engine import commands as cmd
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.advance import complete_live
from wfe_engine.plan import Node
from wfe_engine.rules import ENTER, rule
from wfe_engine.state import ENDED, WAITING_APPROVAL, Fault
from wfe_engine.turn import Turn, encode
from wfe_engine.unwind import fail_block
from wfe_engine.values import Record


@rule(ENTER, "approval")
def _approval(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    replaces = turn.env.values.gates.get(no, "")
    turn.snapshot("gate", node.id)
    gate = turn.env.new_id()
    expires_after = params.get("expires_after")
    expires = None if expires_after is None else turn.now + float(expires_after)
    title = str(params.get("title") or node.id)
    payload = None if params.get("payload") is None else encode(params["payload"])
    turn.emit(
        ev.ApprovalRequested(
            step=node.path, no=no, i=node.index, scope=scope, approval=gate, title=title, expires=expires,
            replaces=replaces,
        )
    )  # fmt: skip
    digest = hashlib.sha256(
        msgspec.json.encode(
            [turn.plan.name, node.path, turn.iteration(scope), turn.state.visit, params.get("payload")],
            order="sorted",
        )
    ).hexdigest()
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
            iteration=turn.iteration(scope),
        )
    )
    turn.row(scope, node, no, WAITING_APPROVAL, input=encode(params), gate=gate, due=expires)
    return False


def gate_closed(turn: Turn, command: cmd.GateClosed) -> None:
    """A gate was decided, or expired: its step completes or fails."""
    turn.effects.told.append(command.gate)
    live = [found for found in turn.state.steps() if found[2].gate == command.gate]
    if not live or turn.state.status in ENDED:
        return
    scope, index, step = live[0]
    where: dict[str, Any] = {"step": step.path, "no": step.no, "i": index, "scope": scope}
    gate: dict[str, Any] = {**where, "approval": command.gate}
    if command.expired:
        turn.emit(ev.ApprovalExpired(**gate, outcome=command.outcome))
    elif command.outcome == "approve":
        turn.emit(ev.ApprovalApproved(**gate, comment=command.comment))
    else:
        turn.emit(ev.ApprovalRejected(**gate, comment=command.comment))
    if command.outcome == "approve":
        turn.emit(ev.StepCompleted(**where))
        output = encode({"decision": "approve", "comment": command.comment, "decided_by": command.decided_by or None})
        turn.effects.change(fx.StepChange(no=step.no, status="completed", seq=turn.state.seq, output=output))
        complete_live(turn, scope, index, output, 0)
        return
    code, message = "APPROVAL_REJECTED", "the approval was rejected"
    if command.outcome == "fail":
        code, message = "APPROVAL_EXPIRED", "nobody decided in time"
    elif command.expired:
        message = "the approval was rejected because nobody decided in time"
    fault = Fault(
        code=code,
        message=message + (f": {command.comment}" if command.comment else ""),
        step=step.path,
        details={"approval": command.gate},
    )
    turn.emit(ev.StepFailed(**where, fault=fault))
    error = encode(fault)
    turn.effects.change(fx.StepChange(no=step.no, status="failed", seq=turn.state.seq, error=error))
    turn.record(scope, turn.node(scope, index).id, Record(status="failed", error=error))
    fail_block(turn, scope, fault)
