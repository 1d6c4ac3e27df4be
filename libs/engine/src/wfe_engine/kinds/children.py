"""workflow: a run of another published template; it is cancelled with this one, and its output comes back."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from wfe_engine import commands as cmd
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.kinds.waiting import complete, end
from wfe_engine.plan import Node
from wfe_engine.rules import ENTER, rule
from wfe_engine.state import ENDED, WAITING
from wfe_engine.turn import Turn, encode


@rule(ENTER, "workflow")
def _enter(turn: Turn, scope: str, node: Node, no: int, params: Any) -> bool:
    # A step that is entered again has the run it had on record: that one is retried, what it has done stays done.
    again = "child" in params
    child = params["child"] if again else turn.env.new_id()
    given = encode({**params, "child": child})
    turn.emit(ev.StepWaiting(step=node.path, no=no, i=node.index, scope=scope, kind=node.kind, child=child))
    turn.row(scope, node, no, WAITING, input=given)
    wish = "retry" if again else "start"
    turn.effects.children.append(fx.ChildWish(no=no, child=child, wish=wish, request=encode(params)))
    return False


def child_ended(turn: Turn, command: cmd.ChildEnded) -> None:
    """The run a step waits for has ended."""
    found = turn.state.find(command.no)
    if found is None or found[2].child != command.child or found[2].status != WAITING or turn.state.status in ENDED:
        return
    scope, index, step = found
    turn.effects.children.append(fx.ChildWish(no=step.no, child=command.child, wish="done"))
    if command.fault is None:
        complete(turn, scope, index, step, command.output or b"null")
    else:
        end(turn, scope, index, step, replace(command.fault, step=step.path))
