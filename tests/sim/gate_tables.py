"""What a commit's batch does to gates and to the steps they send back; see `tests.sim.tables`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from wfe_store.commit import Lost

#: Of a step row that no gate has sent back.
NOT_UNDONE: dict[str, Any] = {"undone_seq": None, "undone_status": None}
#: A gate that can still be decided, or will be.
PENDING = ("open", "scheduled")


class Violation(AssertionError):
    """The engine broke a promise."""


def id_of(value: Any) -> UUID:
    """A UUID of what a row has for one."""
    return value if isinstance(value, UUID) else UUID(bytes=bytes(value))


def text_of(value: Any) -> Any:
    """Text of bytes; anything else as it is."""
    return bytes(value).decode() if isinstance(value, bytes | bytearray | memoryview) else value


def later(moment: float | None, seconds: float | None) -> float | None:
    """A moment so many seconds later; None when one of them is."""
    return None if moment is None or seconds is None else moment + seconds


def as_of(step: dict[str, Any], seq: int) -> str | None:
    """Status a step had ended with by that seq, whatever gates sent back later; None when it had not."""
    undone_later = step["undone_seq"] is not None and step["undone_seq"] > seq
    if step["seq"] > seq or (step["status"] in ("rolled_back", "pending") and not undone_later):
        return None
    return step["undone_status"] if undone_later else step["status"]


class GateTables:
    """The gates' part of `Tables`."""

    rows: dict[str, dict[Any, dict[str, Any]]]
    get: Any
    put: Any
    change: Any
    of_run: Any
    _insert: Any

    def _put_gates(self, rows: Any, now: float, _: Any) -> None:
        for (
            id_, run, no, _owner, path, iteration, _title, _body, _payload, policy, digest, _by, replaces, expires,
            on_expiry, _who, _exclude, _risk, _bound, round_, opens, next_in, agenda, branch,
        ) in rows:  # fmt: skip
            self._insert("gates", id_of(id_), {
                "id": id_of(id_), "run": id_of(run), "no": no, "path": path, "iteration": iteration,
                "status": "open" if opens is None else "scheduled", "outcome": None, "policy": text_of(policy),
                "digest": digest, "replaces": replaces, "expires_at": expires, "on_expiry": on_expiry, "round": round_,
                "opens_at": opens, "next_at": later(now, next_in), "agenda": msgspec.json.decode(agenda),
                "branch": branch, "level": 0, "version": 1, "created_at": now, "held_at": None, "told_at": None,
                "decided_at": None, "decided_by": None, "via": "",
            })  # fmt: skip

    def _put_gates_off(self, rows: Any, now: float, _: Any) -> None:
        for id_, status, decided in rows:
            gate = self.get("gates", id_of(id_))
            if gate is None or not (gate["status"] in PENDING or (decided and gate["outcome"] is not None)):
                raise Lost("open gates")
            status = status if gate["status"] in PENDING else gate["status"]
            closed = {"status": status, "decided_at": gate["decided_at"] or now, "told_at": now, "next_at": None}
            self.put("gates", gate["id"], {**gate, **closed, "version": gate["version"] + 1})

    def _put_superseded(self, rows: Any, now: float, _: Any) -> None:
        for (id_,) in rows:
            gate = self.get("gates", id_of(id_))
            if gate is None or gate["status"] != "withdrawn":
                raise Lost("withdrawn gates")
            self.put("gates", gate["id"], {**gate, "status": "superseded", "version": gate["version"] + 1})

    def _put_told(self, rows: Any, now: float, _: Any) -> None:
        for (id_,) in rows:
            gate = self.get("gates", id_of(id_))
            if gate is not None and gate["told_at"] is None:
                self.put("gates", id_of(id_), {**gate, "told_at": now})

    def _put_noted(self, rows: Any, now: float, _: Any) -> None:
        for id_, upto in rows:
            for key, note in list(self.rows["gate_notes"].items()):
                if key[0] == id_of(id_) and key[1] <= upto and note["told_at"] is None:
                    self.change("gate_notes", key, told_at=now)

    def _put_revised(self, rows: Any, now: float, _: Any) -> None:
        for run, seq, scope, path, prefix in rows:
            for key in self.of_run("steps", id_of(run)):
                step = self.rows["steps"][key]
                itself = step["scope"] == scope and step["path"] == path
                if step["status"] != "rolled_back" and (itself or step["scope"].startswith(prefix)):
                    undone = {"undone_seq": seq, "undone_status": step["status"]}
                    self.change("steps", key, **undone, status="rolled_back")

    def _hold_gates(self, run: UUID, now: float) -> None:
        for id_, gate in list(self.rows["gates"].items()):
            if gate["run"] == run and gate["status"] in PENDING:
                self.change("gates", id_, held_at=now)

    def _release_gates(self, run: UUID, seconds: float) -> None:
        for id_, gate in list(self.rows["gates"].items()):
            if gate["run"] == run and gate["held_at"] is not None:
                opens = later(gate["opens_at"], seconds) if gate["status"] == "scheduled" else gate["opens_at"]
                moments = {"expires_at": later(gate["expires_at"], seconds), "next_at": later(gate["next_at"], seconds)}
                self.change("gates", id_, **moments, opens_at=opens, held_at=None)
