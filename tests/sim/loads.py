"""Reading runs back from the simulated store, for deciding: `wfe_store.load` and its kin."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from wfe_engine.commands import Note
from wfe_engine.plan import Block
from wfe_engine.rewind import container_key, kept_steps
from wfe_engine.scopes import UNDO
from wfe_engine.state import ENDED, Scope, decode_state
from wfe_engine.values import Record, asked_key, record_key
from wfe_store import load
from wfe_store.load import StoredEvent
from wfe_store.load_gates import ToldGate
from wfe_store.load_snapshot import SnapshotState

from tests.sim.store import Connection
from tests.sim.tables import Tables, as_of


async def load_runs(connection: Connection, ids: Any) -> dict[UUID, load.LoadedRun]:
    """`wfe_store.load.load_runs`, with its own reading of the rows."""
    return await connection.do(lambda tables, _: _load_runs(tables, list(ids)))


def _load_runs(tables: Tables, wanted: list[UUID]) -> dict[UUID, load.LoadedRun]:
    loaded, steps = {}, []
    for id_ in wanted:
        row = tables["runs"].get(id_)
        if row is None:
            continue
        start_at = None if row["start_at"] is None else _moment(row["start_at"])
        run = loaded[id_] = load._run((
            id_, row["owner"], row["template"], row["template_name"], row["template_version"], row["version"],
            row["state"], row["input"], row["labels"], row["created_by"], _moment(row["created_at"]),
            row["parent_run"] is not None, start_at,
        ))  # fmt: skip
        prefixes = tuple(load._prefixes(run.state.scopes))
        for key in sorted(tables.of_run("steps", id_)):
            s = tables["steps"][key]
            if s["status"] != "rolled_back" and (s["scope"] == "" or s["scope"].startswith(prefixes)):
                given = s["input"] if s["status"] not in ("completed", "skipped") else None
                gate = None if s["gate"] is None else str(s["gate"])
                steps.append((
                    *key, s["path"], s["scope"], s["status"], given, s["output"], s["error"], s["attempts"], gate,
                ))  # fmt: skip
        for letter in run.state.mail:
            run.signals[letter.id] = tables["signals"][id_, UUID(letter.id)]["payload"].encode()
        if run.state.status in ENDED:
            gone = (g for g in tables["gates"].values() if g["run"] == id_ and g["status"] == "withdrawn")
            run.withdrawn = frozenset(str(gate["id"]) for gate in gone)
        target = run.state.returning
        if run.state.rollbacks or target is not None:
            run.asked = _asked(tables, id_)
        if target is not None:
            run.then = _records(tables, id_, target.seq, target.scopes)
    return load._complete(loaded, steps, {})


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _asked(tables: Tables, run: UUID) -> dict[str, str]:
    gates = [gate for gate in tables["gates"].values() if gate["run"] == run]
    gates.sort(key=lambda gate: (gate["created_at"], gate["id"]))
    return {asked_key(gate["path"], gate["iteration"]): str(gate["id"]) for gate in gates}


def _records(tables: Tables, run: UUID, seq: int, scopes: dict[str, Scope]) -> dict[str, Record]:
    prefixes = tuple(load._prefixes(scopes))
    live = {step.no for scope in scopes.values() for step in scope.live.values()}
    found = {}
    for key in sorted(tables.of_run("steps", run)):
        s = tables["steps"][key]
        status = as_of(s, seq)
        if status is None or key[1] in live or not (s["scope"] == "" or s["scope"].startswith(prefixes)):
            continue
        record = load._record(run, status, s["output"], s["error"], s["attempts"], {})
        found[record_key(s["scope"], s["path"].rpartition("/")[2])] = record
    return found


async def load_event(connection: Connection, run: UUID, seq: int) -> StoredEvent | None:
    def work(tables: Tables, _: float) -> StoredEvent | None:
        row = tables["events"].get((run, seq))
        return None if row is None else StoredEvent(**row)

    return await connection.do(work)


async def load_told_gates(connection: Connection, ids: Any) -> list[ToldGate]:
    return await connection.do(lambda tables, _: _told(tables, lambda gate: gate["id"] in ids))


async def load_untold_gates(connection: Connection, run: UUID) -> list[ToldGate]:
    return await connection.do(lambda tables, _: _told(tables, lambda gate: gate["run"] == run))


def _told(tables: Tables, wanted: Callable[[Any], bool]) -> list[ToldGate]:
    found = []
    for g in sorted(tables["gates"].values(), key=lambda gate: gate["decided_at"] or 1e18):
        if not wanted(g):
            continue
        notes = tuple(
            Note(n=n, type=note["type"], by=note["actor"], at=note["at"], data=note["data"])
            for (gate, n), note in sorted(tables["gate_notes"].items())
            if gate == g["id"] and note["told_at"] is None
        )
        outcome = g["outcome"] if g["told_at"] is None else None
        if outcome is None and not notes:
            continue
        found.append(
            ToldGate(
                gate=g["id"], run=g["run"], outcome=outcome, expired=g["status"] == "expired",
                decided_by=g["decided_by"], comment="again" if g["outcome"] == "revise" else "",
                branch=g["branch"] if g["outcome"] == "branch" else "",
                reason_code="", via=g["via"], digest=g["digest"], payload=None, form=None, votes=[], notes=notes,
            )
        )  # fmt: skip
    return found


async def load_keys(connection: Connection, keys: Any) -> dict[Any, tuple[bytes, UUID]]:
    def work(tables: Tables, _: float) -> Any:
        return {k: (tables["keys"][k]["hash"], tables["keys"][k]["run"]) for k in keys if k in tables["keys"]}

    return await connection.do(work)


async def known_signals(connection: Connection, wanted: Any) -> dict[Any, bool]:
    return await connection.do(lambda tables, _: {w: True for w in wanted if w[1:] in tables["signals"]})


async def steps_within(connection: Connection, run: UUID, indexes: frozenset[int], root: Block) -> list[int]:
    at = {node.path: node.index for node in root.nodes}

    def is_in(step: Any) -> bool:
        scope, path = step["scope"], step["path"]
        index = int(scope.partition("/")[0]) if scope and scope != UNDO else at.get(path)
        return index is None or index in indexes or step["status"] not in ("completed", "skipped", "failed")

    return await connection.do(
        lambda tables, _: [key[1] for key in tables.of_run("steps", run) if is_in(tables["steps"][key])]
    )


async def load_snapshot(connection: Connection, owner: UUID, run: UUID, snapshot: UUID) -> SnapshotState | None:
    def work(tables: Tables, _: float) -> SnapshotState | None:
        row = tables["snapshots"].get((run, snapshot))
        if row is None:
            return None
        void = any(
            key[1] > row["seq"]
            and tables["events"][key]["type"] == "run.rolled_back"
            and msgspec.json.decode(tables["events"][key]["data"])["to_seq"] < row["seq"]
            for key in tables.of_run("events", run)
        )
        state = decode_state(row["state"])
        given = {no: (tables["steps"].get((run, no)) or {}).get("input") for _, _, no in _kept(state.scopes)}
        return SnapshotState(
            id=snapshot, seq=row["seq"], state=state, void=void,
            records=_records(tables, run, row["seq"], state.scopes),
            inputs={
                container_key(scope, index): text.encode()
                for scope, index, no in _kept(state.scopes) if (text := given[no]) is not None
            },
            asked=_asked(tables, run),
        )  # fmt: skip

    return await connection.do(work)


def _kept(scopes: dict[str, Scope]) -> list[tuple[str, int, int]]:
    return [(scope, index, step.no) for scope, index, step in kept_steps(scopes)]
