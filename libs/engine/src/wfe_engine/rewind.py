"""Going back to a snapshot, and beginning at one."""

from __future__ import annotations

from msgspec.structs import replace

from wfe_engine import commands as cmd
from wfe_engine import events as ev
from wfe_engine.advance import advance_all
from wfe_engine.errors import StateConflict
from wfe_engine.plan import CONTAINERS
from wfe_engine.scopes import depth
from wfe_engine.state import ENDED, PENDING, ROLLED_BACK, STEP_RUNNING, Scope, Step
from wfe_engine.turn import Turn
from wfe_engine.unwind import end_step
from wfe_engine.values import Record


def frontier(scopes: dict[str, Scope]) -> dict[str, Scope]:
    """The scopes of a snapshot with nothing entered but steps with blocks: what was live then is entered anew."""
    return {key: replace(scope, live=_kept(scope), fault=None) for key, scope in scopes.items()} or {"": Scope()}


def _kept(scope: Scope) -> dict[int, Step]:
    return {
        index: replace(step, status=STEP_RUNNING, fault=None)
        for index, step in scope.live.items()
        if step.kind in CONTAINERS and step.next
    }


def renumbered(scopes: dict[str, Scope], next_no: int) -> tuple[dict[str, Scope], int]:
    """A frontier whose steps have numbers of their own, from `next_no` on, and the number after those."""
    given: dict[str, Scope] = {}
    for key in sorted(scopes, key=lambda key: (depth(key), key)):
        live = {}
        for index, step in scopes[key].live.items():
            live[index] = replace(step, no=next_no)
            next_no += 1
        given[key] = replace(scopes[key], live=live)
    return given, next_no


def kept_steps(scopes: dict[str, Scope]) -> list[tuple[str, int, Step]]:
    """The steps with blocks that the frontier of a snapshot keeps."""
    return [(key, index, step) for key, scope in scopes.items() for index, step in _kept(scope).items()]


def live_numbers(scopes: dict[str, Scope]) -> list[int]:
    """Numbers of the steps that were live at a snapshot."""
    return [step.no for scope in scopes.values() for step in scope.live.values()]


def rows_of_containers(turn: Turn, inputs: dict[str, bytes]) -> None:
    """Write the rows of the steps with blocks a frontier begins with.

    Args:
        inputs: What their params had evaluated to, by scope and index joined with "#".
    """
    for scope, index, step in turn.state.steps():
        given = inputs[container_key(scope, index)]
        turn.row(scope, turn.node(scope, index), step.no, STEP_RUNNING, input=given)
        turn.enter(step.no, given)


def container_key(scope: str, index: int) -> str:
    """Names a live step across renumbering."""
    return f"{scope}#{index}"


def roll_back(turn: Turn, command: cmd.Rollback) -> None:
    """The run is back at a snapshot; what was live then is entered anew."""
    if turn.state.status == PENDING:
        raise StateConflict(
            "a run that is pending cannot be rolled back; it must be started",
            reason="RUN_STATE",
            status=PENDING,
            action="rolled back",
            allowed="started",
        )
    for scope, index, step in turn.state.steps():
        if step.kind not in CONTAINERS:
            end_step(turn, scope, index, step, ROLLED_BACK, "rolled_back")
    scopes, next_no = renumbered(frontier(command.scopes), turn.state.next_no)
    deadline = None if turn.plan.total is None else turn.now + turn.plan.total
    turn.emit(
        ev.RunRolledBack(
            snapshot=command.snapshot,
            to_seq=command.seq,
            scopes=scopes,
            next_no=next_no,
            reopened=turn.state.status in ENDED,
            deadline=deadline,
        )
    )
    if deadline is not None and turn.state.paused_at is None:
        turn.effects.timers[0] = deadline
    if command.records is not None:
        # A step that was done again since counts as it was then; what came later is not there at all.
        turn.added.update(dict.fromkeys(turn.env.values.records, Record(status=ROLLED_BACK)))
        turn.added.update(command.records)
    turn.effects.rolled_back = command.seq
    turn.effects.undone = live_numbers(command.scopes)
    rows_of_containers(turn, command.inputs)
    advance_all(turn)
