"""Reading a snapshot back, for going back to it."""

from __future__ import annotations

from uuid import UUID

import msgspec
from wfe_engine.rewind import container_key, kept_steps
from wfe_engine.state import RunState, decode_state
from wfe_engine.values import Record

from wfe_store.load import load_inputs, load_records
from wfe_store.load_gates import load_asked
from wfe_store.pool import Connection


class SnapshotState(msgspec.Struct, kw_only=True):
    """A snapshot to go back to.

    Attributes:
        void: A rollback went behind it; what it stands on is undone.
        records: Steps that had finished by then and that expressions can still see, by `record_key`.
        inputs: Recorded inputs of its steps with blocks, by `container_key`.
        asked: The newest gate of each approval step of the run, by `asked_key`.
    """

    id: UUID
    seq: int
    state: RunState
    void: bool
    records: dict[str, Record]
    inputs: dict[str, bytes]
    asked: dict[str, str]


async def load_snapshot(connection: Connection, owner: UUID, run: UUID, snapshot: UUID) -> SnapshotState | None:
    """A snapshot of an owner's run; None when there is none.

    Raises:
        psycopg.Error: The store cannot be read.
    """
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
    records = await load_records(connection, run, row[1], state.scopes)
    wanted = {step.no: container_key(scope, index) for scope, index, step in kept_steps(state.scopes)}
    found = await load_inputs(connection, run, list(wanted)) if wanted else {}
    inputs = {wanted[no]: given for no, given in found.items()}
    return SnapshotState(
        id=row[0],
        seq=row[1],
        state=state,
        void=row[3],
        records=records,
        inputs=inputs,
        asked=await load_asked(connection, run),
    )
