"""One decision in the making: the state moves with every event, effects collect beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from wfe_engine import events as ev
from wfe_engine.approved import revision
from wfe_engine.effects import Effects, SnapshotRow, StepRow
from wfe_engine.evolve import evolve
from wfe_engine.plan import ITERATING, Block, Expression, Node, Plan
from wfe_engine.scopes import UNDO, child_key, place
from wfe_engine.sizes import INPUT_TOO_LARGE
from wfe_engine.state import ENDED, Fault, RunState, Step, Undo, encode_state
from wfe_engine.values import Evaluate, ExpressionFault, Record, Values, View, record_key

_encode = msgspec.json.encode
_NULL = b"null"


class Env(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision is handed from outside; nothing else reaches it.

    Attributes:
        now: The run store's clock; Unix seconds.
        chance: A random number from 0 up to 1, for jitter.
        new_id: Gives a fresh UUID, as text.
        values: What the run's expressions see.
        evaluate: Evaluates what is not a plain path.
        snapshot_every: Events between two periodic snapshots; 0 for none.
    """

    now: float
    chance: float
    new_id: Callable[[], str]
    values: Values
    evaluate: Evaluate
    snapshot_every: int = 0


class Turn:
    """Collects what one command brings about.

    Attributes:
        state: After the events so far.
        events: So far.
        effects: So far.
        added: Records of steps that finished in this decision.
        entered: Inputs of steps with blocks that were entered in this decision, by number: JSON bytes and value.
        signals: Payloads of signals that came in this decision, by id.
        todo: Scopes and steps with blocks to look at before the decision is done.
        hard: Nothing that a template would still do at its end is begun any more.
        now: Moment of everything that happens; stands still while the run is paused, for what is frozen then.
    """

    __slots__ = (
        "_places",
        "added",
        "asked",
        "effects",
        "entered",
        "env",
        "events",
        "hard",
        "now",
        "plan",
        "signals",
        "state",
        "then",
        "todo",
    )

    def __init__(self, plan: Plan, state: RunState, env: Env) -> None:
        self.plan = plan
        self.state = state
        self.env = env
        self.now = env.now
        self.events: list[ev.Event] = []
        self.effects = Effects()
        self.added: dict[str, Record] = {}
        self.entered: dict[int, tuple[bytes, Any]] = {}
        self.signals: dict[str, bytes] = {}
        self.todo: deque[Callable[[], None]] = deque()
        self.hard = False
        #: The last gates of approval steps the run goes back behind, by `asked_key`.
        self.asked = env.values.asked
        #: Finished steps as the snapshot has them that the run goes back to; None for those of now.
        self.then = env.values.then
        self._places: dict[str, tuple[Block, str]] = {"": (plan.root, "")}

    @property
    def frozen_now(self) -> float:
        """The moment frozen clocks show: that of the pause while paused, now otherwise."""
        return self.now if self.state.paused_at is None else self.state.paused_at

    @property
    def closing(self) -> bool:
        """Whether nothing of the template is entered any more: the run has ended, or takes back what its steps did."""
        return self.state.status in ENDED or bool(self.state.phase)

    def emit(self, event: ev.Event) -> None:
        """Let an event happen."""
        self.state = evolve(self.state, event, self.now)
        self.events.append(event)

    # ---- places

    def block(self, scope: str) -> Block:
        """The block a scope runs."""
        return self._place(scope)[0]

    def iteration(self, scope: str) -> str:
        """The rounds a scope is in, from the outside in, joined by dots; empty outside of loops."""
        return self._place(scope)[1]

    def _place(self, scope: str) -> tuple[Block, str]:
        known = self._places.get(scope)
        if known is None:
            parent, index, block, round_ = place(scope)
            outer, iteration = self._place(parent)
            node = outer.nodes[index]
            if node.kind in ITERATING:
                iteration = f"{iteration}.{round_}" if iteration else str(round_)
            known = self._places[scope] = (node.blocks[block], iteration)
        return known

    def node(self, scope: str, index: int) -> Node:
        """A step of a scope, as the template has it."""
        if scope == UNDO:
            return self.undoing(self.live(scope, index).no)[0]
        return self.block(scope).nodes[index]

    def undoing(self, no: int) -> tuple[Node, Undo]:
        """What takes a completed step back, by the number of the step that does it."""
        undo = next(undo for undo in self.state.undo if undo.no == no)
        node = self.node(undo.scope, undo.index).compensate
        assert node is not None
        return node, undo

    def live(self, scope: str, index: int) -> Step:
        """A live step of a scope."""
        return self.state.scopes[scope].live[index]

    def params(self, step: Step) -> Any:
        """What the params of a live step evaluated to."""
        entered = self.entered.get(step.no)
        return self.env.values.params(step.no) if entered is None else entered[1]

    def enter(self, no: int, given: bytes, params: Any = msgspec.UNSET) -> None:
        """Keep what the params of a step with blocks evaluated to."""
        self.entered[no] = (given, msgspec.json.decode(given) if params is msgspec.UNSET else params)

    # ---- values

    def render(self, expression: Expression, scope: str, code: str = INPUT_TOO_LARGE) -> Any:
        """The value of an expression in a scope.

        Args:
            code: What it fails with when it is too large.

        Raises:
            ExpressionFault, Deferred: See `View.value`.
        """
        return View(self.env.values, self.env.evaluate, self.added, self, scope, code).value(expression)

    def local(self, root: str, scope: str) -> Any:
        """See `values.Surroundings`."""
        if root == "revision":
            return revision(self, scope)
        while scope:
            parent, index, block, round_ = place(scope)
            node = self.node(parent, index)
            if root == "error" and node.kind == "try" and (role := node.blocks[block].role) != "body":
                step = self.live(parent, index)
                fault = step.caught if role == "catch" else step.fault
                return None if fault is None else fault_value(fault)
            if node.kind == "foreach" and root in ("item", "index"):
                return round_ if root == "index" else self.params(self.live(parent, index))["items"][round_]
            if node.kind == "loop" and root == "index":
                return round_
            scope = parent
        raise KeyError(root)

    def loop(self, step_id: str, scope: str) -> Record | None:
        """See `values.Surroundings`."""
        while scope:
            parent, index, block, round_ = place(scope)
            node = self.node(parent, index)
            if node.id == step_id and node.kind == "loop":
                output = self.result(child_key(parent, index, block, round_ - 1)) if round_ else None
                return Record(status="running", output=output)
            scope = parent
        return None

    def record(self, scope: str, step_id: str, record: Record) -> None:
        """Let later expressions see a finished step."""
        self.added[record_key(scope, step_id)] = record

    def recorded(self, scope: str, step_id: str) -> Record | None:
        """The finished step of that very scope."""
        key = record_key(scope, step_id)
        return self.added.get(key) or self.env.values.records.get(key)

    def result(self, scope: str) -> bytes:
        """Output of a block that has ended; JSON bytes."""
        block = self.block(scope)
        record = self.recorded(scope, block.nodes[block.result].id)
        return _NULL if record is None or record.output is None else record.output

    # ---- effects

    def row(self, scope: str, node: Node, no: int, status: str, **more: Any) -> None:
        """Write the whole row of a step no executor runs."""
        self.effects.steps.append(
            StepRow(
                no=no,
                path=node.path,
                kind=node.kind,
                status=status,
                seq=self.state.seq,
                visit=self.state.visit,
                scope=scope,
                iteration=self.iteration(scope),
                **more,
            )
        )

    def snapshot(self, kind: str, name: str = "", snapshot: str = "") -> None:
        """Keep the state as it is now, under an id if one is given."""
        snapshot = snapshot or self.env.new_id()
        self.emit(ev.SnapshotCreated(snapshot=snapshot, kind=kind, name=name))
        self.effects.snapshots.append(
            SnapshotRow(id=snapshot, seq=self.state.seq, kind=kind, name=name, state=encode_state(self.state))
        )


def expression_fault(fault: ExpressionFault, path: str, where: str) -> Fault:
    """What a step fails with when one of its expressions cannot be evaluated.

    Args:
        where: Key of the step it stands in.
    """
    place = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault.place)
    return Fault(
        code=fault.code,
        message=": ".join(filter(None, (place, fault.expression, fault.message))),
        step=path,
        details={"expression": fault.expression, "place": place},
    )


def fault_value(fault: Fault) -> dict[str, Any]:
    """A fault as expressions see it: every field there, also the empty ones."""
    return {"code": fault.code, "message": fault.message, "step": fault.step, "details": fault.details}


def encode(value: Any) -> bytes:
    """JSON bytes of a value."""
    return _encode(value)
