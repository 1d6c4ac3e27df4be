"""wait_for: a signal, an answer to a callback, or the first of several; one that came early is kept for it."""

from __future__ import annotations

from typing import Any

import msgspec

from wfe_engine import commands as cmd
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.advance import complete_entering, complete_live, fail_entering
from wfe_engine.errors import ResourceExhausted, StateConflict
from wfe_engine.plan import Node
from wfe_engine.rules import ENTER, rule
from wfe_engine.state import CALLBACK, ENDED, WAITING, Fault, Letter, Step, shown_status
from wfe_engine.turn import Turn, encode
from wfe_engine.unwind import fail_block
from wfe_engine.values import Record, callback_key

WAIT_TIMEOUT, HEARTBEAT_TIMEOUT, CALLBACK_FAILED = "WAIT_TIMEOUT", "HEARTBEAT_TIMEOUT", "CALLBACK_FAILED"
#: Signals of a run that no step has taken yet.
MOST_MAIL = 1000


def callback_name(name: str, iteration: str) -> str:
    """Name under which the answer to a callback comes."""
    return CALLBACK + callback_key(name, iteration)


@rule(ENTER, "wait_for")
def _enter(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    names = _names(turn, scope, params)
    given = encode(params)
    letter = next((letter for letter in turn.state.mail if letter.name in names), None)
    if letter is not None and not letter.failed:
        # It is there already: the step is done on being entered.
        if not complete_entering(turn, scope, node, no, _output(turn, letter), given):
            return False
        turn.emit(ev.SignalTaken(step=node.path, no=no, i=node.index, scope=scope, signal=letter.id))
        return True
    if letter is not None:
        turn.emit(ev.SignalTaken(step=node.path, no=no, i=node.index, scope=scope, signal=letter.id))
        fail_entering(turn, scope, node, no, _failure(turn, letter, node.path), given)
        return False
    after, heartbeat = params.get("after"), params.get("heartbeat")
    until = None if after is None else turn.now + float(after)
    due = _next(until, heartbeat, turn.now)
    callback = next((name for name in names if name.startswith(CALLBACK)), "")
    turn.emit(
        ev.StepWaiting(
            step=node.path, no=no, i=node.index, scope=scope, kind=node.kind, due=due, until=until, callback=callback
        )
    )
    turn.row(scope, node, no, WAITING, input=given, due=due)
    turn.enter(no, given, params)
    if due is not None:
        turn.effects.timers[no] = due
    return False


def _names(turn: Turn, scope: str, params: dict[str, Any]) -> list[str]:
    names = list(params.get("signals") or [])
    if params.get("callback"):
        names.append(callback_name(params["callback"], turn.iteration(scope)))
    return names


def _next(until: float | None, heartbeat: float | None, now: float) -> float | None:
    moments = [moment for moment in (until, None if heartbeat is None else now + heartbeat) if moment is not None]
    return min(moments, default=None)


def _payload(turn: Turn, letter: Letter) -> Any:
    return msgspec.json.decode(turn.signals.get(letter.id) or turn.env.values.signals[letter.id])


def _output(turn: Turn, letter: Letter) -> dict[str, Any]:
    name = letter.name.removeprefix(CALLBACK).partition("@")[0]
    return {"name": name, "payload": _payload(turn, letter)}


def _failure(turn: Turn, letter: Letter, path: str) -> Fault:
    told = _payload(turn, letter)
    told = told if isinstance(told, dict) else {}
    message = str(told.get("message") or "the other side says it failed")[:2000]
    return Fault(code=str(told.get("code") or CALLBACK_FAILED), message=message, step=path)


def signal(turn: Turn, command: cmd.Signal) -> None:
    """A signal came: the step that waits longest for it takes it, or it is kept."""
    if turn.state.status in ENDED:
        raise StateConflict(
            f"a run that is {shown_status(turn.state)} takes no signals",
            reason="RUN_STATE",
            status=shown_status(turn.state),
            action="signalled",
            allowed="one that has not ended",
        )
    if command.name in turn.state.answered:
        raise StateConflict("this callback was answered already", reason="CALLBACK_ANSWERED")
    if len(turn.state.mail) >= MOST_MAIL:
        raise ResourceExhausted(f"{MOST_MAIL} signals wait to be taken already", reason="SIGNALS_FULL")
    turn.emit(ev.SignalReceived(signal=command.signal, name=command.name, failed=command.failed))
    turn.effects.signals.append(fx.SignalRow(id=command.signal, name=command.name, payload=command.payload))
    turn.signals[command.signal] = command.payload
    letter = turn.state.mail[-1]
    waiting = sorted(
        (found for found in turn.state.steps() if found[2].kind == "wait_for" and found[2].status == WAITING),
        key=lambda found: found[2].no,
    )
    for scope, index, step in waiting:
        if letter.name in _names(turn, scope, turn.params(step)):
            _take(turn, scope, index, step, letter)
            return


def _take(turn: Turn, scope: str, index: int, step: Step, letter: Letter) -> None:
    where: dict[str, Any] = {"step": step.path, "no": step.no, "i": index, "scope": scope}
    turn.emit(ev.SignalTaken(**where, signal=letter.id))
    if letter.failed:
        end(turn, scope, index, step, _failure(turn, letter, step.path))
        return
    output = encode(_output(turn, letter))
    complete(turn, scope, index, step, output)


def complete(turn: Turn, scope: str, index: int, step: Step, output: bytes) -> None:
    """A step that waited has what it waited for."""
    turn.emit(ev.StepCompleted(step=step.path, no=step.no, i=index, scope=scope))
    turn.effects.change(fx.StepChange(no=step.no, status="completed", seq=turn.state.seq, output=output))
    turn.effects.timers[step.no] = None
    complete_live(turn, scope, index, output, 0)


def end(turn: Turn, scope: str, index: int, step: Step, fault: Fault) -> None:
    """A step that waited fails."""
    turn.emit(ev.StepFailed(step=step.path, no=step.no, i=index, scope=scope, fault=fault))
    error = encode(fault)
    turn.effects.change(fx.StepChange(no=step.no, status="failed", seq=turn.state.seq, error=error))
    turn.effects.timers[step.no] = None
    turn.record(scope, turn.node(scope, index).id, Record(status="failed", error=error))
    fail_block(turn, scope, fault)


def alive(turn: Turn, command: cmd.Alive) -> None:
    """The other side of a callback is heard of: its next sign of life is due later."""
    if command.name in turn.state.answered or turn.state.status in ENDED:
        raise StateConflict("this callback was answered already, or its run has ended", reason="CALLBACK_ANSWERED")
    for scope, index, step in turn.state.steps():
        if step.kind != "wait_for" or step.status != WAITING:
            continue
        params = turn.params(step)
        if command.name in _names(turn, scope, params):
            due = _next(step.until, params.get("heartbeat"), turn.frozen_now)
            told = None if command.progress is None else msgspec.json.decode(command.progress)
            turn.emit(
                ev.CallbackAlive(step=step.path, no=step.no, i=index, scope=scope, due=due, progress=told)
            )  # fmt: skip
            if due is not None and turn.state.paused_at is None:
                turn.effects.timers[step.no] = due
            return
    raise StateConflict("nothing waits for this callback yet", reason="CALLBACK_NOT_OPEN")


def due(turn: Turn, scope: str, index: int, step: Step) -> None:
    """Nothing came in time."""
    params = turn.params(step)
    if step.until is None or step.due is None or step.due < step.until:
        fault = Fault(code=HEARTBEAT_TIMEOUT, message="the other side was not heard of in time", step=step.path)
        end(turn, scope, index, step, fault)
    elif params.get("then") == "complete":
        complete(turn, scope, index, step, encode(params.get("output")))
    else:
        end(turn, scope, index, step, Fault(code=WAIT_TIMEOUT, message="nothing came in time", step=step.path))
