"""Reading runs back for deciding: state, facts, and what their expressions can see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from wfe_engine.plan import CONTAINERS, Block
from wfe_engine.scopes import ROOT, UNDO, step_prefix
from wfe_engine.state import ENDED, RunState, Scope, decode_state
from wfe_engine.values import Record, record_key

from wfe_store.blobs import StoredBytes, load_blob, load_blobs, read_range, referred
from wfe_store.load_gates import load_asked, load_withdrawn
from wfe_store.pool import Connection, Row


class LoadedRun(msgspec.Struct, kw_only=True):
    """A run as the store has it.

    Attributes:
        input: Values of its variables, sealed ones as placeholders.
        records: Its finished steps that expressions can still see, by `record_key`.
        inputs: Recorded inputs of the steps that have not completed, by number.
        gates: The last gate of such steps.
        signals: Payloads of the signals no step has taken yet, by id.
        is_child: Another run waits for its end.
        withdrawn: Of a run that has ended, the gates that were withdrawn.
        asked: Of a run that went back or is about to, the last gate of each approval step by `asked_key`.
        then: Of a run that is on its way back to a snapshot, the records as of that snapshot; None otherwise.
        start_at: Moment it was to start at, as its start said; None for at once.
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
    records: dict[str, Record]
    inputs: dict[int, bytes]
    gates: dict[int, str]
    signals: dict[str, bytes]
    is_child: bool
    start_at: datetime | None
    withdrawn: frozenset[str] = frozenset()
    asked: dict[str, str] = {}
    then: dict[str, Record] | None = None


_RUNS = """
SELECT id, owner_id, template_id, template_name, template_version, version, state, input, labels::text, created_by,
    created_at, parent_run IS NOT NULL, start_at
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
_SIGNALS = """
SELECT s.run_id, s.id, s.payload FROM unnest(%b::uuid[], %b::uuid[]) AS d (run_id, id)
JOIN signals s ON s.run_id = d.run_id AND s.id = d.id
"""
#: Finished steps as they were at a moment: what a gate sent back later had not been.
_RECORDS = """
SELECT s.no, s.path, s.scope, CASE WHEN s.undone_seq > %(seq)s THEN s.undone_status ELSE s.status END, s.output,
    s.error, s.attempts
FROM steps s WHERE s.run_id = %(run)s AND s.seq <= %(seq)s
    AND (s.status NOT IN ('rolled_back', 'pending')
        OR s.undone_seq > %(seq)s)
    AND (s.scope = '' OR EXISTS (SELECT 1 FROM unnest(%(prefixes)s::text[]) AS p WHERE starts_with(s.scope, p)))
ORDER BY s.no
"""
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_decode = msgspec.json.decode


async def load_runs(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, LoadedRun]:
    """The runs of these ids that exist, in one consistent read.

    Raises:
        psycopg.Error: The store cannot be read.
    """
    wanted = list(ids)
    # All statements must see one moment: a step completed in between would be missing from a newer state.
    async with connection.pipeline():
        await connection.execute(_BEGIN)
        runs_cursor = await connection.execute(_RUNS, (wanted,))
        steps_cursor = await connection.execute(_STEPS, (wanted,))
        await connection.execute("COMMIT")
    rows = await runs_cursor.fetchall()
    loaded = {row[0]: _run(row) for row in rows}
    steps = await steps_cursor.fetchall()
    if _inputs(rows) or _references(steps) or any(_leads_on(run.state) for run in loaded.values()):
        return await _load_whole(connection, wanted)
    return _complete(loaded, steps, {})


async def _load_whole(connection: Connection, wanted: list[UUID]) -> dict[UUID, LoadedRun]:
    """The same with what the rows lead to: steps inside of steps, signals, and large values."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        rows = await (await connection.execute(_RUNS, (wanted,))).fetchall()
        loaded = {row[0]: _run(row) for row in rows}
        steps = await (await connection.execute(_STEPS, (wanted,))).fetchall()
        inner = [(run.run, prefix) for run in loaded.values() for prefix in _prefixes(run.state.scopes)]
        if inner:
            cursor = await connection.execute(_INNER_STEPS, ([run for run, _ in inner], [p for _, p in inner]))
            steps += await cursor.fetchall()
        letters: list[Row] = []
        mail = [(run.run, letter.id) for run in loaded.values() for letter in run.state.mail]
        if mail:
            cursor = await connection.execute(_SIGNALS, ([run for run, _ in mail], [UUID(id_) for _, id_ in mail]))
            letters = await cursor.fetchall()
        inputs = _inputs(rows)
        references = [*inputs, *_references(steps)]
        references += [(run, found[0]) for run, _, payload in letters if (found := referred(payload)) is not None]
        large = await load_blobs(connection, references) if references else {}
        for run, id_, payload in letters:
            loaded[run].signals[str(id_)] = _value(run, payload, large) or b"null"
        for loaded_run in loaded.values():
            if loaded_run.state.status in ENDED:
                loaded_run.withdrawn = await load_withdrawn(connection, loaded_run.run)
            target = loaded_run.state.returning
            if loaded_run.state.rollbacks or target is not None:
                loaded_run.asked = await load_asked(connection, loaded_run.run)
            if target is not None:
                loaded_run.then = await load_records(connection, loaded_run.run, target.seq, target.scopes)
    for run, blob in inputs:
        loaded[run].input = _decode(large[run, blob])
    return _complete(loaded, steps, large)


async def load_records(connection: Connection, run: UUID, seq: int, scopes: Mapping[str, Scope]) -> dict[str, Record]:
    """Finished steps as expressions saw them at a moment of a run, by `record_key`.

    Args:
        seq: The newest event then.
        scopes: What was active then.
    """
    cursor = await connection.execute(_RECORDS, {"run": run, "seq": seq, "prefixes": _prefixes(scopes)})
    live = {step.no for scope in scopes.values() for step in scope.live.values()}
    rows = [row for row in await cursor.fetchall() if row[0] not in live]
    wanted = [(run, blob[0]) for row in rows if row[4] is not None and (blob := referred(row[4])) is not None]
    large = await load_blobs(connection, wanted) if wanted else {}
    return {
        record_key(scope, path.rpartition("/")[2]): _record(run, status, output, error, attempts, large)
        for _, path, scope, status, output, error, attempts in rows
    }


def _complete(
    loaded: dict[UUID, LoadedRun], steps: list[Row], large: dict[tuple[UUID, UUID], bytes]
) -> dict[UUID, LoadedRun]:
    """Give the runs their steps."""
    live = {run.run: {step.no for _, _, step in run.state.steps()} for run in loaded.values()}
    for row in steps:
        if row[0] in loaded:
            _take(loaded[row[0]], live[row[0]], large, *row[1:])
    return loaded


def _leads_on(state: RunState) -> bool:
    """Whether deciding needs more than the rows of the root's steps."""
    went_back = state.rollbacks or state.returning is not None
    return bool(state.mail or went_back or state.status in ENDED or _prefixes(state.scopes))


def _prefixes(scopes: Mapping[str, Scope]) -> list[str]:
    """Of the scopes inside of the outermost live steps with blocks; those hold all others."""
    root = scopes.get(ROOT)
    return [] if root is None else [step_prefix(ROOT, i) for i, step in root.live.items() if step.kind in CONTAINERS]


def _take(
    run: LoadedRun, live: set[int], large: dict[tuple[UUID, UUID], bytes], no: int, path: str, scope: str,
    status: str, given: str | None, output: str | None,
    error: str | None, attempts: int, gate: str | None,
) -> None:  # fmt: skip
    if no not in live:
        run.records[record_key(scope, path.rpartition("/")[2])] = _record(
            run.run, status, output, error, attempts, large
        )
        return
    if given is not None:
        run.inputs[no] = _value(run.run, given, large) or b"null"
    if gate is not None:
        run.gates[no] = gate


def _record(
    run: UUID, status: str, output: str | None, error: str | None, attempts: int, large: dict[tuple[UUID, UUID], bytes]
) -> Record:
    return Record(
        status=status,
        output=_value(run, output, large),
        attempts=attempts,
        error=None if error is None else error.encode(),
    )


def _inputs(rows: Sequence[Row]) -> list[tuple[UUID, UUID]]:
    """Inputs of runs that are kept out of line."""
    return [(row[0], blob[0]) for row in rows if (blob := referred(row[7])) is not None]


def _references(steps: Sequence[tuple[Any, ...]]) -> list[tuple[UUID, UUID]]:
    """What of the rows of `_STEPS` is kept out of line and needed: outputs of those that ended, else inputs."""
    found = []
    for run, _, _, _, status, given, output, *_ in steps:
        text = output if status in ("completed", "skipped") else given
        blob = referred(text) if text is not None else None
        if blob is not None:
            found.append((run, blob[0]))
    return found


def _value(run: UUID, text: str | None, large: dict[tuple[UUID, UUID], bytes]) -> bytes | None:
    if text is None:
        return None
    blob = referred(text)
    if blob is None:
        return text.encode()
    return StoredBytes.of(large.get((run, blob[0]), b"null"), blob[0])


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
        signals={},
        is_child=row[11],
        start_at=row[12],
    )


async def load_inputs(connection: Connection, run: UUID, numbers: Sequence[int]) -> dict[int, bytes]:
    """Recorded inputs of steps of a run, by number."""
    cursor = await connection.execute(
        "SELECT no, input FROM steps WHERE run_id = %s AND no = ANY(%b::int[]) AND input IS NOT NULL",
        (run, list(numbers)),
    )
    rows = await cursor.fetchall()
    wanted = [(run, blob[0]) for _, text in rows if (blob := referred(text)) is not None]
    large = await load_blobs(connection, wanted) if wanted else {}
    return {no: _value(run, text, large) or b"null" for no, text in rows}


async def steps_within(connection: Connection, run: UUID, indexes: frozenset[int], root: Block) -> list[int]:
    """Numbers of the steps of a run at these places of its root scope, of those inside them, and of live ones."""
    cursor = await connection.execute("SELECT no, path, scope, status FROM steps WHERE run_id = %s", (run,))
    at = {node.path: node.index for node in root.nodes}
    found = []
    for no, path, scope, status in await cursor.fetchall():
        index = int(scope.partition("/")[0]) if scope and scope != UNDO else at.get(path)
        if index is None or index in indexes or status not in ("completed", "skipped", "failed"):
            found.append(no)
    return found


async def known_signals(
    connection: Connection, wanted: Sequence[tuple[UUID, UUID, UUID]]
) -> dict[tuple[UUID, UUID, UUID], bool]:
    """Those of these signals, by owner, run and id, that the owner's runs have got."""
    owners, runs, signals = [list(column) for column in zip(*wanted, strict=True)]
    cursor = await connection.execute(
        "SELECT d.* FROM unnest(%b::uuid[], %b::uuid[], %b::uuid[]) AS d (owner_id, run_id, id)"
        " JOIN signals s ON s.run_id = d.run_id AND s.id = d.id"
        " JOIN runs r ON r.id = d.run_id AND r.owner_id = d.owner_id",
        (owners, runs, signals),
    )
    return {(row[0], row[1], row[2]): True for row in await cursor.fetchall()}


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


class Sealed(msgspec.Struct, kw_only=True):
    """What a lease's sealed request may need.

    Attributes:
        owner, template, template_version: Of its run.
        request: JSON bytes.
        values: What is stored of the run's sensitive variables, by name.
    """

    owner: UUID
    template: UUID
    template_version: int
    request: bytes
    values: dict[str, bytes]


async def load_sealed_values(connection: Connection, run: UUID) -> dict[str, bytes]:
    """What is stored of a run's sensitive variables, by name."""
    cursor = await connection.execute("SELECT name, ciphertext FROM sealed_values WHERE run_id = %s", (run,))
    return {name: bytes(value) for name, value in await cursor.fetchall()}


async def load_sealed(connection: Connection, run: UUID, no: int, fence: int) -> Sealed | None:
    """What a lease may have unsealed; None when it is not held under that fence."""
    cursor = await connection.execute(
        "SELECT d.owner_id, r.template_id, r.template_version, d.request FROM dispatch d JOIN runs r ON r.id = d.run_id"
        " WHERE d.run_id = %s AND d.no = %s AND d.fence = %s AND d.executor_id IS NOT NULL",
        (run, no, fence),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    values = await load_sealed_values(connection, run)
    blob = referred(row[3])
    request = row[3].encode() if blob is None else await load_blob(connection, run, *blob) or b"null"
    return Sealed(owner=row[0], template=row[1], template_version=row[2], request=request, values=values)


async def load_request(
    connection: Connection, run: UUID, no: int, fence: int, offset: int, length: int
) -> tuple[bytes, int] | None:
    """Bytes of a lease's request from an offset, and its whole length; None when it is not held under that fence."""
    cursor = await connection.execute(
        "SELECT request FROM dispatch WHERE run_id = %s AND no = %s AND fence = %s AND executor_id IS NOT NULL",
        (run, no, fence),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    blob = referred(row[0])
    if blob is not None:
        return await read_range(connection, run, blob[0], offset, length), blob[1]
    request = row[0].encode()
    return request[offset : offset + length], len(request)


class StoredEvent(msgspec.Struct, frozen=True):
    """An event as the store has it; `at` in Unix seconds, `data` is JSON text."""

    type: str
    actor: str
    reason: str
    data: str
    at: float


async def load_event(connection: Connection, run: UUID, seq: int) -> StoredEvent | None:
    """One event of a run; None when there is none of that seq."""
    cursor = await connection.execute(
        "SELECT type, actor, reason, data, extract(epoch FROM at)::float8 FROM events WHERE run_id = %s AND seq = %s",
        (run, seq),
    )
    row = await cursor.fetchone()
    return None if row is None else StoredEvent(*row)
