"""What time does to gates: it opens them, reminds of them, hands them on to others, and takes the default decision.

An agenda is a list of [seconds after the one before, what, which]; `next_at` says when its first entry is due. A
pause of the run moves `next_at` alone, and with it all that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from wfe_store.gate import Decision
from wfe_store.gate_policy import Policy
from wfe_store.gate_rows import GateRows
from wfe_store.pool import Connection, fetch_all

# Not clock_timestamp(): it may differ from row to row, so no index is searched by it.
_DUE = "status = 'open' AND expires_at <= statement_timestamp() AND held_at IS NULL"
# Past its deadline nothing more is to be done at an open gate; a scheduled one must be open to expire.
_AGENDA = """
SELECT id, run_id, version, status, policy, level, agenda, next_at FROM gates
WHERE status IN ('open', 'scheduled') AND next_at <= statement_timestamp() AND held_at IS NULL
    AND (status = 'scheduled' OR coalesce(expires_at > clock_timestamp(), true))
ORDER BY next_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
_MOVE = """
UPDATE gates SET version = %(n)s, status = %(status)s, level = %(level)s, who = %(who)s, agenda = %(agenda)s,
    next_at = %(next_at)s
WHERE id = %(gate)s AND version = %(version)s AND status IN ('open', 'scheduled')
"""
_NOTE = """
INSERT INTO gate_notes (gate_id, n, run_id, type, actor, data)
VALUES (%(gate)s, %(n)s, %(run)s, %(type)s, 'timer', %(data)s)
"""


class GateTime(GateRows):
    """Gates, as time goes on."""

    async def expire_due(self, *, limit: int = 100) -> Sequence[Decision]:
        """Close open gates past their deadline with their default decision, at most `limit`.

        Locks the runs' rows, then the gates'. Runs somebody else has locked are left for the next time:
        whoever holds them may be deciding the gate. Gates of paused runs stand still.
        """

        async def work(connection: Connection) -> Sequence[Decision]:
            due = await fetch_all(
                connection,
                f"SELECT run_id, id FROM gates WHERE {_DUE} ORDER BY expires_at LIMIT %s",  # noqa: S608
                (limit,),
            )
            if not due:
                return ()
            locked = await fetch_all(
                connection,
                "SELECT id FROM runs WHERE id = ANY(%s) ORDER BY id FOR UPDATE SKIP LOCKED",
                (list({run_id for run_id, _ in due}),),
            )
            expired = await fetch_all(
                connection,
                "UPDATE gates SET status = 'expired', outcome = on_expiry, decided_at = clock_timestamp(),"  # noqa: S608
                " version = version + 1, decided_via = 'expiry', next_at = NULL"
                f" WHERE id = ANY(%s) AND run_id = ANY(%s) AND {_DUE} RETURNING run_id, id",
                ([gate_id for _, gate_id in due], [run_id for (run_id,) in locked]),
            )
            raised = await fetch_all(
                connection,
                "UPDATE runs SET version = version + 1 WHERE id = ANY(%s) RETURNING id, version",
                (list({run_id for run_id, _ in expired}),),
            )
            versions: dict[UUID, int] = dict(raised)
            return [Decision(run_id, gate_id, versions[run_id]) for run_id, gate_id in expired]

        return await self.database.transaction(work)

    async def do_agenda(self, *, limit: int = 100) -> Sequence[Decision]:
        """Do what is due at gates, one entry of each, at most `limit`. Gates somebody else has locked wait."""

        async def work(connection: Connection) -> Sequence[Decision]:
            rows = await fetch_all(connection, _AGENDA, (limit,))
            async with connection.pipeline():
                for row in rows:
                    values = _moved(*row)
                    await connection.execute(_MOVE, values)
                    await connection.execute(_NOTE, values)
            return [Decision(row[1], row[0], 0) for row in rows]

        return await self.database.transaction(work)


def _moved(
    gate: UUID, run: UUID, version: int, status: str, policy: str, level: int, agenda: str, next_at: Any
) -> dict[str, Any]:
    (_, what, which), *rest = msgspec.json.decode(agenda)
    data: dict[str, Any] = {}
    if what == "escalate":
        level = max(level, which + 1)
        data = {"level": level, "who": list(Policy.parse(policy).who(level))}
    elif which:
        data = {"after": which}
    if what == "open":
        status = "open"
    due = None if not rest else next_at + timedelta(seconds=rest[0][0])
    words = {"open": "opened", "remind": "reminded", "expire": "expiring", "escalate": "escalated"}
    return {
        "gate": gate, "run": run, "version": version, "n": version + 1, "status": status, "level": level,
        "who": list(Policy.parse(policy).who(level)), "agenda": msgspec.json.encode(rest).decode(), "next_at": due,
        "type": words[what], "data": msgspec.json.encode(data).decode(),
    }  # fmt: skip
