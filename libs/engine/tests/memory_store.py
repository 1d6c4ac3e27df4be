"""The run store's rows of one run, in memory: applies effects as strictly as the statements do, and reads them back."""

from __future__ import annotations

from typing import Any

from wfe_engine import effects as fx
from wfe_engine.plan import CONTAINERS
from wfe_engine.state import ENDED, RunState, Scope
from wfe_engine.values import Record, Values, asked_key, record_key


class Rows:
    """Step, dispatch, gate and timer rows of a run."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, Any]] = {}
        self.dispatch: dict[int, dict[str, Any]] = {}
        self.gates: dict[str, dict[str, Any]] = {}
        self.timers: dict[int, float] = {}
        self.signals: dict[str, bytes] = {}

    def apply(self, effects: fx.Effects) -> None:
        """Write what a decision brings about; every row it stands on must be there."""
        for gate in effects.closed_gates:
            assert self.gates[gate.id]["status"] == "open"
            self.gates[gate.id]["status"] = gate.status
        for old in effects.superseded:
            assert self.gates[old]["status"] == "withdrawn"
            self.gates[old]["status"] = "superseded"
        self.once(effects)
        for change in effects.changes:
            row = self.steps[change.no]
            row.update(status=change.status, seq=change.seq)
            row["output"] = change.output or row["output"]
            row["error"] = change.error or row["error"]
        for again in effects.again:
            self.dispatch[again.no].update(attempt=again.attempt, available_at=again.available_at)
        for finished in effects.finished:
            gone = self.dispatch.pop(finished.no)
            kept = self.steps.get(finished.no, gone)
            self.steps[finished.no] = {
                **gone,
                "input": kept["input"],
                "status": finished.status,
                "seq": finished.seq,
                "output": finished.output,
                "error": finished.error,
                "attempts": finished.attempts or 0,
            }
        if effects.rolled_back is not None:
            for no, row in self.steps.items():
                undone = row.get("undone")
                if row["seq"] > effects.rolled_back:
                    row["status"] = "rolled_back"
                elif undone is not None and undone[0] > effects.rolled_back:
                    row["status"] = undone[1]
                    del row["undone"]
                if no in effects.undone:
                    row["status"] = "rolled_back"
        for gone in effects.revised:
            for row in self.steps.values():
                inside = row["scope"].startswith(gone.prefix)
                if row["status"] != "rolled_back" and (
                    inside or (row["scope"], row["path"]) == (gone.scope, gone.path)
                ):
                    row.update(status="rolled_back", undone=(gone.seq, row["status"]))
        for step in effects.steps:
            self.steps[step.no] = _row(step, step.input) | {
                "status": step.status, "seq": step.seq, "output": step.output, "error": step.error, "gate": step.gate,
            }  # fmt: skip
        for redispatch in effects.redispatches:
            assert redispatch.no not in self.dispatch
            self.dispatch[redispatch.no] = _row(redispatch, self.steps[redispatch.no]["input"])
        for dispatch in effects.dispatches:
            assert dispatch.no not in self.dispatch
            assert dispatch.no not in self.steps
            self.dispatch[dispatch.no] = _row(dispatch, dispatch.request)
        for no, due in effects.timers.items():
            if due is None:
                self.timers.pop(no, None)
            else:
                self.timers[no] = due
        self.signals |= {signal.id: signal.payload for signal in effects.signals}
        for gate in effects.gates:
            self.gates[gate.id] = {"no": gate.no, "status": "open"}

    @staticmethod
    def once(effects: fx.Effects) -> None:
        """No row may be written by two statements.

        But a dispatch row that gets another attempt and ends, and one that is made of a step row put before it.
        """
        lists = (effects.steps, effects.changes, effects.dispatches, effects.finished)
        numbers = [row.no for rows in lists for row in rows]
        assert len(numbers) == len(set(numbers)), numbers
        again = [row.no for rows in lists[1:] for row in rows] + [row.no for row in effects.redispatches]
        assert len(again) == len(set(again)), again

    def values(self, variables: dict[str, Any], state: RunState) -> Values:
        """What a scheduler that has just read the run back knows of it."""
        values = Values(variables, {"id": "r"})
        values.signals = {letter.id: self.signals[letter.id] for letter in state.mail}
        live = {step.no for _, _, step in state.steps()}
        prefixes = tuple(f"{i}/" for i, step in state.scopes[""].live.items() if step.kind in CONTAINERS)
        for no, row in sorted(self.steps.items()):
            if row["status"] == "rolled_back" or not (row["scope"] == "" or row["scope"].startswith(prefixes)):
                continue
            if no in live:
                if row["input"] is not None:
                    values.inputs[no] = row["input"]
                if row.get("gate"):
                    values.gates[no] = row["gate"]
            else:
                key = record_key(row["scope"], row["path"].rpartition("/")[2])
                values.records[key] = Record(
                    status=row["status"], output=row["output"], error=row["error"], attempts=row["attempts"]
                )
        if state.status in ENDED:
            values.withdrawn = frozenset(id_ for id_, gate in self.gates.items() if gate["status"] == "withdrawn")
        if state.rollbacks or state.returning is not None:
            values.asked = self.asked()
        if state.returning is not None:
            values.then = self.records_at(state.returning.seq, state.returning.scopes)
        return values

    def asked(self) -> dict[str, str]:
        """The newest gate of each approval step."""
        rows = [(self.steps[gate["no"]], id_) for id_, gate in self.gates.items()]
        return {asked_key(row["path"], row["iteration"]): id_ for row, id_ in rows}

    def records_at(self, seq: int, scopes: dict[str, Scope]) -> dict[str, Record]:
        """Finished steps as expressions saw them at a moment of the run."""
        live = {step.no for scope in scopes.values() for step in scope.live.values()}
        prefixes = tuple(f"{i}/" for i, step in scopes[""].live.items() if step.kind in CONTAINERS)
        found = {}
        for no, row in sorted(self.steps.items()):
            late = row.get("undone", (0, ""))
            status = late[1] if late[0] > seq else row["status"]
            seen = row["scope"] == "" or row["scope"].startswith(prefixes)
            if no not in live and row["seq"] <= seq and status != "rolled_back" and seen:
                found[record_key(row["scope"], row["path"].rpartition("/")[2])] = Record(
                    status=status, output=row["output"], error=row["error"], attempts=row["attempts"]
                )
        return found


def _row(step: Any, given: bytes | None) -> dict[str, Any]:
    return {
        "path": step.path, "scope": step.scope, "iteration": step.iteration, "kind": step.kind, "visit": step.visit,
        "input": given, "status": "ready", "seq": 0, "output": None, "error": None, "attempts": 0, "attempt": 1,
    }  # fmt: skip
