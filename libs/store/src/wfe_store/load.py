"""Reading runs back for deciding: state, facts, and what their expressions can see."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from wfe_engine.plan import CONTAINERS
from wfe_engine.scopes import ROOT, step_prefix
from wfe_engine.state import RunState, decode_state
from wfe_engine.values import Record, record_key

from wfe_store.pool import Connection


class LoadedSteps(msgspec.Struct, kw_only=True):
    """What expressions see of a run's steps.

    Attributes:
        records: Its finished steps that expressions can still see, by `record_key`.
        inputs: Recorded inputs of the steps that have not completed, by number.
        gates: The last gate of such steps.
    """

    records: dict[str, Record]
    inputs: dict[int, bytes]
    gates: dict[int, str]


class LoadedRun(LoadedSteps, kw_only=True):
    """A run as the store has it.

    Attributes:
        input: Values of its variables, sealed ones as placeholders.
    """

    run: UUID
    owner: UUID
    template: UUID
    template_name: str
    template_version: int
    version: int
    state_text: str
    state: RunState
    input: dict[str, Any]
    labels: dict[str, str]
    created_by: UUID
    created_at: datetime


_RUNS = """
SELECT id, owner_id, template_id, template_name, template_version, version, state, input, labels::text, created_by,
    created_at
FROM runs WHERE id = ANY(%b::uuid[])
"""
_STEP_COLUMNS = """
SELECT s.run_id, s.no, s.path, s.scope, s.status,
    CASE WHEN s.status NOT IN ('completed', 'skipped') THEN s.input END, s.output, s.error, s.attempts, s.gate_id::text
FROM steps s
"""
_STEPS = (
    _STEP_COLUMNS
    + "WHERE s.run_id = ANY(%b::uuid[]) AND s.scope = '' AND s.status <> 'rolled_back' ORDER BY s.run_id, s.no"
)
#: Steps inside of steps that are live; what ended with its step is behind that step's output.
_INNER_STEPS = (
    _STEP_COLUMNS
    + """
JOIN unnest(%b::uuid[], %b::text[]) AS d (run_id, prefix) ON s.run_id = d.run_id AND starts_with(s.scope, d.prefix)
WHERE s.status <> 'rolled_back' ORDER BY s.run_id, s.no
"""
)
_decode = msgspec.json.decode


async def load_runs(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, LoadedRun]:
    """The runs of these ids that exist, in one consistent read.

    Raises:
        psycopg.Error: The store cannot be read.
    """
    wanted = list(ids)
    async with connection.transaction():
        # Both statements must see one moment: a step completed in between would be missing from a newer state.
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        async with connection.pipeline():
            runs_cursor = await connection.execute(_RUNS, (wanted,))
            steps_cursor = await connection.execute(_STEPS, (wanted,))
        loaded = {row[0]: _run(row) for row in await runs_cursor.fetchall()}
        steps = await steps_cursor.fetchall()
        inner = [(run.run, prefix) for run in loaded.values() for prefix in _prefixes(run.state)]
        if inner:
            cursor = await connection.execute(_INNER_STEPS, ([run for run, _ in inner], [p for _, p in inner]))
            steps += await cursor.fetchall()
    live = {run.run: {step.no for _, _, step in run.state.steps()} for run in loaded.values()}
    for row in steps:
        if row[0] in loaded:
            _take(loaded[row[0]], live[row[0]], *row[1:])
    return loaded


def _prefixes(state: RunState) -> list[str]:
    """Of the scopes inside of the outermost live steps with blocks; those hold all others."""
    root = state.scopes.get(ROOT)
    return [] if root is None else [step_prefix(ROOT, i) for i, step in root.live.items() if step.kind in CONTAINERS]


def _take(
    run: LoadedSteps, live: set[int], no: int, path: str, scope: str, status: str, given: str | None,
    output: str | None, error: str | None, attempts: int, gate: str | None,
) -> None:  # fmt: skip
    if no not in live:
        run.records[record_key(scope, path.rpartition("/")[2])] = Record(
            status=status,
            output=None if output is None else output.encode(),
            attempts=attempts,
            error=None if error is None else error.encode(),
        )
        return
    if given is not None:
        run.inputs[no] = given.encode()
    if gate is not None:
        run.gates[no] = gate


def _run(row: tuple[Any, ...]) -> LoadedRun:
    return LoadedRun(
        run=row[0],
        owner=row[1],
        template=row[2],
        template_name=row[3],
        template_version=row[4],
        version=row[5],
        state_text=row[6],
        state=decode_state(row[6]),
        input=_decode(row[7]),
        labels=_decode(row[8]),
        created_by=row[9],
        created_at=row[10],
        records={},
        inputs={},
        gates={},
    )


class SnapshotState(msgspec.Struct, kw_only=True):
    """A snapshot to go back to.

    Attributes:
        void: A rollback went behind it; what it stands on is undone.
        records: Steps that had finished by then and that expressions can still see, by `record_key`.
    """

    id: UUID
    seq: int
    state: RunState
    void: bool
    records: dict[str, Record]


_RECORDS = """
SELECT s.no, s.path, s.scope, CASE WHEN s.undone_seq > %(seq)s THEN s.undone_status ELSE s.status END, s.output,
    s.error, s.attempts
FROM steps s WHERE s.run_id = %(run)s AND s.seq <= %(seq)s AND (s.status <> 'rolled_back' OR s.undone_seq > %(seq)s)
    AND (s.scope = '' OR EXISTS (SELECT 1 FROM unnest(%(prefixes)s::text[]) AS p WHERE starts_with(s.scope, p)))
ORDER BY s.no
"""


async def load_snapshot(connection: Connection, owner: UUID, run: UUID, snapshot: UUID) -> SnapshotState | None:
    """A snapshot of an owner's run; None when there is none."""
    cursor = await connection.execute(
        """
        SELECT s.id, s.seq, s.state, EXISTS (
            SELECT 1 FROM events e WHERE e.run_id = s.run_id AND e.seq > s.seq AND e.type = 'run.rolled_back'
                AND (e.data::json ->> 'to_seq')::int < s.seq)
        FROM snapshots s JOIN runs r ON r.id = s.run_id
        WHERE s.run_id = %s AND s.id = %s AND r.owner_id = %s
        """,
        (run, snapshot, owner),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    state = decode_state(row[2])
    given = {"run": run, "seq": row[1], "prefixes": _prefixes(state)}
    cursor = await connection.execute(_RECORDS, given)
    then = LoadedSteps(records={}, inputs={}, gates={})
    live = {step.no for _, _, step in state.steps()}
    for no, path, scope, status, output, error, attempts in await cursor.fetchall():
        if no not in live:
            _take(then, live, no, path, scope, status, None, output, error, attempts, None)
    return SnapshotState(id=row[0], seq=row[1], state=state, void=row[3], records=then.records)


async def load_inputs(connection: Connection, run: UUID, numbers: Sequence[int]) -> dict[int, bytes]:
    """Recorded inputs of steps of a run, by number."""
    cursor = await connection.execute(
        "SELECT no, input FROM steps WHERE run_id = %s AND no = ANY(%b::int[]) AND input IS NOT NULL",
        (run, list(numbers)),
    )
    return {row[0]: row[1].encode() for row in await cursor.fetchall()}


async def load_keys(
    connection: Connection, keys: Sequence[tuple[UUID, str]]
) -> dict[tuple[UUID, str], tuple[bytes, UUID]]:
    """Hash and run of the Idempotency-Keys that are known, by (owner, key)."""
    cursor = await connection.execute(
        "SELECT i.owner_id, i.key, i.request_hash, i.run_id FROM unnest(%b::uuid[], %b::text[]) AS d (owner_id, key)"
        " JOIN idempotency i ON i.owner_id = d.owner_id AND i.key = d.key",
        ([owner for owner, _ in keys], [key for _, key in keys]),
    )
    return {(row[0], row[1]): (row[2], row[3]) for row in await cursor.fetchall()}


async def load_sealed(connection: Connection, run: UUID, no: int, fence: int) -> dict[str, bytes] | None:
    """Ciphertexts of a run by variable; None when the lease is not held under that fence."""
    cursor = await connection.execute(
        "SELECT 1 FROM dispatch WHERE run_id = %s AND no = %s AND fence = %s AND executor_id IS NOT NULL",
        (run, no, fence),
    )
    if await cursor.fetchone() is None:
        return None
    cursor = await connection.execute("SELECT name, ciphertext FROM sealed_values WHERE run_id = %s", (run,))
    return {name: bytes(value) for name, value in await cursor.fetchall()}


async def load_request(connection: Connection, run: UUID, no: int, fence: int) -> bytes | None:
    """The request of a lease; None when it is not held under that fence."""
    cursor = await connection.execute(
        "SELECT request FROM dispatch WHERE run_id = %s AND no = %s AND fence = %s AND executor_id IS NOT NULL",
        (run, no, fence),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0].encode()
