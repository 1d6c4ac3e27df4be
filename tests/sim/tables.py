"""The run store's tables in memory, and what a commit's batch does to them: the statements' meaning in Python.

As strict as the statements: another number of rows than a decision stands on refuses the whole commit, and parts that
make one statement see what was there before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import msgspec
from wfe_store import commit as real
from wfe_store.batch import Batch
from wfe_store.commit import Lost, Stopped

NAMES = (
    "runs", "steps", "dispatch", "events", "gates", "timers", "snapshots", "signals", "children", "keys", "executors",
)  # fmt: skip


class Violation(AssertionError):
    """The engine broke a promise."""


def _id(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(bytes=bytes(value))


def _text(value: Any) -> Any:
    return bytes(value).decode() if isinstance(value, bytes | bytearray | memoryview) else value


class Tables:
    """Rows by table and key; rows are dicts that are replaced, never changed.

    Args:
        committed: Told of every transaction's changes, in order: table, key, old row, new row.
        broken: Told of promises broken in the middle of one.
    """

    def __init__(
        self, committed: Callable[[list[tuple[str, Any, Any, Any]]], None], broken: Callable[[str], None]
    ) -> None:
        self.rows: dict[str, dict[Any, dict[str, Any]]] = {name: {} for name in NAMES}
        self._committed = committed
        self._broken = broken
        self._changes: list[tuple[str, Any, Any, Any]] = []
        self._undo: list[tuple[str, Any, Any]] = []
        self._before: dict[tuple[str, Any], Any] | None = None

    def __getitem__(self, table: str) -> dict[Any, dict[str, Any]]:
        return self.rows[table]

    # ---- one transaction

    def transaction(self, work: Callable[[], Any]) -> Any:
        """All of it or nothing."""
        self._undo, self._changes = [], []
        try:
            result = work()
        except BaseException as fault:
            if isinstance(fault, Violation) or not isinstance(fault, Lost | asyncio.CancelledError):
                self._broken(f"in a transaction: {fault!r}")
            for table, key, old in reversed(self._undo):
                if old is None:
                    self.rows[table].pop(key, None)
                else:
                    self.rows[table][key] = old
            raise
        finally:
            self._undo = []
            self._before = None
        self._committed(self._changes)
        return result

    def get(self, table: str, key: Any) -> dict[str, Any] | None:
        """A row as the present statement sees it."""
        if self._before is not None and (table, key) in self._before:
            return self._before[table, key]
        return self.rows[table].get(key)

    def put(self, table: str, key: Any, row: dict[str, Any] | None) -> None:
        old = self.rows[table].get(key)
        if self._before is not None:
            if (table, key) in self._before:
                raise Violation(f"one statement writes {table} {key} twice")
            self._before[table, key] = old
        self._undo.append((table, key, old))
        if row is None:
            self.rows[table].pop(key, None)
        else:
            self.rows[table][key] = row
        self._changes.append((table, key, old, row))

    def change(self, table: str, key: Any, **changes: Any) -> bool:
        """Change a row if it is there."""
        row = self.get(table, key)
        if row is None:
            return False
        self.put(table, key, {**row, **changes})
        return True

    def of_run(self, table: str, run: UUID) -> list[Any]:
        """Keys of a run's rows."""
        return [key for key in list(self.rows[table]) if key[0] == run]

    # ---- commits

    def commit(self, batch: Batch) -> list[Stopped]:
        """What `wfe_store.commit.commit` does.

        Raises:
            Lost: See there.
        """
        return self.transaction(lambda: self._commit(batch))

    def _commit(self, batch: Batch) -> list[Stopped]:
        one = len(real._script(batch)) == 1
        if one:
            self._before = {}
        stopped: list[Stopped] = []
        for rows in batch.parts():
            name = next(name for name, value in vars(batch).items() if value is rows)
            getattr(self, f"_put_{name}")(rows.rows, batch.now, stopped)
        return stopped

    @staticmethod
    def _expect(found: Iterable[bool], what: str) -> None:
        if not all(found):
            raise Lost(what)

    def _insert(self, table: str, key: Any, row: dict[str, Any]) -> None:
        if key in self.rows[table]:
            raise Lost(f"{table} {key} is there already")
        self.put(table, key, row)

    def _put_runs(self, rows: Any, now: float, _: Any) -> None:
        for id_, expected, version, status, phase, reason, seq, epoch, text, output, error, ended in rows:
            old = self.get("runs", _id(id_))
            if old is None or old["version"] != expected:
                raise Lost("runs")
            new = {
                "version": version, "status": status, "phase": phase, "reason": reason, "seq": seq, "epoch": epoch,
                "state": _text(text), "output": (_text(output) or old["output"]) if ended else None,
                "error": _text(error), "ended_at": (old["ended_at"] or now) if ended else None,
            }  # fmt: skip
            self.put("runs", _id(id_), {**old, **new})

    def _put_new_runs(self, rows: Any, now: float, _: Any) -> None:
        names = (
            "id", "owner", "template", "template_name", "template_version", "status", "reason", "version", "seq",
            "epoch", "state", "input", "output", "error", "labels", "trigger", "created_by", "forked_from",
            "forked_snapshot", "parent_run", "parent_no", "created_at", "ended",
        )  # fmt: skip
        for values in rows:
            row = {name: _text(value) for name, value in zip(names, values, strict=True)}
            row |= {"phase": "", "ended_at": now if row["ended"] else None}
            self._insert("runs", _id(row["id"]), row)

    def _put_keys(self, rows: Any, now: float, _: Any) -> None:
        for owner, key, hash_, run in rows:
            self._insert("keys", (owner, key), {"hash": hash_, "run": _id(run)})

    def _put_sealed(self, rows: Any, now: float, _: Any) -> None:
        raise Violation("nothing is sealed here")

    _put_blobs = _put_sealed

    def _put_copies(self, rows: Any, now: float, _: Any) -> None:
        for run, source, seq, live in rows:
            left_out = set(msgspec.json.decode(live))
            for key in self.of_run("steps", _id(source)):
                step = self.rows["steps"][key]
                if step["seq"] <= seq and step["status"] not in ("rolled_back", "pending") and key[1] not in left_out:
                    self._insert("steps", (_id(run), key[1]), {**step, "seq": 1})

    def _put_gates_off(self, rows: Any, now: float, _: Any) -> None:
        for id_, status, decided in rows:
            gate = self.get("gates", _id(id_))
            if gate is None or not (gate["status"] == "open" or (decided and gate["outcome"] is not None)):
                raise Lost("open gates")
            status = status if gate["status"] == "open" else gate["status"]
            self.put("gates", _id(id_), {**gate, "status": status, "told_at": now})

    def _put_changes(self, rows: Any, now: float, _: Any) -> None:
        for run, no, status, seq, output, error, due, _ended in rows:
            old = self.get("steps", (_id(run), no))
            if old is None:
                raise Lost("steps")
            new = {
                "status": status, "seq": seq, "output": _text(output) or old["output"],
                "error": _text(error) or old["error"], "due": due,
            }  # fmt: skip
            self.put("steps", (_id(run), no), {**old, **new})

    def _put_again(self, rows: Any, now: float, _: Any) -> None:
        for run, no, fence, next_fence, attempt, available_at, error in rows:
            old = self.get("dispatch", (_id(run), no))
            if old is None or old["fence"] != fence:
                raise Lost("leases")
            self.put("dispatch", (_id(run), no), {
                **old, "executor": None, "leased_at": None, "fence": next_fence, "attempt": attempt,
                "available_at": available_at, "error": _text(error),
                "queue_deadline": _later(available_at, old["clocks"].get("queue")),
            })  # fmt: skip

    def _put_finished(self, rows: Any, now: float, stopped: list[Stopped]) -> None:
        for run, no, expected, status, seq, attempts, output, fault, executor, _started, stop in rows:
            key = (_id(run), no)
            old = self.get("dispatch", key)
            if old is None or (expected is not None and old["fence"] != expected):
                raise Lost("leases")
            self.put("dispatch", key, None)
            if stop and old["executor"] is not None:
                stopped.append(Stopped(key[0], no, old["fence"], old["executor"], stop))
            self.put("steps", key, {
                **{name: old[name] for name in ("path", "scope", "iteration", "visit", "kind", "lease_losses")},
                "status": status, "seq": seq, "attempts": old["attempt"] - 1 if attempts is None else attempts,
                "input": old["request"], "output": _text(output), "gate": None, "due": None,
                "error": None if status == "completed" else _text(fault) or old["error"],
                "executor": executor or old["executor"] or "", "max_attempts": old["max_attempts"],
            })  # fmt: skip

    def _put_rolled_back(self, rows: Any, now: float, _: Any) -> None:
        for run, seq in rows:
            for key in self.of_run("steps", _id(run)):
                step = self.rows["steps"][key]
                if step["status"] != "rolled_back" and step["seq"] > seq:
                    self.change("steps", key, status="rolled_back")

    def _put_undone(self, rows: Any, now: float, _: Any) -> None:
        for run, no in rows:
            self.change("steps", (_id(run), no), status="rolled_back")

    def _put_steps(self, rows: Any, now: float, _: Any) -> None:
        names = (
            "no", "path", "scope", "iteration", "visit", "kind", "status", "seq", "input", "output", "error",
            "gate", "due", "ended",
        )  # fmt: skip
        for values in rows:
            row = {name: _text(value) for name, value in zip(names, values[1:], strict=True)}
            row["gate"] = values[12]
            key = (_id(values[0]), row["no"])
            old = self.get("steps", key) or {"attempts": 0, "lease_losses": 0, "executor": "", "max_attempts": 1}
            self.put("steps", key, {**old, **row})

    def _put_redispatch(self, rows: Any, now: float, _: Any) -> None:
        for values in rows:
            run, no = _id(values[0]), values[1]
            step = self.get("steps", (run, no))
            if step is None:
                raise Lost("steps to run again")
            (
                _, _, owner, path, scope, iteration, visit, epoch, kind, queue, priority, sealed, most, clocks, fence,
                available_at, queue_deadline, total_deadline, request,
            ) = values  # fmt: skip
            given = step["input"] if request is None else request
            self._dispatched(
                run, no, owner, path, scope, iteration, visit, epoch, kind, queue, priority, given, sealed, most,
                clocks, fence, available_at, queue_deadline, total_deadline, None, now,
            )  # fmt: skip

    def _put_dispatch(self, rows: Any, now: float, _: Any) -> None:
        for values in rows:
            self._dispatched(*values, now)

    def _dispatched(self, *values: Any) -> None:
        names = (
            "no", "owner", "path", "scope", "iteration", "visit", "epoch", "kind", "queue", "priority",
            "request", "sealed", "max_attempts", "clocks", "fence", "available_at", "queue_deadline",
            "total_deadline", "executor", "now",
        )  # fmt: skip
        row = {name: _text(value) for name, value in zip(names, values[1:], strict=True)}
        now, row["owner"] = row.pop("now"), values[2]
        row["clocks"] = msgspec.json.decode(row["clocks"])
        leased = row["executor"] is not None
        row |= {"attempt": 1, "lease_losses": 0, "held": False, "error": None, "leased_at": now if leased else None}
        row["queue_deadline"] = None if leased else row["queue_deadline"]
        self._insert("dispatch", (_id(values[0]), row["no"]), row)

    def _put_hold(self, rows: Any, now: float, _: Any) -> None:
        for (run,) in rows:
            for key in self.of_run("dispatch", _id(run)):
                self.change("dispatch", key, held=True)
            for id_, gate in list(self.rows["gates"].items()):
                if gate["run"] == _id(run) and gate["status"] == "open":
                    self.change("gates", id_, held_at=now)

    def _put_release(self, rows: Any, now: float, _: Any) -> None:
        for run, seconds in rows:
            for key in self.of_run("dispatch", _id(run)):
                row = self.rows["dispatch"][key]
                moments = ("available_at", "queue_deadline", "total_deadline")
                self.change("dispatch", key, held=False, **{name: _later(row[name], seconds) for name in moments})
            for id_, gate in list(self.rows["gates"].items()):
                if gate["run"] == _id(run) and gate["held_at"] is not None:
                    self.change("gates", id_, held_at=None, expires_at=_later(gate["expires_at"], seconds))

    def _put_timers_off(self, rows: Any, now: float, _: Any) -> None:
        for run, no in rows:
            if self.get("timers", (_id(run), no)) is not None:
                self.put("timers", (_id(run), no), None)

    def _put_timers(self, rows: Any, now: float, _: Any) -> None:
        for run, no, due in rows:
            self.put("timers", (_id(run), no), {"due": due})

    def _put_gates(self, rows: Any, now: float, _: Any) -> None:
        for (
            id_,
            run,
            no,
            _owner,
            path,
            _iteration,
            _title,
            _body,
            _payload,
            _policy,
            _digest,
            _by,
            replaces,
            expires,
            on_expiry,
        ) in rows:
            self._insert("gates", _id(id_), {
                "id": _id(id_), "run": _id(run), "no": no, "path": path, "status": "open", "outcome": None,
                "replaces": replaces, "expires_at": expires, "on_expiry": on_expiry, "held_at": None, "told_at": None,
                "decided_at": None, "decided_by": None,
            })  # fmt: skip

    def _put_told(self, rows: Any, now: float, _: Any) -> None:
        for (id_,) in rows:
            gate = self.get("gates", _id(id_))
            if gate is not None and gate["told_at"] is None:
                self.put("gates", _id(id_), {**gate, "told_at": now})

    def _put_signals(self, rows: Any, now: float, _: Any) -> None:
        for run, id_, name, payload in rows:
            self._insert("signals", (_id(run), _id(id_)), {"name": name, "payload": _text(payload)})

    def _put_children_done(self, rows: Any, now: float, _: Any) -> None:
        for run, no in rows:
            if self.get("children", (_id(run), no)) is not None:
                self.put("children", (_id(run), no), None)

    def _put_children(self, rows: Any, now: float, _: Any) -> None:
        for run, no, child, owner, by, wish, request in rows:
            old = self.get("children", (_id(run), no))
            new = {"child": _id(child), "wish": wish, "done": False, "ended": False, "wished_at": now}
            given = {"owner": owner, "started_by": by, "request": _text(request)} if old is None else old
            self.put("children", (_id(run), no), {**given, **new})

    def _put_children_begun(self, rows: Any, now: float, _: Any) -> None:
        for (child,) in rows:
            self._expect(self._children(_id(child), ("start",), done=True), "parents that wait")

    def _put_children_ended(self, rows: Any, now: float, _: Any) -> None:
        for (child,) in rows:
            self._children(_id(child), ("start", "retry"), ended=True)

    def _children(self, child: UUID, wishes: tuple[str, ...], **changes: Any) -> list[bool]:
        """Change the rows of a child's parents that wish one of these; [False] when there is none."""
        found = [
            key for key in list(self.rows["children"])
            if (row := self.get("children", key)) is not None and row["child"] == child and row["wish"] in wishes
        ]  # fmt: skip
        return [self.change("children", key, **changes) for key in found] or [False]

    def _put_snapshots(self, rows: Any, now: float, _: Any) -> None:
        for run, id_, seq, kind, name, state in rows:
            new = {"seq": seq, "kind": kind, "name": name, "state": _text(state)}
            self._insert("snapshots", (_id(run), _id(id_)), new)

    def _put_events(self, rows: Any, now: float, _: Any) -> None:
        for run, seq, type_, actor, reason, data in rows:
            new = {"type": type_, "actor": actor, "reason": reason, "data": _text(data), "at": now}
            self._insert("events", (_id(run), seq), new)


def _later(moment: float | None, seconds: float | None) -> float | None:
    return None if moment is None or seconds is None else moment + seconds
