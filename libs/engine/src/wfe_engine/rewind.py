"""Going back to a snapshot, and beginning at one."""

from __future__ import annotations

from msgspec.structs import replace

from wfe_engine import commands as cmd
from wfe_engine import compensate
from wfe_engine import effects as fx
from wfe_engine import events as ev
from wfe_engine.advance import advance_all
from wfe_engine.errors import StateConflict
from wfe_engine.plan import CONTAINERS, Block, Plan
from wfe_engine.scopes import ROOT, block_at, depth, place, step_prefix
from wfe_engine.state import CANCELLED, ENDED, PENDING, ROLLED_BACK, STEP_RUNNING, Return, Scope, Step
from wfe_engine.turn import Turn
from wfe_engine.unwind import end_step
from wfe_engine.values import Record, asked_key


def frontier(plan: Plan, scopes: dict[str, Scope]) -> dict[str, Scope]:
    """The scopes of a snapshot with nothing entered but steps with blocks: what was live then is entered anew."""
    gone = tuple(key for _, _, _, key in early_finals(plan, scopes))
    kept = {key: scope for key, scope in scopes.items() if not _within(key, gone)}
    return {key: replace(scope, live=_kept(scope), fault=None) for key, scope in kept.items()} or {ROOT: Scope()}


def early_finals(plan: Plan, scopes: dict[str, Scope]) -> list[tuple[str, int, int, str]]:
    """Finally blocks of failing steps, outermost first: (scope, index, block, key).

    What failed goes on when a run is retried or rolled back; what is to be done after it then waits for its end.
    """
    found = []
    for key in sorted(scopes, key=depth):
        if key != ROOT and block_at(plan, key).role == "finally":
            scope, index, block, _ = place(key)
            others = [k for k in scopes if k.startswith(step_prefix(scope, index)) and not _within(k, (key,))]
            if others:
                found.append((scope, index, block, key))
    return found


def _within(key: str, outer: tuple[str, ...]) -> bool:
    return any(key == each or key.startswith(each + ".") for each in outer)


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


def nodes_from(block: Block, step_id: str) -> frozenset[int] | None:
    """Indexes of a step and of everything that needs it; None when the block has no such step."""
    first = next((node.index for node in block.nodes if node.id == step_id), None)
    if first is None:
        return None
    found, waiting = set(), [first]
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting.extend(block.nodes[index].dependents)
    return frozenset(found)


def without(scope: Scope, indexes: frozenset[int]) -> Scope:
    """A scope in which some steps have not been entered, and nothing is live."""
    mask = sum(1 << index for index in indexes)
    return Scope(done=f"{int(scope.done, 16) & ~mask:x}", skipped=f"{int(scope.skipped, 16) & ~mask:x}")


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
    turn.then, turn.asked = command.records, {**turn.asked, **command.asked}
    target = Return(command.snapshot, command.seq, command.scopes, command.undo, command.inputs)
    lost = {undo.no for undo in command.undo} - {undo.no for undo in turn.state.undo}
    if turn.state.compensated and lost:
        raise StateConflict(
            "what steps before this snapshot did was taken back; go back to an earlier one",
            reason="RUN_COMPENSATED",
        )
    if turn.state.phase:
        raise StateConflict("the run is taking back what its steps did; wait until it has ended", reason="RUN_STATE")
    later = [undo for undo in turn.state.undo if undo.no not in {kept.no for kept in command.undo}]
    if later and "rollback" in turn.plan.compensate_on and turn.state.status not in ENDED:
        turn.hard = True  # what is under way is undone, not ended
        _stop(turn, CANCELLED)
        turn.emit(ev.RunCompensating(returning=target))
        compensate.go_on(turn)
        return
    return_to(turn, target)


def _stop(turn: Turn, status: str) -> None:
    """End everything that is active, the innermost first."""
    for scope, index, step in sorted(turn.state.steps(), key=lambda found: depth(found[0]), reverse=True):
        if step.kind not in CONTAINERS:
            if step.gate is not None:
                turn.asked = {**turn.asked, asked_key(step.path, turn.iteration(scope)): step.gate}
            end_step(turn, scope, index, step, status, "rolled_back")
        elif status == CANCELLED and step.status == STEP_RUNNING:
            turn.emit(ev.StepCancelled(step=step.path, no=step.no, i=index, scope=scope))
            turn.effects.change(fx.StepChange(no=step.no, status=CANCELLED, seq=turn.state.seq))


def return_to(turn: Turn, target: Return) -> None:
    """Make a snapshot's state the run's."""
    _stop(turn, ROLLED_BACK)
    scopes, next_no = renumbered(frontier(turn.plan, target.scopes), turn.state.next_no)
    deadline = None if turn.plan.total is None else turn.frozen_now + turn.plan.total
    turn.emit(
        ev.RunRolledBack(
            snapshot=target.snapshot,
            to_seq=target.seq,
            scopes=scopes,
            next_no=next_no,
            undo=target.undo,
            reopened=turn.state.status in ENDED,
            deadline=deadline,
        )
    )
    if deadline is not None and turn.state.paused_at is None:
        turn.effects.timers[0] = deadline
    if turn.then is not None:
        # A step that was done again since counts as it was then; what came later is not there at all.
        turn.added.update(dict.fromkeys(turn.env.values.records, Record(status=ROLLED_BACK)))
        turn.added.update(turn.then)
    turn.effects.rolled_back = target.seq
    turn.effects.undone = live_numbers(target.scopes)
    rows_of_containers(turn, target.inputs)
    advance_all(turn)
