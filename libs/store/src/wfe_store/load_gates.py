"""What happened at gates and their runs have not been told of: decisions, with the votes, and notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from wfe_engine.commands import Note
from wfe_engine.values import asked_key

from wfe_store.blobs import load_blobs, referred
from wfe_store.pool import Connection


class ToldGate(msgspec.Struct, frozen=True, kw_only=True):
    """A gate, for telling its run.

    Attributes:
        outcome: None while it is open: then there are only notes.
        payload: JSON bytes of the payload as edited; None when it was not.
        form: JSON bytes of what the deciding vote filled in; None without.
        votes: Everybody's; see `events.GateDecided`.
        notes: Those the run does not have yet, in order.
    """

    gate: UUID
    run: UUID
    outcome: str | None
    expired: bool
    decided_by: UUID | None
    comment: str
    branch: str
    reason_code: str
    via: str
    digest: str
    payload: bytes | None
    form: bytes | None
    votes: list[dict[str, Any]]
    notes: tuple[Note, ...]


_GATES = """
SELECT g.id, g.run_id, CASE WHEN g.told_at IS NULL THEN g.outcome END, g.status = 'expired', g.decided_by, g.comment,
    g.branch, g.reason_code, g.decided_via, g.digest, g.edited, g.form,
    CASE WHEN g.outcome IS NULL THEN '[]' ELSE (SELECT coalesce(json_agg(json_build_object('by', v.principal_id,
        'name', v.name, 'vote', v.vote, 'at', v.at, 'comment', v.comment, 'on_behalf_of', v.behalf_name,
        'groups', v.groups, 'roles', v.roles, 'via', v.via) ORDER BY v.at), '[]')
        FROM gate_votes v WHERE v.gate_id = g.id) END,
    (SELECT coalesce(json_agg(json_build_object('n', t.n, 'type', t.type, 'by', t.actor,
        'at', extract(epoch FROM t.at), 'reason', t.reason, 'data', t.data::json) ORDER BY t.n), '[]')
        FROM gate_notes t WHERE t.gate_id = g.id AND t.told_at IS NULL)
FROM gates g WHERE {where}
"""
_UNTOLD = """g.run_id = %b AND ((g.outcome IS NOT NULL AND g.told_at IS NULL)
    OR EXISTS (SELECT 1 FROM gate_notes t WHERE t.gate_id = g.id AND t.told_at IS NULL))
ORDER BY g.decided_at NULLS LAST"""
_notes = msgspec.json.Decoder(tuple[Note, ...])


async def load_told_gates(connection: Connection, ids: Sequence[UUID]) -> list[ToldGate]:
    """Those of these gates that something has happened at."""
    cursor = await connection.execute(_GATES.format(where="g.id = ANY(%b::uuid[])"), (list(ids),))
    return await _new(connection, await cursor.fetchall())


async def load_untold_gates(connection: Connection, run: UUID) -> list[ToldGate]:
    """Those of a run's gates, the oldest decision first."""
    cursor = await connection.execute(_GATES.format(where=_UNTOLD), (run,))
    return await _new(connection, await cursor.fetchall())


async def load_withdrawn(connection: Connection, run: UUID) -> frozenset[str]:
    """Gates of a run that were withdrawn and not asked anew since."""
    cursor = await connection.execute("SELECT id::text FROM gates WHERE run_id = %s AND status = 'withdrawn'", (run,))
    return frozenset(gate for (gate,) in await cursor.fetchall())


async def load_asked(connection: Connection, run: UUID) -> dict[str, str]:
    """The newest gate of every approval step of a run that has asked, by `asked_key`."""
    cursor = await connection.execute(
        "SELECT path, iteration, id::text FROM gates WHERE run_id = %s ORDER BY created_at, id", (run,)
    )
    return {asked_key(path, iteration): gate for path, iteration, gate in await cursor.fetchall()}


async def _new(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[ToldGate]:
    wanted = [(row[1], blob[0]) for row in rows for text in row[10:12] if text is not None and (blob := referred(text))]
    large = await load_blobs(connection, wanted) if wanted else {}
    found = [_gate(row, large) for row in rows]
    return [gate for gate in found if gate.outcome is not None or gate.notes]


def _value(run: UUID, text: str | None, large: dict[tuple[UUID, UUID], bytes]) -> bytes | None:
    if text is None:
        return None
    blob = referred(text)
    return text.encode() if blob is None else large[run, blob[0]]


def _gate(row: tuple[Any, ...], large: dict[tuple[UUID, UUID], bytes]) -> ToldGate:
    gate, run, outcome, expired, by, comment, branch, reason_code, via, digest, payload, form, votes, notes = row
    return ToldGate(
        gate=gate,
        run=run,
        outcome=outcome,
        expired=expired,
        decided_by=by,
        comment=comment,
        branch=branch,
        reason_code=reason_code,
        via=via,
        digest=digest,
        payload=_value(run, payload, large),
        form=_value(run, form, large),
        votes=[{k: v for k, v in vote.items() if v} for vote in msgspec.json.decode(votes)],
        notes=_notes.decode(notes),
    )
