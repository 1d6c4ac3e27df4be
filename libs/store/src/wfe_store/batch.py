"""Everything one commit cycle writes, gathered as rows for the parts of `wfe_store.statements`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace
from wfe_engine.effects import Dispatch, Effects, Redispatch
from wfe_engine.events import Emitted, Event, GateNoted, RunCreated, StepEdited, encode_event
from wfe_engine.state import ENDED, RunState, encode_state, shown_phase, shown_status

from wfe_store import statements as sql
from wfe_store import statements_gates as gate_sql
from wfe_store.blobs import INLINE_BYTES, out_of_line
from wfe_store.gate_policy import Policy
from wfe_store.part import Part

_encode = msgspec.json.encode
_decode = msgspec.json.decode
#: Values of users in events.
_LARGE: dict[type[Event], tuple[str, ...]] = {Emitted: ("data",), StepEdited: ("before", "after")}


class NewRun(msgspec.Struct, kw_only=True):
    """What a run has besides its state; written once, at its start.

    Attributes:
        input: JSON bytes, sealed values as placeholders.
        labels: JSON bytes of an object.
        sealed: Ciphertext by variable.
        key, key_hash: The Idempotency-Key it was started with, and the hash of the body.
        parent, parent_no: Run and step that wait for it.
        created_at: When it was accepted, which is what its start answered; Unix seconds.
        copied_seq: Newest seq of the snapshot it was forked at.
        not_copied: Numbers of the steps that were live at that snapshot.
    """

    owner: UUID
    template: UUID
    template_name: str
    template_version: int
    input: bytes
    labels: bytes
    trigger: str
    created_by: UUID
    created_at: float
    forked_from: UUID | None = None
    forked_snapshot: UUID | None = None
    parent: UUID | None = None
    parent_no: int = 0
    copied_seq: int = 0
    not_copied: list[int] = []
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
        is_child: Another run waits for its end.
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
    is_child: bool = False


def fence_of(version: int) -> int:
    """The lowest fence a step may have that was made free under this version of its run.

    A run's version never goes back, so neither do fences; each lease in between adds one.
    """
    return version << 16


class Rows:
    """Rows of one part of a commit."""

    __slots__ = ("part", "rows")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.rows: list[tuple[Any, ...]] = []

    def add(self, *values: Any) -> None:
        """Add a row. Text may come as UTF-8 bytes, UUIDs as their bytes."""
        self.rows.append(values)

    def parameters(self) -> list[bytes]:
        """The rows as the server takes them: an array for each column."""
        columns = zip(*self.rows, strict=True)
        return [encode(column) for encode, column in zip(self.part.encoders, columns, strict=True)]


def _nobody(_owner: UUID) -> bool:
    return False


class Batch:
    """The rows of a cycle, by part.

    Args:
        now: Moment of everything in it; Unix seconds by the run store's clock.
        told_outside: Whether events of an owner may have to be told outside: it has subscriptions, as far as is known.
    """

    def __init__(self, now: float, told_outside: Callable[[UUID], bool] = _nobody) -> None:
        self.now = now
        self._told_outside = told_outside
        self.runs = Rows(sql.RUNS)
        self.keys = Rows(sql.KEYS)
        self.new_runs = Rows(sql.NEW_RUNS)
        self.sealed = Rows(sql.SEALED)
        self.copies = Rows(sql.COPIES)
        self.blobs = Rows(sql.BLOBS)
        self.gates_off = Rows(gate_sql.GATES_OFF)
        self.superseded = Rows(gate_sql.SUPERSEDED)
        self.changes = Rows(sql.CHANGES)
        self.again = Rows(sql.AGAIN)
        self.finished = Rows(sql.FINISHED)
        self.rolled_back = Rows(sql.ROLLED_BACK)
        self.undone = Rows(sql.UNDONE)
        self.revised = Rows(gate_sql.REVISED)
        self.steps = Rows(sql.STEPS)
        self.redispatch = Rows(sql.REDISPATCH)
        self.dispatch = Rows(sql.DISPATCH)
        self.hold = Rows(sql.HOLD)
        self.release = Rows(sql.RELEASE)
        self.timers_off = Rows(sql.TIMERS_OFF)
        self.timers = Rows(sql.TIMERS)
        self.gates = Rows(gate_sql.GATES)
        self.told = Rows(gate_sql.TOLD)
        self.noted = Rows(gate_sql.NOTED)
        self.signals = Rows(sql.SIGNALS)
        self.children_done = Rows(sql.CHILDREN_DONE)
        self.children = Rows(sql.CHILDREN)
        self.children_begun = Rows(sql.CHILDREN_BEGUN)
        self.children_ended = Rows(sql.CHILDREN_ENDED)
        self.snapshots = Rows(sql.SNAPSHOTS)
        self.events = Rows(sql.EVENTS)
        self.outbox = Rows(sql.OUTBOX)

    def parts(self) -> list[Rows]:
        """Those that have rows, in the order of locks: runs first, then what hangs on them."""
        every = (
            self.runs, self.keys, self.new_runs, self.sealed, self.copies, self.blobs, self.gates_off, self.superseded,
            self.changes, self.again, self.finished, self.rolled_back, self.undone, self.revised, self.steps,
            self.redispatch, self.dispatch, self.hold, self.release, self.timers_off, self.timers, self.gates,
            self.told, self.noted, self.signals, self.children_done, self.children, self.children_begun,
            self.children_ended, self.snapshots, self.events, self.outbox,
        )  # fmt: skip
        return [part for part in every if part.rows]

    def add(self, write: RunWrite) -> None:
        """Take in one run's decisions. Runs must be added in the order of their ids: it is the order of locks."""
        given = self._run(write)
        run = write.run.bytes
        seq = write.first_seq
        for event, actor, reason in write.events:
            if isinstance(event, GateNoted):  # it happened before, and somebody else did it
                actor, reason = event.by, event.comment
            if type(given) is str and isinstance(event, RunCreated):
                event = replace(event, input=msgspec.json.decode(given))
            self.events.add(run, seq, event.TYPE, actor, reason, self._event(write.run, event))
            seq += 1
        if seq > write.first_seq and self._told_outside(write.owner):
            self.outbox.add(write.owner, run, write.first_seq, seq - 1)
        for effects in write.effects:
            self._effects(write, effects)
        if write.is_child and write.state.status in ENDED:
            self.children_ended.add(run)
        wishes = {wish.no: wish for effects in write.effects for wish in effects.children}
        for no, wish in wishes.items():
            if wish.wish == "done":
                self.children_done.add(run, no)
            else:
                request = self._value(write.run, wish.request)
                self.children.add(run, no, UUID(wish.child), write.owner, write.started_by, wish.wish, request)

    def _event(self, run: UUID, event: Event) -> bytes:
        """JSON of an event's data, with references in place of what is too large for a row."""
        data = encode_event(event)
        if len(data) <= INLINE_BYTES:
            return data
        values = {name: getattr(event, name) for name in _LARGE.get(type(event), ())}
        texts = {name: out_of_line(_encode(value), self.blobs, run) for name, value in values.items()}
        return encode_event(replace(event, **{name: _decode(text) for name, text in texts.items()}))

    def _run(self, write: RunWrite) -> str | bytes | None:
        """The run's own row; gives what stands in it for the input of a new run: text for a reference."""
        state = write.state
        ended = state.status in ENDED
        output = self._value(write.run, write.effects[-1].output) if ended and write.effects else None
        error = None if state.fault is None else _encode(state.fault)
        status, text = shown_status(state), encode_state(state)
        new = write.new
        if new is None:
            self.runs.add(
                write.run, write.expected, write.version, status, shown_phase(state), state.reason, state.seq,
                state.epoch, text, output, error, ended,
                state.start_at is None,
            )  # fmt: skip
            return None
        given = self._value(write.run, new.input)
        self.new_runs.add(
            write.run, new.owner, new.template, new.template_name, new.template_version, status, state.reason,
            write.version, state.seq, state.epoch, text, given, output, error, new.labels,
            new.trigger, new.created_by, new.forked_from, new.forked_snapshot, new.parent, new.parent_no or None,
            new.created_at, ended, state.start_at,
        )  # fmt: skip
        if new.parent is not None:
            self.children_begun.add(write.run)
        if new.key is not None:
            self.keys.add(new.owner, new.key, new.key_hash, write.run)
        for name, ciphertext in new.sealed.items():
            self.sealed.add(write.run, name, ciphertext)
        if new.forked_from is not None:
            self.copies.add(write.run, new.forked_from, new.copied_seq, _encode(new.not_copied))
        return given

    def _effects(self, write: RunWrite, effects: Effects) -> None:
        run = write.run.bytes
        for s in effects.steps:
            self.steps.add(
                run, s.no, s.path, s.scope, s.iteration, s.visit, s.kind, s.status, s.seq,
                self._value(write.run, s.input), self._value(write.run, s.output), s.error,
                None if s.gate is None else UUID(s.gate), s.due, s.ended,
            )  # fmt: skip
        for c in effects.changes:
            self.changes.add(run, c.no, c.status, c.seq, self._value(write.run, c.output), c.error, c.due, c.ended)
        for d in effects.dispatches:
            self._dispatch(write, d)
        for r in effects.redispatches:
            queue_deadline, total_deadline = _deadlines(r)
            self.redispatch.add(
                run, r.no, write.owner, r.path, r.scope, r.iteration, r.visit, r.epoch, r.kind, r.queue, write.priority,
                r.sealed, r.max_attempts, _encode(r.clocks), fence_of(write.version), r.available_at, queue_deadline,
                total_deadline, self._value(write.run, r.request), UUID(r.approval) if r.approval else None, r.digest,
            )  # fmt: skip
        for a in effects.again:
            self.again.add(run, a.no, a.fence, fence_of(write.version), a.attempt, a.available_at, a.error)
        for f in effects.finished:
            self.finished.add(
                run, f.no, f.fence, f.status, f.seq, f.attempts, self._value(write.run, f.output), f.error,
                f.executor, f.started_at, f.stop,
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
            write.run, d.no, write.owner, d.path, d.scope, d.iteration, d.visit, d.epoch, d.kind, d.queue,
            write.priority, self._value(write.run, d.request), d.sealed, d.max_attempts, _encode(d.clocks),
            fence_of(write.version) + (1 if executor else 0), d.available_at, queue_deadline, total_deadline, executor,
            UUID(d.approval) if d.approval else None, d.digest,
        )  # fmt: skip

    def _value(self, run: UUID, data: bytes | None) -> str | bytes | None:
        """JSON of a value, or the reference to it when it is too large for a row."""
        if data is None or (type(data) is bytes and len(data) <= INLINE_BYTES):
            return data
        return out_of_line(data, self.blobs, run)

    def _rare(self, write: RunWrite, effects: Effects) -> None:
        run = write.run.bytes
        for g in effects.gates:
            policy = Policy.parse(g.policy.decode())
            agenda = _decode(g.agenda)
            payload = self._value(write.run, g.payload)
            self.gates.add(
                UUID(g.id), run, g.no, write.owner, g.path, g.iteration, g.title, g.body, payload, g.policy, g.digest,
                write.started_by, UUID(g.replaces) if g.replaces else None, g.expires_at, g.on_expiry,
                _encode(policy.who()), _encode(policy.exclude), g.risk, g.bound, g.round, g.opens_at,
                float(agenda[0][0]) if agenda else None, g.agenda, g.branch,
            )  # fmt: skip
        for close in effects.closed_gates:
            self.gates_off.add(UUID(close.id), close.status, close.decided)
        for gate in effects.superseded:
            self.superseded.add(UUID(gate))
        for gate in effects.told:
            self.told.add(UUID(gate))
        for gate, upto in effects.noted:
            self.noted.add(UUID(gate), upto)
        for again in effects.revised:
            self.revised.add(run, again.seq, again.scope, again.path, again.prefix)
        for s in effects.snapshots:
            self.snapshots.add(run, UUID(s.id), s.seq, s.kind, s.name, s.state)
        for signal in effects.signals:
            self.signals.add(run, UUID(signal.id), signal.name, self._value(write.run, signal.payload))
        if effects.hold:
            self.hold.add(run)
        if effects.release is not None:
            self.release.add(run, effects.release)
        if effects.rolled_back is not None:
            self.rolled_back.add(run, effects.rolled_back)
            for no in effects.undone:
                self.undone.add(run, no)


def _deadlines(d: Dispatch | Redispatch) -> tuple[float | None, float | None]:
    queue = None if d.clocks.queue is None else d.available_at + d.clocks.queue
    total = None if d.clocks.total is None else d.available_at + d.clocks.total
    return queue, total
