"""Looks through a history for what must never happen. Knows nothing of how it came about."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cached_property

import msgspec
from wfe_engine.events import decode_event
from wfe_engine.evolve import fold
from wfe_engine.state import encode_state

from tools.chaos.history import Event, History, Run, Start, Step
from tools.chaos.shapes import CALLS, GIVES
from tools.chaos.witness import Call

_ENDED = frozenset({"completed", "failed", "cancelled"})
_ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})
_STEP_ENDS = frozenset({"step.completed", "step.failed", "step.skipped", "step.cancelled"})
_DECISIONS = frozenset({"approval.approved", "approval.rejected", "approval.expired"})


class Violation(msgspec.Struct):
    """Something that must never happen: which check found it, in which run, and what."""

    check: str
    run: str
    what: str


class View:
    """A history with what the checks look up."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.runs = {run.id: run for run in history.runs}
        self.starts = {start.run: start for start in history.starts if start.run}

    @cached_property
    def events(self) -> dict[str, list[Event]]:
        """By run, in the order of the rows."""
        found: defaultdict[str, list[Event]] = defaultdict(list)
        for event in self.history.events:
            found[event.run].append(event)
        return found

    @cached_property
    def steps(self) -> dict[str, list[Step]]:
        """By run."""
        found: defaultdict[str, list[Step]] = defaultdict(list)
        for step in self.history.steps:
            found[step.run].append(step)
        return found

    @cached_property
    def calls(self) -> dict[str, list[Call]]:
        """By run, in the order they came."""
        found: defaultdict[str, list[Call]] = defaultdict(list)
        for call in self.history.calls:
            found[call.run].append(call)
        return found

    def started(self) -> Iterator[tuple[Start, Run]]:
        """Acknowledged starts with the runs they gave."""
        for start in self.history.starts:
            if start.run and start.run in self.runs:
                yield start, self.runs[start.run]


Found = Iterator[tuple[str, str]]


def every_acknowledged_start_ends(view: View) -> Found:
    """A run whose start was acknowledged is there, under its key, and has ended."""
    for start in view.history.starts:
        if not start.run:
            continue
        run = view.runs.get(start.run)
        if run is None:
            yield start.run, f"the start {start.key} was acknowledged and its run is not there"
        elif run.status not in _ENDED:
            yield run.id, f"the run of {start.key} is still {run.status}"
        elif run.key != start.key:
            yield run.id, f"it was answered to {start.key} and was started with {run.key!r}"


def one_run_for_a_key(view: View) -> Found:
    """A key starts one run however often it is sent, and nothing else starts any."""
    keys = Counter(run.key for run in view.history.runs if not run.parent)
    asked = {start.key for start in view.history.starts}
    for run in view.history.runs:
        if not run.parent and keys[run.key] > 1:
            yield run.id, f"{keys[run.key]} runs were started with {run.key!r}"
        if not run.parent and run.key not in asked:
            yield run.id, f"nobody asked for a run with {run.key!r}"


def one_child_for_a_step(view: View) -> Found:
    """A step that runs a child has one, and its parent is there."""
    children = Counter((run.parent, run.parent_no) for run in view.history.runs if run.parent)
    for (parent, no), count in children.items():
        if count > 1:
            yield parent, f"step {no} has {count} children"
        if parent not in view.runs:
            yield parent, "it has a child and is not there"


def runs_come_to_what_they_must(view: View) -> Found:
    """Status and output are those of the template, and of what clients had acknowledged."""
    approved = {gate.run: gate.status for gate in view.history.gates}
    for start, run in view.started():
        if run.status == "cancelled" and start.cancel_asked:
            continue
        expected = "failed" if start.fails or approved.get(run.id) == "rejected" else "completed"
        if start.cancel_acked:
            yield run.id, f"its cancel was acknowledged and it {run.status}"
        elif run.status in _ENDED and run.status != expected:
            yield run.id, f"a {start.shape} is {run.status} ({run.reason}) where it must be {expected}"
        elif run.status == "completed" and run.given != GIVES[start.shape]:
            yield run.id, f"a {start.shape} gave {run.given}"


def clients_saw_what_is_stored(view: View) -> Found:
    """An end a client was told of is the end that is stored."""
    for start, run in view.started():
        if start.seen and start.seen != run.status:
            yield run.id, f"a client saw it {start.seen} and it is {run.status}"
        if start.seen == "completed" and start.given != run.given:
            yield run.id, f"a client saw it give {start.given} and it gave {run.given}"


def one_result_for_a_step(view: View) -> Found:
    """A step is on record once, ends once, and not with more attempts than it may have."""
    for run, steps in view.steps.items():
        names = Counter((step.path, step.iteration, step.visit) for step in steps)
        for name, count in names.items():
            if count > 1:
                yield run, f"step {name} is on record {count} times"
        for step in steps:
            if step.attempts > step.max_attempts:
                yield run, f"step {step.path} had {step.attempts} attempts of {step.max_attempts}"
    for run, events in view.events.items():
        ends = Counter(event.facts["no"] for event in events if event.type in _STEP_ENDS)
        for no, count in ends.items():
            if count > 1:
                yield run, f"step {no} ended {count} times"


def calls_of_a_step_share_one_key(view: View) -> Found:
    """The world outside can tell a repeated call: one key for one step, and no key for two."""
    steps_of: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    keys_of: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for call in view.history.calls:
        steps_of[call.key].add((call.run, call.step))
        keys_of[call.run, call.step].add(call.key)
    for key, steps in steps_of.items():
        if len(steps) > 1 or not key:
            yield min(steps)[0], f"the key {key!r} came from {sorted(steps)}"
    for (run, step), keys in keys_of.items():
        if len(keys) > 1:
            yield run, f"step {step} called with {sorted(keys)}"


def what_completed_was_done(view: View) -> Found:
    """A completed run has called the world as its template says, and it was answered well."""
    done = {(call.run, call.step) for call in view.history.calls if call.status == 200}
    for start, run in view.started():
        if run.status != "completed":
            continue
        missing = sorted(step for step in CALLS[start.shape] if (run.id, step) not in done)
        if missing:
            yield run.id, f"it completed without {missing}"


def what_failed_was_undone(view: View) -> Found:
    """What a failed run had done is taken back, last first; of any other nothing is, but of cancelled ones."""
    for start, run in view.started():
        if start.shape != "undo" or run.status == "cancelled":
            continue
        undone = [call.step for call in view.calls[run.id] if call.step.startswith("undo-") and call.status == 200]
        first = list(dict.fromkeys(undone))
        expected = ["undo-pay", "undo-reserve"] if run.status == "failed" else []
        if first != expected:
            yield run.id, f"it {run.status} and undid {first}"


def seq_has_no_gaps(view: View) -> Found:
    """Events are numbered 1, 2, 3 …, up to what the run says."""
    for run in view.history.runs:
        numbers = [event.seq for event in view.events[run.id]]
        if numbers != list(range(1, run.seq + 1)):
            yield run.id, f"its events are numbered {numbers} and its seq is {run.seq}"


def fold_equals_state(view: View) -> Found:
    """The stored state is what the events come to."""
    for run in view.history.runs:
        log = [(decode_event(event.type, event.data), event.at) for event in view.events[run.id]]
        try:
            folded = encode_state(fold(log)).decode()
        except Exception as fault:  # noqa: BLE001 - a log that cannot be folded is a finding
            yield run.id, f"its events cannot be folded: {fault!r}"
            continue
        if folded != run.state:
            yield run.id, f"its events come to {folded} and its state is {run.state}"


def fences_rise(view: View) -> Found:
    """A fence never goes back, and nobody else holds a step under the same one."""
    last: dict[tuple[str, int], tuple[int, str]] = {}
    for seen in view.history.fences:
        fence, executor = last.get((seen.run, seen.no), (0, ""))
        if seen.fence < fence:
            yield seen.run, f"the fence of step {seen.no} went from {fence} to {seen.fence}"
        if seen.fence == fence and executor and seen.executor != executor:
            yield seen.run, f"step {seen.no} went from {executor} to {seen.executor or 'nobody'} under one fence"
        last[seen.run, seen.no] = seen.fence, seen.executor


def one_decision_for_a_gate(view: View) -> Found:
    """A gate is decided once, as somebody was told, and its run was told."""
    decided: Counter[str] = Counter()
    for event in view.history.events:
        if event.type in _DECISIONS:
            decided[event.facts["approval"]] += 1
    gates = {gate.id: gate for gate in view.history.gates}
    acknowledged: defaultdict[str, set[str]] = defaultdict(set)
    for decision in view.history.decided:
        acknowledged[decision.gate].add(decision.what)
    for gate in gates.values():
        if decided[gate.id] > 1:
            yield gate.run, f"gate {gate.id} was decided {decided[gate.id]} times"
        if gate.status == "open":
            yield gate.run, f"gate {gate.id} is open"
        if gate.outcome and not gate.told:
            yield gate.run, f"nobody told the run that gate {gate.id} was {gate.status}"
    for id_, whats in acknowledged.items():
        status = gates[id_].status if id_ in gates else "missing"
        if whats != {{"approved": "approve", "rejected": "reject"}.get(status)}:
            yield gates[id_].run if id_ in gates else "", f"gate {id_} is {status} and {sorted(whats)} was acknowledged"


def acknowledged_signals_are_kept(view: View) -> Found:
    """A signal that was acknowledged is in the log of its run, once."""
    for start, run in view.started():
        got = sum(event.type == "signal.received" and event.facts["name"] == "go" for event in view.events[run.id])
        if got > 1 or (start.signal_acked and got != 1):
            yield run.id, f"its log has the signal {got} times"


def nothing_after_the_end(view: View) -> Found:
    """The end of a run is its last event, and there is one."""
    for run in view.history.runs:
        types = [event.type for event in view.events[run.id]]
        ends = [kind for kind in types if kind in _ENDS]
        if run.status in _ENDED and (len(ends) != 1 or types[-1] not in _ENDS):
            yield run.id, f"it is {run.status} and its last events are {types[-3:]}, with {len(ends)} ends"


def nothing_is_left(view: View) -> Found:
    """When every run has ended nothing is leased, due, on its way out or in a transaction."""
    for table, count in view.history.left.items():
        if count:
            yield "", f"{count} rows are left in {table}"
    if view.history.idle_in_transaction:
        yield "", f"{view.history.idle_in_transaction} connections stand in a transaction"
    if view.history.connections > view.history.most_connections:
        yield "", f"{view.history.connections} connections are open, of {view.history.most_connections} there may be"


CHECKS: dict[str, Callable[[View], Found]] = {
    check.__name__: check
    for check in (
        every_acknowledged_start_ends,
        one_run_for_a_key,
        one_child_for_a_step,
        runs_come_to_what_they_must,
        clients_saw_what_is_stored,
        one_result_for_a_step,
        calls_of_a_step_share_one_key,
        what_completed_was_done,
        what_failed_was_undone,
        seq_has_no_gaps,
        fold_equals_state,
        fences_rise,
        one_decision_for_a_gate,
        acknowledged_signals_are_kept,
        nothing_after_the_end,
        nothing_is_left,
    )
}


def check(history: History) -> list[Violation]:
    """Everything that is wrong with a history."""
    view = View(history)
    return [Violation(name, run, what) for name, find in CHECKS.items() for run, what in find(view)]
