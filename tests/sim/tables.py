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

from tests.sim.gate_tables import NOT_UNDONE, GateTables, Violation, as_of, id_of, later, text_of

NAMES = (
    "runs", "steps", "dispatch", "events", "gates", "timers", "snapshots", "signals", "children", "keys", "executors",
    "gate_notes", "outbox", "schedules", "firings",
)  # fmt: skip


class Tables(GateTables):
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
        for id_, expected, version, status, phase, reason, seq, epoch, text, output, error, ended, _started in rows:
            old = self.get("runs", id_of(id_))
            if old is None or old["version"] != expected:
                raise Lost("runs")
            new = {
                "version": version, "status": status, "phase": phase, "reason": reason, "seq": seq, "epoch": epoch,
                "state": text_of(text), "output": (text_of(output) or old["output"]) if ended else None,
                "error": text_of(error), "ended_at": (old["ended_at"] or now) if ended else None,
            }  # fmt: skip
            self.put("runs", id_of(id_), {**old, **new})

    def _put_new_runs(self, rows: Any, now: float, _: Any) -> None:
        names = (
            "id", "owner", "template", "template_name", "template_version", "status", "reason", "version", "seq",
            "epoch", "state", "input", "output", "error", "labels", "trigger", "created_by", "forked_from",
            "forked_snapshot", "parent_run", "parent_no", "created_at", "ended", "start_at",
        )  # fmt: skip
        for values in rows:
            row = {name: text_of(value) for name, value in zip(names, values, strict=True)}
            row |= {"phase": "", "ended_at": now if row["ended"] else None}
            self._insert("runs", id_of(row["id"]), row)

    def _put_keys(self, rows: Any, now: float, _: Any) -> None:
        for owner, key, hash_, run in rows:
            self._insert("keys", (owner, key), {"hash": hash_, "run": id_of(run)})

    def _put_sealed(self, rows: Any, now: float, _: Any) -> None:
        raise Violation("nothing is sealed here")

    _put_blobs = _put_sealed

    def _put_copies(self, rows: Any, now: float, _: Any) -> None:
        for run, source, seq, live in rows:
            left_out = set(msgspec.json.decode(live))
            for key in self.of_run("steps", id_of(source)):
                step = self.rows["steps"][key]
                status = as_of(step, seq)
                if status is not None and key[1] not in left_out:
                    copy = {**step, **NOT_UNDONE, "status": status, "seq": 1}
                    self._insert("steps", (id_of(run), key[1]), copy)

    def _put_changes(self, rows: Any, now: float, _: Any) -> None:
        for run, no, status, seq, output, error, due, _ended in rows:
            old = self.get("steps", (id_of(run), no))
            if old is None:
                raise Lost("steps")
            new = {
                "status": status, "seq": seq, "output": text_of(output) or old["output"],
                "error": text_of(error) or old["error"], "due": due,
            }  # fmt: skip
            self.put("steps", (id_of(run), no), {**old, **new})

    def _put_again(self, rows: Any, now: float, _: Any) -> None:
        for run, no, fence, next_fence, attempt, available_at, error in rows:
            old = self.get("dispatch", (id_of(run), no))
            if old is None or old["fence"] != fence:
                raise Lost("leases")
            self.put("dispatch", (id_of(run), no), {
                **old, "executor": None, "leased_at": None, "fence": next_fence, "attempt": attempt,
                "available_at": available_at, "error": text_of(error),
                "queue_deadline": later(available_at, old["clocks"].get("queue")),
            })  # fmt: skip

    def _put_finished(self, rows: Any, now: float, stopped: list[Stopped]) -> None:
        for run, no, expected, status, seq, attempts, output, fault, executor, _started, stop in rows:
            key = (id_of(run), no)
            old = self.get("dispatch", key)
            if old is None or (expected is not None and old["fence"] != expected):
                raise Lost("leases")
            self.put("dispatch", key, None)
            if stop and old["executor"] is not None:
                stopped.append(Stopped(key[0], no, old["fence"], old["executor"], stop))
            before = self.get("steps", key) or NOT_UNDONE
            self.put("steps", key, {
                **{name: before[name] for name in NOT_UNDONE},
                **{name: old[name] for name in ("path", "scope", "iteration", "visit", "kind", "lease_losses")},
                "status": status, "seq": seq, "attempts": old["attempt"] - 1 if attempts is None else attempts,
                "input": old["request"], "output": text_of(output), "gate": None, "due": None,
                "error": None if status == "completed" else text_of(fault) or old["error"],
                "executor": executor or old["executor"] or "", "max_attempts": old["max_attempts"],
            })  # fmt: skip

    def _put_rolled_back(self, rows: Any, now: float, _: Any) -> None:
        for run, seq in rows:
            for key in self.of_run("steps", id_of(run)):
                step = self.rows["steps"][key]
                if step["status"] != "rolled_back" and step["seq"] > seq:
                    self.change("steps", key, status="rolled_back")
                elif step["seq"] <= seq and step["undone_seq"] is not None and step["undone_seq"] > seq:
                    self.change("steps", key, **NOT_UNDONE, status=step["undone_status"])

    def _put_undone(self, rows: Any, now: float, _: Any) -> None:
        for run, no in rows:
            self.change("steps", (id_of(run), no), status="rolled_back")

    def _put_steps(self, rows: Any, now: float, _: Any) -> None:
        names = (
            "no", "path", "scope", "iteration", "visit", "kind", "status", "seq", "input", "output", "error",
            "gate", "due", "ended",
        )  # fmt: skip
        for values in rows:
            row = {name: text_of(value) for name, value in zip(names, values[1:], strict=True)}
            row["gate"] = values[12]
            key = (id_of(values[0]), row["no"])
            fresh = {"attempts": 0, "lease_losses": 0, "executor": "", "max_attempts": 1, **NOT_UNDONE}
            self.put("steps", key, {**(self.get("steps", key) or fresh), **row})

    def _put_redispatch(self, rows: Any, now: float, _: Any) -> None:
        for values in rows:
            run, no = id_of(values[0]), values[1]
            step = self.get("steps", (run, no))
            if step is None:
                raise Lost("steps to run again")
            (
                _, _, owner, path, scope, iteration, visit, epoch, kind, queue, priority, sealed, most, clocks, fence,
                available_at, queue_deadline, total_deadline, request, approval, digest,
            ) = values  # fmt: skip
            given = step["input"] if request is None else request
            self._dispatched(
                run, no, owner, path, scope, iteration, visit, epoch, kind, queue, priority, given, sealed, most,
                clocks, fence, available_at, queue_deadline, total_deadline, None, approval, digest, now,
            )  # fmt: skip

    def _put_dispatch(self, rows: Any, now: float, _: Any) -> None:
        for values in rows:
            self._dispatched(*values, now)

    def _dispatched(self, *values: Any) -> None:
        names = (
            "no", "owner", "path", "scope", "iteration", "visit", "epoch", "kind", "queue", "priority",
            "request", "sealed", "max_attempts", "clocks", "fence", "available_at", "queue_deadline",
            "total_deadline", "executor", "approval", "digest", "now",
        )  # fmt: skip
        row = {name: text_of(value) for name, value in zip(names, values[1:], strict=True)}
        now, row["owner"], row["approval"] = row.pop("now"), values[2], values[20]
        row["clocks"] = msgspec.json.decode(row["clocks"])
        leased = row["executor"] is not None
        row |= {"attempt": 1, "lease_losses": 0, "held": False, "error": None, "leased_at": now if leased else None}
        row["queue_deadline"] = None if leased else row["queue_deadline"]
        self._insert("dispatch", (id_of(values[0]), row["no"]), row)

    def _put_hold(self, rows: Any, now: float, _: Any) -> None:
        for (run,) in rows:
            for key in self.of_run("dispatch", id_of(run)):
                self.change("dispatch", key, held=True)
            self._hold_gates(id_of(run), now)

    def _put_release(self, rows: Any, now: float, _: Any) -> None:
        for run, seconds in rows:
            for key in self.of_run("dispatch", id_of(run)):
                row = self.rows["dispatch"][key]
                moments = ("available_at", "queue_deadline", "total_deadline")
                self.change("dispatch", key, held=False, **{name: later(row[name], seconds) for name in moments})
            self._release_gates(id_of(run), seconds)

    def _put_timers_off(self, rows: Any, now: float, _: Any) -> None:
        for run, no in rows:
            if self.get("timers", (id_of(run), no)) is not None:
                self.put("timers", (id_of(run), no), None)

    def _put_timers(self, rows: Any, now: float, _: Any) -> None:
        for run, no, due in rows:
            self.put("timers", (id_of(run), no), {"due": due})

    def _put_signals(self, rows: Any, now: float, _: Any) -> None:
        for run, id_, name, payload in rows:
            self._insert("signals", (id_of(run), id_of(id_)), {"name": name, "payload": text_of(payload)})

    def _put_children_done(self, rows: Any, now: float, _: Any) -> None:
        for run, no in rows:
            if self.get("children", (id_of(run), no)) is not None:
                self.put("children", (id_of(run), no), None)

    def _put_children(self, rows: Any, now: float, _: Any) -> None:
        for run, no, child, owner, by, wish, request in rows:
            old = self.get("children", (id_of(run), no))
            new = {"child": id_of(child), "wish": wish, "done": False, "ended": False, "wished_at": now}
            given = {"owner": owner, "started_by": by, "request": text_of(request)} if old is None else old
            self.put("children", (id_of(run), no), {**given, **new})

    def _put_children_begun(self, rows: Any, now: float, _: Any) -> None:
        for (child,) in rows:
            self._expect(self._children(id_of(child), ("start", "retry"), done=True), "parents that wait")

    def _put_children_ended(self, rows: Any, now: float, _: Any) -> None:
        for (child,) in rows:
            self._children(id_of(child), ("start", "retry"), ended=True)

    def _children(self, child: UUID, wishes: tuple[str, ...], **changes: Any) -> list[bool]:
        """Change the rows of a child's parents that wish one of these; [False] when there is none."""
        found = [
            key for key in list(self.rows["children"])
            if (row := self.get("children", key)) is not None and row["child"] == child and row["wish"] in wishes
        ]  # fmt: skip
        return [self.change("children", key, **changes) for key in found] or [False]

    def _put_snapshots(self, rows: Any, now: float, _: Any) -> None:
        for run, id_, seq, kind, name, state in rows:
            new = {"seq": seq, "kind": kind, "name": name, "state": text_of(state)}
            self._insert("snapshots", (id_of(run), id_of(id_)), new)

    def _put_events(self, rows: Any, now: float, _: Any) -> None:
        for run, seq, type_, actor, reason, data in rows:
            new = {"type": type_, "actor": actor, "reason": reason, "data": text_of(data), "at": now}
            self._insert("events", (id_of(run), seq), new)

    def _put_outbox(self, rows: Any, now: float, _: Any) -> None:
        for _owner, run, first, last in rows:
            self._insert("outbox", (id_of(run), first), {"last": last})
