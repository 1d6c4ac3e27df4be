"""What must hold after every transaction, whatever went wrong before it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from wfe_bus import messages as m
from wfe_engine.events import GateNoted, decode_event
from wfe_engine.evolve import evolve
from wfe_engine.state import (
    ENDED,
    READY,
    WAITING,
    WAITING_APPROVAL,
    RunState,
    decode_state,
    encode_state,
    shown_status,
)

from tests.sim.coverage import Coverage
from tests.sim.gate_tables import PENDING
from tests.sim.machine import Process
from tests.sim.tables import Tables

#: What may follow the end of a run.
AFTER_END = {"run.retried", "run.rolled_back", "snapshot.created", "step.edited", "step.completed", "step.skipped"}
#: What a run says that was decided at a gate; of expiry the event says it itself.
DECISIONS = {
    "approval.approved": "approve", "approval.rejected": "reject", "approval.revise_requested": "revise",
    "approval.expired": "",
}  # fmt: skip
RESULTS = {"step.completed", "step.failed", "step.skipped", "step.cancelled"}


class Checker:
    """Follows the store and notes every broken promise.

    Attributes:
        violations: One sentence each.
        commits: Numbers of the transactions in which a reason, so a command of a client, came to events.
        moves: Transactions that were more than a heartbeat.
        results: Fences under which a step's attempt was taken: (run, no, fence).
    """

    def __init__(self, coverage: Coverage) -> None:
        self.coverage = coverage
        self.tables = Tables(self.committed, self.note)
        self.violations: list[str] = []
        self.commits: dict[str, set[int]] = {}
        self.results: set[tuple[UUID, int, int]] = set()
        self.decided: dict[UUID, str] = {}
        self.count = 0
        self.moves = 0
        self._notes: dict[UUID, int] = {}
        self._folded: dict[UUID, RunState] = {}
        self._ended: dict[tuple[UUID, int], str] = {}
        self._fences: dict[tuple[UUID, int], int] = {}
        self._grants: dict[tuple[UUID, int, int], tuple[str, dict[str, Any]]] = {}
        self._begun: set[tuple[UUID, int, int]] = set()

    def note(self, what: str) -> None:
        """A promise is broken."""
        self.violations.append(what)

    def expect(self, holds: bool, what: str) -> None:
        """Note it unless it holds."""
        if not holds:
            self.note(what)

    # ---- transactions

    def committed(self, changes: list[tuple[str, Any, Any, Any]]) -> None:
        """Look at what a transaction changed."""
        if not changes:
            return
        self.count += 1
        self.moves += any(table != "executors" for table, *_ in changes)
        touched: dict[UUID, None] = {}
        events: dict[UUID, list[tuple[int, dict[str, Any]]]] = {}
        outbox: dict[UUID, list[tuple[int, int]]] = {}
        for table, key, old, new in changes:
            if table == "events":
                events.setdefault(key[0], []).append((key[1], new))
                self.expect(old is None, f"event {key} was changed")
                continue
            if table == "outbox":
                outbox.setdefault(key[0], []).append((key[1], new["last"]))
            elif table == "dispatch":
                self._dispatch(key, old, new)
            elif table == "firings":
                self._firing(key, old, new)
            elif table == "gates":
                self._gate(key, old, new)
            elif table == "runs":
                self.expect(old is None or new["version"] == old["version"] + 1, f"run {key}: version not the next")
                self.expect(old is not None or new["version"] == 1, f"run {key} does not begin with version 1")
            if table in ("runs", "dispatch", "steps", "timers", "children"):
                touched[key if table == "runs" else key[0]] = None
        for run in events.keys() | outbox.keys():
            told = [seq for first, last in outbox.get(run, []) for seq in range(first, last + 1)]
            self.expect(told == [seq for seq, _ in events.get(run, [])], f"run {run}: told outside are {told}")
        self._results(changes)
        for run, new_events in events.items():
            self._log(run, new_events)
        for run in touched:
            self._rows(run)

    def _dispatch(self, key: tuple[UUID, int], old: Any, new: Any) -> None:
        if new is None:
            return
        before = self._fences.get(key, -1)
        moved = old is None or old["executor"] != new["executor"] or old["leased_at"] != new["leased_at"]
        self.expect(new["fence"] > before if moved else new["fence"] >= before, f"step {key}: its fence did not rise")
        self._fences[key] = max(before, new["fence"])
        self.expect(new["attempt"] <= new["max_attempts"], f"step {key} got attempt {new['attempt']}")
        if new["executor"] is not None and moved:
            grant = (*key, new["fence"])
            self.expect(grant not in self._grants, f"lease {grant} was given twice")
            self._grants[grant] = (new["executor"], new)

    def _firing(self, key: Any, old: Any, new: Any) -> None:
        self.coverage.saw("firings", new["status"])
        self.expect(old is None or old["status"] in ("due", "starting"), f"firing {key} was decided twice")
        if new["status"] == "started":
            run = self.tables["runs"].get(new["run"])
            self.expect(run is not None and run["trigger"] == "schedule", f"firing {key} has no run of its own")
            others = [row for other, row in self.tables["firings"].items() if other != key and row["run"] == new["run"]]
            self.expect(not others, f"firing {key} has the run of another")

    def _gate(self, key: UUID, old: Any, new: Any) -> None:
        if old is not None and old["outcome"] is not None:
            same = all(old[name] == new[name] for name in ("outcome", "status", "decided_by"))
            self.expect(same, f"gate {key} was decided twice")
        if new["outcome"] is not None:
            self.decided[key] = new["outcome"]

    def _results(self, changes: list[tuple[str, Any, Any, Any]]) -> None:
        """Outcomes that were taken: a dispatch row that became a step row, or gets another attempt."""
        steps: dict[Any, Any] = {}
        for table, key, _, new in changes:
            if table == "steps":
                steps.setdefault(key, new)  # a rollback of the same transaction may change it once more
        for table, key, old, new in changes:
            if table != "dispatch" or old is None:
                continue
            again = new is not None and new["attempt"] > old["attempt"]
            row = steps.get(key)
            ended = new is None and row is not None and row["status"] in ("completed", "failed")
            if not again and not ended:
                continue
            lease = (*key, old["fence"])
            if again or (row is not None and row["attempts"] == old["attempt"]):
                self.expect(lease not in self.results, f"two outcomes under one fence: {lease}")
                self.results.add(lease)
            if row is not None and row["status"] == "completed":
                output = msgspec.json.decode(row["output"])
                by_hand = output == {"by": "hand"}
                self.expect(by_hand or row["attempts"] == old["attempt"], f"step {key}: attempts {row['attempts']}")
                held = isinstance(output, dict) and output.get("fence") == old["fence"]
                self.expect(by_hand or held, f"step {key} was completed under another fence: {output}, {old['fence']}")

    def _log(self, run: UUID, events: list[tuple[int, dict[str, Any]]]) -> None:
        state = self._folded.get(run, RunState())
        for seq, row in events:
            self.expect(seq == state.seq + 1, f"run {run}: seq {seq} after {state.seq}")
            if row["reason"]:
                self.commits.setdefault(row["reason"], set()).add(self.count)
            event: Any = decode_event(row["type"], row["data"])
            if state.status in ENDED:
                self.expect(row["type"] in AFTER_END, f"run {run}: {row['type']} after its end")
            self.expect("INTERNAL_ERROR" not in row["data"], f"run {run}: a fault of the engine: {row['data'][:200]}")
            self._one_result(run, row["type"], event)
            self.coverage.saw("events", row["type"])
            if row["type"] in ("step.failed", "run.failed"):
                self.coverage.saw("faults", event.fault.code)
            if row["type"] in DECISIONS:
                taken = self.decided.get(UUID(event.approval))
                said = event.outcome if row["type"] == "approval.expired" else DECISIONS[row["type"]]
                said = "branch" if getattr(event, "branch", "") else said
                self.expect(taken == said, f"gate {event.approval}: the run was told {said}, decided was {taken}")
            if row["type"] in ("approval.withdrawn", "approval.superseded"):
                gate = self.tables["gates"].get(UUID(event.approval))  # None when it opened in the same decision
                void = gate is None or gate["outcome"] is not None or row["type"].endswith(gate["status"])
                self.expect(void, f"gate {event.approval}: {row['type']}, and it is {gate and gate['status']}")
            if isinstance(event, GateNoted):
                self._noted(event, row)
            if row["type"] == "step.completed" and row["actor"] == "timer":
                self._not_early(run, state, event, row["at"])
            state = evolve(state, event, row["at"])
        self._folded[run] = state
        stored = self.tables["runs"].get(run)
        if stored is None:
            self.note(f"events of run {run}, which is not there")
        else:
            self.expect(stored["seq"] == state.seq, f"run {run}: its seq is not that of its newest event")
            self.expect(encode_state(state).decode() == stored["state"], f"run {run}: its state is not the fold")
            self.expect(stored["status"] == shown_status(state), f"run {run}: shown as {stored['status']}")
            self.expect((stored["ended_at"] is not None) == (state.status in ENDED), f"run {run}: its end")

    def _noted(self, event: GateNoted, row: dict[str, Any]) -> None:
        """What happened at a gate, and stands in the log once, in order."""
        gate = UUID(event.approval)
        note = self.tables["gate_notes"].get((gate, event.note))
        self.expect(note is not None and note["actor"] == row["actor"], f"gate {gate}: note {event.note} of nobody")
        self.expect(event.note > self._notes.get(gate, 0), f"gate {gate}: note {event.note} came twice, or late")
        self._notes[gate] = event.note

    def _one_result(self, run: UUID, type_: str, event: Any) -> None:
        if type_ == "run.retried":
            for key, how in list(self._ended.items()):
                if key[0] == run and how in ("step.failed", "step.cancelled"):
                    del self._ended[key]
        if type_ == "step.edited":
            self._ended.pop((run, event.no), None)
        if type_ in RESULTS:
            key = (run, event.no)
            self.expect(key not in self._ended, f"step {key}: {type_} after {self._ended.get(key)}")
            self._ended[key] = type_

    def _not_early(self, run: UUID, state: RunState, event: Any, at: float) -> None:
        found = state.find(event.no)
        if found is not None and found[2].due is not None:
            self.expect(at >= found[2].due, f"step {(run, event.no)} waited {found[2].due - at:.3f} s too little")

    def _rows(self, run: UUID) -> None:
        """The rows beside a run's state are those the state speaks of."""
        row = self.tables["runs"].get(run)
        if row is None:
            return
        state = decode_state(row["state"])
        live = {step.no: step for _, _, step in state.steps()}
        ready = {no for no, step in live.items() if step.status == READY}
        dispatched = {key[1]: self.tables["dispatch"][key] for key in self.tables.of_run("dispatch", run)}
        self.expect(ready == set(dispatched), f"run {run}: ready are {ready}, dispatched {set(dispatched)}")
        paused = state.paused_at is not None
        for no, lease in dispatched.items():
            self.expect(lease["held"] == (paused and state.status not in ENDED), f"step {(run, no)}: held")
        for no, step in live.items():
            stored = self.tables["steps"].get((run, no))
            if step.status in (WAITING, WAITING_APPROVAL):
                self.expect(stored is not None and stored["status"] == step.status, f"step {(run, no)}: its row")
            if step.status == WAITING and step.due is not None and not paused:
                timer = self.tables["timers"].get((run, no))
                self.expect(timer is not None and timer["due"] == step.due, f"step {(run, no)}: its timer")
            if step.status == WAITING and step.child is not None:
                child = self.tables["children"].get((run, no))
                self.expect(child is not None and str(child["child"]) == step.child, f"step {(run, no)}: its child")
        waiting = {UUID(step.gate) for step in live.values() if step.gate and step.status == WAITING_APPROVAL}
        for gate in self.tables["gates"].values():
            if gate["run"] == run and gate["status"] in PENDING:
                self.expect(gate["id"] in waiting, f"gate {gate['id']} is open and nothing waits for it")
        for gate_id in waiting:
            gate = self.tables["gates"].get(gate_id)
            known = gate is not None and (gate["status"] in PENDING or gate["told_at"] is None)
            self.expect(known, f"gate {gate_id} is waited for and closed")

    # ---- executors

    def accepted(self, ref: m.LeaseRef) -> None:
        """A scheduler said that it has taken an outcome."""
        lease = (UUID(bytes=ref.run), ref.no, ref.fence)
        self.expect(lease in self.results, f"an outcome was acknowledged and is not there: {lease}")

    def begun(self, process: Process, lease: m.Lease) -> None:
        """An executor begins an attempt."""
        key = (UUID(bytes=lease.run), lease.no, lease.fence)
        self.expect(key not in self._begun, f"two attempts began under one fence: {key}")
        self._begun.add(key)
        executor, row = self._grants.get(key, ("", {}))
        self.expect(executor == process.name, f"{process.name} began {key}, which was leased to {executor or 'nobody'}")
        if row:
            idempotency = f"{key[0]}:{row['path']}:{row['iteration']}:{row['visit']}:{row['epoch']}"
            self.expect(lease.idempotency_key == idempotency, f"{key} has the key {lease.idempotency_key}")
            self.expect(lease.attempt == row["attempt"], f"{key} was told attempt {lease.attempt}")
            self.expect(lease.request is not None and lease.request.decode() == row["request"], f"{key}: its request")

    def stopped(self, process: Process, told: m.Stop) -> None:
        """An executor is told to stop."""
        for ref in told.leases:
            row = self.tables["dispatch"].get((UUID(bytes=ref.run), ref.no))
            goes_on = row is not None and row["fence"] == ref.fence and row["executor"] == process.name
            self.expect(not goes_on, f"{process.name} was told to stop {ref.no}, which it holds")

    def acknowledged(self, reason: str) -> None:
        """A client was told that its command is done."""
        self.expect(reason in self.commits, f"command {reason} was acknowledged and is not there")

    def once(self) -> None:
        """No command came to events twice, and no run of a schedule was started twice."""
        scheduled = [run for run, row in self.tables["runs"].items() if row["trigger"] == "schedule"]
        firings = [row["run"] for row in self.tables["firings"].values() if row["run"] is not None]
        undecided = [key for key, row in self.tables["firings"].items() if row["status"] in ("due", "starting")]
        fine = self.violations or undecided or sorted(scheduled) == sorted(firings)
        self.expect(bool(fine), f"{len(scheduled)} runs of schedules, and {len(firings)} firings")
        for reason, commits in self.commits.items():
            self.expect(len(commits) < 2 or not reason.startswith("command"), f"{reason} happened twice")
