"""One decision in the making: the state moves with every event, effects collect beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from wfe_engine import events as ev
from wfe_engine.effects import Effects, SnapshotRow
from wfe_engine.evolve import evolve
from wfe_engine.plan import Block, Expression, Plan
from wfe_engine.state import RunState, encode_state
from wfe_engine.values import Evaluate, Record, Values, View, record_key

_encode = msgspec.json.encode


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
        now: Moment of everything that happens; stands still while the run is paused, for what is frozen then.
    """

    __slots__ = ("added", "effects", "env", "events", "now", "plan", "state")

    def __init__(self, plan: Plan, state: RunState, env: Env) -> None:
        self.plan = plan
        self.state = state
        self.env = env
        self.now = env.now
        self.events: list[ev.Event] = []
        self.effects = Effects()
        self.added: dict[str, Record] = {}

    @property
    def frozen_now(self) -> float:
        """The moment frozen clocks show: that of the pause while paused, now otherwise."""
        return self.now if self.state.paused_at is None else self.state.paused_at

    def emit(self, event: ev.Event) -> None:
        """Let an event happen."""
        self.state = evolve(self.state, event, self.now)
        self.events.append(event)

    def block(self, scope: str) -> Block:  # noqa: ARG002 - every scope runs the root block until kinds nest
        """The block a scope runs."""
        return self.plan.root

    def render(self, expression: Expression, scope: str) -> Any:
        """The value of an expression in a scope.

        Raises:
            ExpressionFault, Deferred: See `View.render`.
        """
        return View(self.env.values, self.env.evaluate, self.added, scope).render(expression)

    def record(self, scope: str, step_id: str, record: Record) -> None:
        """Let later expressions see a finished step."""
        self.added[record_key(scope, step_id)] = record

    def snapshot(self, kind: str, name: str = "", snapshot: str = "") -> None:
        """Keep the state as it is now, under an id if one is given."""
        snapshot = snapshot or self.env.new_id()
        self.emit(ev.SnapshotCreated(snapshot=snapshot, kind=kind, name=name))
        self.effects.snapshots.append(
            SnapshotRow(id=snapshot, seq=self.state.seq, kind=kind, name=name, state=encode_state(self.state))
        )


def encode(value: Any) -> bytes:
    """JSON bytes of a value."""
    return _encode(value)
