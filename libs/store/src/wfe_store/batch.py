"""Everything one commit cycle writes, gathered as columns for the statements of `wfe_store.statements`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from wfe_engine.effects import Dispatch, Effects, Redispatch
from wfe_engine.events import Event, encode_event
from wfe_engine.state import ENDED, RunState, encode_state, shown_status

_encode = msgspec.json.encode


class NewRun(msgspec.Struct, kw_only=True):
    """What a run has besides its state; written once, at its start.

    Attributes:
        input: JSON bytes, sealed values as placeholders.
        labels: JSON bytes of an object.
        sealed: Ciphertext by variable.
        key, key_hash: The Idempotency-Key it was started with, and the hash of the body.
        copied_seq: Newest seq of the snapshot it was forked at.
    """

    owner: UUID
    template: UUID
    template_name: str
    template_version: int
    input: bytes
    labels: bytes
    trigger: str
    created_by: UUID
    forked_from: UUID | None = None
    forked_snapshot: UUID | None = None
    copied_seq: int = 0
    sealed: dict[str, bytes] = {}
    key: str | None = None
    key_hash: bytes = b""


class RunWrite(msgspec.Struct, kw_only=True):
    """One run's share of a batch: its decisions of this cycle, one after the other.

    Attributes:
        run: Its id.
        owner, priority, started_by: Of the run.
        expected: Version it must still have; 0 for a new run.
        version: Version it gets; higher.
        state: After the decisions.
        events: (event, actor, reason) in order; the first has seq `first_seq`.
        effects: Of each decision, in order.
        leases: Executor by step number, for steps leased in this very commit.
        new: For a new run.
    """

    run: UUID
    owner: UUID
    priority: int
    started_by: UUID
    expected: int
    version: int
    state: RunState
    first_seq: int
    events: list[tuple[Event, str, str]] = []
    effects: list[Effects] = []
    leases: dict[int, str] = {}
    new: NewRun | None = None


def fence_of(version: int) -> int:
    """The lowest fence a step may have that was made free under this version of its run.

    A run's version never goes back, so neither do fences; each lease in between adds one.
    """
    return version << 16


class Columns:
    """Rows of one statement, kept as columns."""

    __slots__ = ("columns", "count")

    def __init__(self, width: int) -> None:
        self.columns: list[list[Any]] = [[] for _ in range(width)]
        self.count = 0

    def add(self, *values: Any) -> None:
        """Add a row."""
        for column, value in zip(self.columns, values, strict=True):
            column.append(value)
        self.count += 1


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def _nobody(_owner: UUID) -> bool:
    return False


class Batch:
    """The rows of a cycle, by statement.

    Args:
        now: Moment of everything in it; Unix seconds by the run store's clock.
        told: Whether events of an owner may have to be told outside: it has subscriptions, as far as is known.
    """

    def __init__(self, now: float, told: Callable[[UUID], bool] = _nobody) -> None:
        self.now = now
        self._told = told
        self.outbox = Columns(4)
        self.new_runs = Columns(20)
        self.runs = Columns(11)
        self.events = Columns(6)
        self.steps = Columns(14)
        self.changes = Columns(8)
        self.dispatch = Columns(19)
        self.redispatch = Columns(17)
        self.again = Columns(7)
        self.finished = Columns(11)
        self.timers = Columns(3)
        self.timers_off = Columns(2)
        self.gates = Columns(15)
        self.gates_off = Columns(2)
        self.told = Columns(1)
        self.snapshots = Columns(6)
        self.hold = Columns(1)
        self.release = Columns(2)
        self.rolled_back = Columns(2)
        self.keys = Columns(4)
        self.sealed = Columns(3)
        self.copies = Columns(3)

    def add(self, write: RunWrite) -> None:
        """Take in one run's decisions. Runs must be added in the order of their ids: it is the order of locks."""
        self._run(write)
        run = write.run
        seq = write.first_seq
        for event, actor, reason in write.events:
            self.events.add(run, seq, event.TYPE, actor, reason, encode_event(event).decode())
            seq += 1
        if seq > write.first_seq and self._told(write.owner):
            self.outbox.add(write.owner, run, write.first_seq, seq - 1)
        for effects in write.effects:
            self._effects(write, effects)

    def _run(self, write: RunWrite) -> None:
        state = write.state
        ended = state.status in ENDED
        output = _text(write.effects[-1].output) if ended and write.effects else None
        error = None if state.fault is None else _encode(state.fault).decode()
        status, text = shown_status(state), encode_state(state).decode()
        new = write.new
        if new is None:
            self.runs.add(
                write.run, write.expected, write.version, status, state.reason, state.seq, state.epoch, text, output,
                error, ended,
            )  # fmt: skip
            return
        self.new_runs.add(
            write.run, new.owner, new.template, new.template_name, new.template_version, status, state.reason,
            write.version, state.seq, state.epoch, text, new.input.decode(), output, error, new.labels.decode(),
            new.trigger, new.created_by, new.forked_from, new.forked_snapshot, ended,
        )  # fmt: skip
        if new.key is not None:
            self.keys.add(new.owner, new.key, new.key_hash, write.run)
        for name, ciphertext in new.sealed.items():
            self.sealed.add(write.run, name, ciphertext)
        if new.forked_from is not None:
            self.copies.add(write.run, new.forked_from, new.copied_seq)

    def _effects(self, write: RunWrite, effects: Effects) -> None:
        run = write.run
        for s in effects.steps:
            self.steps.add(
                run, s.no, s.path, s.iteration, s.visit, s.kind, s.status, s.seq, _text(s.input), _text(s.output),
                _text(s.error), None if s.gate is None else UUID(s.gate), s.due, s.ended,
            )  # fmt: skip
        for c in effects.changes:
            self.changes.add(run, c.no, c.status, c.seq, _text(c.output), _text(c.error), c.due, c.ended)
        for d in effects.dispatches:
            self._dispatch(write, d)
        for r in effects.redispatches:
            queue_deadline, total_deadline = _deadlines(r)
            self.redispatch.add(
                run, r.no, write.owner, r.path, r.iteration, r.visit, r.epoch, r.kind, r.queue, write.priority,
                r.sealed, r.max_attempts, _encode(r.clocks).decode(), fence_of(write.version), r.available_at,
                queue_deadline, total_deadline,
            )  # fmt: skip
        for a in effects.again:
            self.again.add(run, a.no, a.fence, fence_of(write.version), a.attempt, a.available_at, a.error.decode())
        for f in effects.finished:
            self.finished.add(
                run, f.no, f.fence, f.status, f.seq, f.attempts, _text(f.output), _text(f.error), f.executor,
                f.started_at, f.stop,
            )  # fmt: skip
        for no, due in effects.timers.items():
            if due is None:
                self.timers_off.add(run, no)
            else:
                self.timers.add(run, no, due)
        self._rare(write, effects)

    def _dispatch(self, write: RunWrite, d: Dispatch) -> None:
        executor = write.leases.get(d.no)
        queue_deadline, total_deadline = _deadlines(d)
        self.dispatch.add(
            write.run, d.no, write.owner, d.path, d.iteration, d.visit, d.epoch, d.kind, d.queue, write.priority,
            d.request.decode(), d.sealed, d.max_attempts, _encode(d.clocks).decode(),
            fence_of(write.version) + (1 if executor else 0), d.available_at, queue_deadline, total_deadline, executor,
        )  # fmt: skip

    def _rare(self, write: RunWrite, effects: Effects) -> None:
        run = write.run
        for g in effects.gates:
            self.gates.add(
                UUID(g.id), run, g.no, write.owner, g.path, g.iteration, g.title, g.body, _text(g.payload),
                g.policy.decode(), g.digest, write.started_by, UUID(g.replaces) if g.replaces else None, g.expires_at,
                g.on_expiry,
            )  # fmt: skip
        for close in effects.closed_gates:
            self.gates_off.add(UUID(close.id), close.status)
        for gate in effects.told:
            self.told.add(UUID(gate))
        for s in effects.snapshots:
            self.snapshots.add(run, UUID(s.id), s.seq, s.kind, s.name, s.state.decode())
        if effects.hold:
            self.hold.add(run)
        if effects.release is not None:
            self.release.add(run, effects.release)
        if effects.rolled_back is not None:
            self.rolled_back.add(run, effects.rolled_back)


def _deadlines(d: Dispatch | Redispatch) -> tuple[float | None, float | None]:
    queue = None if d.clocks.queue is None else d.available_at + d.clocks.queue
    total = None if d.clocks.total is None else d.available_at + d.clocks.total
    return queue, total
