"""Runs that runs wait for: what is wanted of them, and telling parents of their end."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec.structs import replace

from wfe_store.blobs import load_blobs, referred
from wfe_store.pool import Connection


class Wish(msgspec.Struct, frozen=True):
    """What a step wants of its child run.

    Attributes:
        run, no: Parent and step.
        child: The child run's id.
        wish: start, retry, cancel or terminate.
        request: JSON of what to start it with.
        started_by: Principal behind the parent.
    """

    run: UUID
    no: int
    child: UUID
    wish: str
    request: str
    owner: UUID
    started_by: UUID


class Ended(msgspec.Struct, frozen=True):
    """A child run that has ended and whose parent waits for it; error is JSON text of a fault."""

    run: UUID
    no: int
    child: UUID
    status: str
    reason: str
    output: str | None
    error: str | None


_WISHES = "SELECT run_id, no, child_id, wish, request, owner_id, started_by FROM children"
_ENDED = """
SELECT c.run_id, c.no, c.child_id, r.status, r.reason, r.output, r.error
FROM children c JOIN runs r ON r.id = c.child_id WHERE c.ended AND r.ended_at IS NOT NULL
"""


async def overdue_wishes(connection: Connection, seconds: float, limit: int = 500) -> list[Wish]:
    """Wishes that were not carried out for so long: whoever should have done it is gone."""
    cursor = await connection.execute(
        _WISHES + " WHERE NOT done AND wished_at < clock_timestamp() - make_interval(secs => %s) LIMIT %s",
        (seconds, limit),
    )
    wishes = [Wish(*row) for row in await cursor.fetchall()]
    large = await _large(connection, [(wish.run, wish.request) for wish in wishes])
    return [replace(wish, request=large.get((wish.run, wish.request), wish.request)) for wish in wishes]


async def carried_out(connection: Connection, wish: Wish) -> None:
    """A wish is done. What was started or retried is still waited for; the rest is over."""
    await connection.execute(
        "DELETE FROM children WHERE run_id = %s AND no = %s AND child_id = %s AND wish = %s"
        " AND wish IN ('cancel', 'terminate')",
        (wish.run, wish.no, wish.child, wish.wish),
    )
    await connection.execute(
        "UPDATE children SET done = true WHERE run_id = %s AND no = %s AND child_id = %s AND wish = %s AND NOT done",
        (wish.run, wish.no, wish.child, wish.wish),
    )


async def ended_children(connection: Connection, children: Sequence[UUID] | None, limit: int = 500) -> list[Ended]:
    """Children that have ended and whose parents were not told; of these, or any when None."""
    if children is None:
        cursor = await connection.execute(_ENDED + " LIMIT %s", (limit,))
    else:
        cursor = await connection.execute(_ENDED + " AND c.child_id = ANY(%b::uuid[])", (list(children),))
    ended = [Ended(*row) for row in await cursor.fetchall()]
    large = await _large(connection, [(end.child, end.output) for end in ended if end.output is not None])
    return [replace(end, output=large.get((end.child, end.output or ""), end.output)) for end in ended]


async def _large(connection: Connection, texts: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], str]:
    """Values by run and the reference that stands for them; texts that are none are left out."""
    wanted = {(run, text): (run, blob[0]) for run, text in texts if (blob := referred(text)) is not None}
    found = await load_blobs(connection, wanted.values()) if wanted else {}
    return {place: found[blob].decode() for place, blob in wanted.items() if blob in found}


async def note_end(connection: Connection, child: UUID) -> None:
    """Let a parent be told of a child that had ended before it was asked for again."""
    await connection.execute(
        "UPDATE children c SET ended = true FROM runs r WHERE c.child_id = %s AND r.id = c.child_id"
        " AND r.ended_at IS NOT NULL AND c.wish IN ('start', 'retry')",
        (child,),
    )
