"""The checker is shown what must never happen, one at a time, and finds it; in a good history it finds nothing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from wfe_engine.events import decode_event
from wfe_engine.evolve import fold
from wfe_engine.state import encode_state

from tools.chaos.checker import CHECKS, check
from tools.chaos.history import Decided, Event, Fence, Gate, History, Run, Start, Step
from tools.chaos.witness import Call

CHAIN, GATED, PARENT, CHILD, UNDONE, WAITED = (f"00000000-0000-7000-8000-00000000000{n}" for n in range(1, 7))
GATE = "00000000-0000-7000-8000-0000000000aa"
TEMPLATE = "00000000-0000-7000-8000-0000000000bb"


def log(run: str, *events: tuple[str, dict[str, object]]) -> list[Event]:
    facts: list[tuple[str, dict[str, object]]] = [
        ("run.created", {"template": TEMPLATE, "template_version": 1, "trigger": "api", "input": {}, "labels": {}}),
        ("run.started", {}),
        *events,
    ]
    return [
        Event(run, seq, kind, 1000.0 + seq, msgspec.json.encode(data).decode())
        for seq, (kind, data) in enumerate(facts, 1)
    ]


def step(no: int, path: str, **more: object) -> dict[str, object]:
    return {"no": no, "i": no - 1, "step": path, **more}


def work(no: int, path: str) -> list[tuple[str, dict[str, object]]]:
    return [
        ("step.ready", step(no, path, kind="http")),
        ("step.completed", step(no, path, attempt=1, executor="x")),
    ]


FAULT = {"code": "HTTP_422", "message": "no"}
LOGS = {
    CHAIN: log(CHAIN, *work(1, "a"), *work(2, "c"), *work(3, "e"), ("run.completed", {})),
    GATED: log(
        GATED,
        *work(1, "before"),
        ("approval.requested", step(2, "ask", approval=GATE, title="Go on?")),
        ("approval.approved", step(2, "ask", approval=GATE)),
        ("step.completed", step(2, "ask")),
        *work(3, "after"),
        ("run.completed", {}),
    ),
    PARENT: log(PARENT, *work(1, "first"), ("run.completed", {})),
    CHILD: log(CHILD, *work(1, "one"), ("run.completed", {})),
    UNDONE: log(UNDONE, *work(1, "reserve"), ("run.failed", {"reason": "step_failed", "fault": FAULT})),
    WAITED: log(
        WAITED,
        ("signal.received", {"signal": TEMPLATE, "name": "go"}),
        *work(1, "tell"),
        ("run.completed", {}),
    ),
}
SHAPES = {CHAIN: "chain", GATED: "gate", PARENT: "children", UNDONE: "undo", WAITED: "wait"}
STEPS_CALLED = {
    CHAIN: "a c e", GATED: "before after", PARENT: "first", CHILD: "one two",
    UNDONE: "reserve pay ship undo-pay undo-reserve", WAITED: "tell last",
}  # fmt: skip
GIVES = {CHAIN: 2, GATED: 1, PARENT: 6, WAITED: 1}


def state_of(run: str) -> str:
    return encode_state(fold([(decode_event(e.type, e.data), e.at) for e in LOGS[run]])).decode()


@pytest.fixture
def good() -> History:
    """A sitting in which all went well."""
    statuses = dict.fromkeys(LOGS, "completed") | {UNDONE: "failed"}
    return History(
        starts=[
            Start(
                key=f"key-{shape}", shape=shape, run=run, fails=run == UNDONE, acked_at=1.0,
                seen=statuses[run], given=GIVES.get(run), signal_acked=run == WAITED,
            )
            for run, shape in SHAPES.items()
        ],
        decided=[Decided(GATE, "approve", "ada")],
        calls=[
            Call(1.0, run, name, f"{run}-{name}", 200)
            for run, names in STEPS_CALLED.items()
            for name in names.split()
        ],
        runs=[
            Run(
                id=run, key=f"key-{SHAPES[run]}" if run in SHAPES else "", template="t", status=statuses[run],
                reason="", seq=len(events), state=state_of(run), given=GIVES.get(run),
                parent=PARENT if run == CHILD else "", parent_no=2 if run == CHILD else 0,
            )
            for run, events in LOGS.items()
        ],
        steps=[Step(CHAIN, 1, "a", "", 1, "http", "completed", 1, 3)],
        events=[event for events in LOGS.values() for event in events],
        gates=[Gate(GATE, GATED, "approved", "approve", True)],
        fences=[Fence(CHAIN, 1, 65536, ""), Fence(CHAIN, 1, 65537, "x"), Fence(CHAIN, 1, 65538, "")],
        left={"dispatch": 0},
        connections=30,
        most_connections=30,
    )  # fmt: skip


def run_of(history: History, id_: str) -> Run:
    return next(run for run in history.runs if run.id == id_)


def start_of(history: History, id_: str) -> Start:
    return next(start for start in history.starts if start.run == id_)


def events_of(history: History, id_: str, *events: Event) -> None:
    history.events += events
    history.events.sort(key=lambda event: (event.run, event.seq))
    run_of(history, id_).seq = max(event.seq for event in history.events if event.run == id_)


def _still_running(history: History) -> None:
    run_of(history, CHAIN).status = "running"


def _vanished(history: History) -> None:
    history.runs = [run for run in history.runs if run.id != CHAIN]


def _another_answer(history: History) -> None:
    run_of(history, CHAIN).key, run_of(history, GATED).key = run_of(history, GATED).key, run_of(history, CHAIN).key


def _twice_started(history: History) -> None:
    history.runs.append(msgspec.structs.replace(run_of(history, CHAIN), id=TEMPLATE))


def _unasked(history: History) -> None:
    history.starts = [start for start in history.starts if start.run != CHAIN]


def _two_children(history: History) -> None:
    history.runs.append(msgspec.structs.replace(run_of(history, CHILD), id=TEMPLATE))


def _orphan(history: History) -> None:
    run_of(history, CHILD).parent = TEMPLATE


def _wrong_end(history: History) -> None:
    run_of(history, CHAIN).status = "failed"


def _wrong_output(history: History) -> None:
    run_of(history, CHAIN).given = 3


def _not_cancelled(history: History) -> None:
    start_of(history, CHAIN).cancel_asked = start_of(history, CHAIN).cancel_acked = True


def _seen_otherwise(history: History) -> None:
    start_of(history, CHAIN).seen = "cancelled"


def _seen_to_give_otherwise(history: History) -> None:
    start_of(history, CHAIN).given = 1


def _step_twice_on_record(history: History) -> None:
    history.steps.append(Step(CHAIN, 2, "a", "", 1, "http", "completed", 1, 3))


def _step_ended_twice(history: History) -> None:
    last = LOGS[CHAIN][3]
    events_of(history, CHAIN, Event(CHAIN, 10, last.type, last.at, last.data))


def _too_many_attempts(history: History) -> None:
    history.steps[0].attempts = 4


def _two_keys(history: History) -> None:
    history.calls.append(Call(2.0, CHAIN, "a", "another", 200))


def _shared_key(history: History) -> None:
    history.calls.append(Call(2.0, GATED, "before", f"{CHAIN}-a", 200))


def _no_key(history: History) -> None:
    history.calls.append(Call(2.0, CHAIN, "z", "", 200))


def _never_called(history: History) -> None:
    history.calls = [call for call in history.calls if (call.run, call.step) != (CHAIN, "c")]


def _never_answered(history: History) -> None:
    next(call for call in history.calls if (call.run, call.step) == (CHAIN, "c")).status = 503


def _not_undone(history: History) -> None:
    history.calls = [call for call in history.calls if call.step != "undo-reserve"]


def _undone_in_order(history: History) -> None:
    history.calls.reverse()


def _gap(history: History) -> None:
    events_of(history, CHAIN, Event(CHAIN, 10, "emitted", 1010.0, '{"no":1,"i":0,"step":"a","name":"x"}'))
    history.events = [event for event in history.events if (event.run, event.seq) != (CHAIN, 9)]


def _last_event_lost(history: History) -> None:
    history.events = [event for event in history.events if (event.run, event.seq) != (CHAIN, 9)]


def _other_state(history: History) -> None:
    run_of(history, CHAIN).state = state_of(PARENT)


def _fence_back(history: History) -> None:
    history.fences.append(Fence(CHAIN, 1, 65537, "x"))


def _two_under_one_fence(history: History) -> None:
    history.fences.insert(2, Fence(CHAIN, 1, 65537, "y"))


def _two_decisions(history: History) -> None:
    again = LOGS[GATED][5]
    events_of(history, GATED, Event(GATED, 11, "approval.rejected", again.at, again.data))


def _other_decision(history: History) -> None:
    history.decided.append(Decided(GATE, "reject", "eve"))


def _lost_decision(history: History) -> None:
    history.gates[0].status = "withdrawn"


def _open_gate(history: History) -> None:
    history.decided.clear()
    history.gates[0].status, history.gates[0].outcome = "open", None


def _untold(history: History) -> None:
    history.gates[0].told = False


def _lost_signal(history: History) -> None:
    history.events = [event for event in history.events if event.type != "signal.received"]


def _signal_twice(history: History) -> None:
    first = LOGS[WAITED][2]
    events_of(history, WAITED, Event(WAITED, 7, first.type, first.at, first.data))


def _after_the_end(history: History) -> None:
    events_of(history, CHAIN, Event(CHAIN, 10, "emitted", 1010.0, '{"no":1,"i":0,"step":"a","name":"x"}'))


def _two_ends(history: History) -> None:
    last = LOGS[CHAIN][-1]
    events_of(history, CHAIN, Event(CHAIN, 10, last.type, last.at, last.data))


def _leased_for_ever(history: History) -> None:
    history.left["dispatch"] = 1


def _open_transaction(history: History) -> None:
    history.idle_in_transaction = 1


def _leaked(history: History) -> None:
    history.connections = 31


DOCTORED: dict[Callable[[History], None], str] = {
    _still_running: "every_acknowledged_start_ends",
    _vanished: "every_acknowledged_start_ends",
    _another_answer: "every_acknowledged_start_ends",
    _twice_started: "one_run_for_a_key",
    _unasked: "one_run_for_a_key",
    _two_children: "one_child_for_a_step",
    _orphan: "one_child_for_a_step",
    _wrong_end: "runs_come_to_what_they_must",
    _wrong_output: "runs_come_to_what_they_must",
    _not_cancelled: "runs_come_to_what_they_must",
    _seen_otherwise: "clients_saw_what_is_stored",
    _seen_to_give_otherwise: "clients_saw_what_is_stored",
    _step_twice_on_record: "one_result_for_a_step",
    _step_ended_twice: "one_result_for_a_step",
    _too_many_attempts: "one_result_for_a_step",
    _two_keys: "calls_of_a_step_share_one_key",
    _shared_key: "calls_of_a_step_share_one_key",
    _no_key: "calls_of_a_step_share_one_key",
    _never_called: "what_completed_was_done",
    _never_answered: "what_completed_was_done",
    _not_undone: "what_failed_was_undone",
    _undone_in_order: "what_failed_was_undone",
    _gap: "seq_has_no_gaps",
    _last_event_lost: "seq_has_no_gaps",
    _other_state: "fold_equals_state",
    _fence_back: "fences_rise",
    _two_under_one_fence: "fences_rise",
    _two_decisions: "one_decision_for_a_gate",
    _other_decision: "one_decision_for_a_gate",
    _lost_decision: "one_decision_for_a_gate",
    _open_gate: "one_decision_for_a_gate",
    _untold: "one_decision_for_a_gate",
    _lost_signal: "acknowledged_signals_are_kept",
    _signal_twice: "acknowledged_signals_are_kept",
    _after_the_end: "nothing_after_the_end",
    _two_ends: "nothing_after_the_end",
    _leased_for_ever: "nothing_is_left",
    _open_transaction: "nothing_is_left",
    _leaked: "nothing_is_left",
}


def test_nothing_is_found_in_a_good_history(good: History):
    assert check(good) == []


@pytest.mark.parametrize("doctor", DOCTORED, ids=lambda doctor: doctor.__name__[1:])
def test_a_doctored_history_is_found_out(good: History, doctor: Callable[[History], None]):
    doctor(good)
    assert DOCTORED[doctor] in {violation.check for violation in check(good)}


def test_every_check_has_a_doctored_history():
    assert set(CHECKS) == set(DOCTORED.values())
